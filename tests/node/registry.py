"""A registry inside a node, and one-file images that tell which registry served them.

Every registry pushes an image of its own: the one file in it holds the registry's name, so the image's id differs, and
a test that pulled `docker.io/library/x` can say which mirror served it. The access log has each request and its `?ns=`.
"""

import gzip
import hashlib
import io
import json
import shlex
import tarfile
from dataclasses import dataclass, field

from tests.node.machine import Node
from tests.node.waiting import wait_until

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
START_DEADLINE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Image:
    """One image of one layer with one file, byte-identical whenever it is built from the same text."""

    layer: bytes
    config: bytes
    manifest: bytes

    @property
    def image_id(self) -> str:
        """The id by which CRI and Docker's classic store know it: the digest of the config."""
        return digest(self.config)

    @property
    def manifest_digest(self) -> str:
        return digest(self.manifest)


def image_of(text: str) -> Image:
    """An image whose only file, /from, holds `text`."""
    tar = _tar_of("from", text.encode())
    layer = gzip.compress(tar, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/from"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest(config)},
            "layers": [{"mediaType": LAYER_TYPE, "size": len(layer), "digest": digest(layer)}],
        }
    ).encode()
    return Image(layer, config, manifest)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(slots=True)
class Registry:
    """A docker-registry on 127.0.0.1:`port` of a node, run by systemd as `registry-NAME.service`."""

    node: Node
    name: str
    port: int
    pushed: dict[str, Image] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def unit(self) -> str:
        return f"registry-{self.name}.service"

    @property
    def log_path(self) -> str:
        return f"/var/log/registry-{self.name}.log"

    def start(self) -> "Registry":
        """Start it, unless it runs, and wait until it answers."""
        if self.node.run(["systemctl", "is-active", "-q", self.unit], check=False).ok:
            return self
        config = f"/etc/test-registries/{self.name}.yml"
        self.node.put(config, _CONFIG.format(name=self.name, port=self.port))
        self.node.put(f"/run/systemd/system/{self.unit}", _UNIT.format(config=config, log=self.log_path))
        self.node.run(f"systemctl daemon-reload && systemctl start {self.unit}")
        wait_until(self._answers, START_DEADLINE_SECONDS, f"an answer of the registry {self.name} on port {self.port}")
        return self

    def stop(self) -> None:
        """Stop it: from then on connections are refused. Images stay; `start` brings them back."""
        self.node.run(["systemctl", "stop", self.unit])

    def _answers(self) -> bool:
        return self.node.run(f"curl -sf -o /dev/null {self.url}/v2/", check=False).ok

    def push(self, repository: str, tag: str = "latest") -> Image:
        """Push this registry's own image as `repository`:`tag` (once; later calls give the same image)."""
        if repository not in self.pushed:
            made = image_of(f"{repository} from {self.name}")
            for blob in (made.layer, made.config):
                self._push_blob(repository, blob)
            self._put(f"{self.url}/v2/{repository}/manifests/{tag}", made.manifest, MANIFEST_TYPE)
            self.pushed[repository] = made
        return self.pushed[repository]

    def _push_blob(self, repository: str, blob: bytes) -> None:
        answer = self.node.run(f"curl -sSf -X POST -D - -o /dev/null {self.url}/v2/{repository}/blobs/uploads/").out
        headers = dict(line.lower().split(": ", 1) for line in answer.splitlines() if ": " in line)
        # The upload's address holds a token whose case matters: take it from the untouched answer.
        start = answer.lower().index("location: ") + len("location: ")
        place = answer[start : start + len(headers["location"])]
        self._put(f"{place}&digest={digest(blob)}", blob, "application/octet-stream")

    def _put(self, url: str, body: bytes, media_type: str) -> None:
        line = f"curl -sSf -X PUT -H 'Content-Type: {media_type}' --data-binary @- {shlex.quote(url)}"
        self.node.run(line, input=body)

    # -- what it was asked ---------------------------------------------------------------------------------------

    def mark(self) -> int:
        """How long the access log is now; `requests(since=…)` starts there."""
        return len(self.node.text(self.log_path))

    def requests(self, since: int = 0) -> list[str]:
        """`METHOD /v2/…?ns=…` of every request since the mark, in order, health checks of this harness left out."""
        lines = self.node.text(self.log_path)[since:].splitlines()
        quoted = [line.split('"') for line in lines if '"' in line and line.startswith("127.0.0.1 ")]
        found = [parts[1].rpartition(" HTTP/")[0] for parts in quoted]
        return [request for request in found if request not in ("GET /v2/",)]

    def await_request(self, part: str, *, since: int = 0, deadline_seconds: float = 3.0) -> str:
        """The first request since the mark that contains `part`; the log is written a moment after the answer."""
        return wait_until(
            lambda: next((request for request in self.requests(since) if part in request), ""),
            deadline_seconds,
            f"a request with {part!r} at the registry {self.name}",
        )


_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: /var/lib/registry-{name}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""

_UNIT = """\
[Service]
ExecStart=/usr/bin/docker-registry serve {config}
StandardOutput=append:{log}
StandardError=append:{log}
SuccessExitStatus=2
"""
