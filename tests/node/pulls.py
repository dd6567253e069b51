"""Pulls as kubelet and as `docker pull` do them, each with containerd's or Docker's own words when it fails."""

import json
import struct
import time
import urllib.parse
from dataclasses import dataclass

from tests.node.machine import Node

PULL_TIMEOUT_SECONDS = 45
# containerd 1.4 knows only the older name of the same service.
CRI_VERSIONS = ("v1", "v1alpha2")
_UNIMPLEMENTED = 12


@dataclass(frozen=True, slots=True)
class Pull:
    """The end of one pull: the image's id if it worked, else the error in the runtime's own words."""

    ok: bool
    image_id: str
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """One gRPC answer: status 0 is fine; `body` is the protobuf message."""

    status: int
    message: str
    body: bytes


def cri_pull(node: Node, image: str, timeout_seconds: int = PULL_TIMEOUT_SECONDS) -> Pull:
    """Ask containerd for `image` over its CRI socket, as kubelet does (PullImage, no credentials)."""
    began = time.monotonic()
    reply = cri_call(node, "PullImage", _field(1, _field(1, image.encode())), timeout_seconds)
    seconds = time.monotonic() - began
    if reply.status != 0:
        return Pull(ok=False, image_id="", error=reply.message, seconds=seconds)
    return Pull(ok=True, image_id=_first_string(reply.body), error="", seconds=seconds)


def cri_remove(node: Node, image: str) -> None:
    """Forget the image, so that the next pull asks the registries again."""
    reply = cri_call(node, "RemoveImage", _field(1, _field(1, image.encode())))
    assert reply.status == 0, reply


def cri_call(node: Node, method: str, message: bytes, timeout_seconds: int = PULL_TIMEOUT_SECONDS) -> Reply:
    """One unary call of runtime.v1.ImageService, or of v1alpha2 where containerd does not know v1."""
    reply = Reply(_UNIMPLEMENTED, "not called", b"")
    for version in CRI_VERSIONS:
        reply = _grpc(node, f"runtime.{version}.ImageService/{method}", message, timeout_seconds)
        if reply.status != _UNIMPLEMENTED:
            break
    return reply


def _grpc(node: Node, method: str, message: bytes, timeout_seconds: int) -> Reply:
    command = [
        "curl", "-sS", "--http2-prior-knowledge", "--unix-socket", "/run/containerd/containerd.sock",
        "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@-",
        "-D", "/dev/stderr", "-o", "-", f"http://localhost/{method}",
    ]  # fmt: skip
    frame = b"\0" + struct.pack(">I", len(message)) + message
    done = node.run(command, input=frame, check=False, timeout_seconds=timeout_seconds)
    headers = dict(line.lower().split(": ", 1) for line in done.err.splitlines() if ": " in line)
    if "grpc-status" not in headers:
        return Reply(-1, f"no gRPC answer (curl rc {done.rc}): {done.err}", b"")
    message_line = next((line for line in done.err.splitlines() if line.lower().startswith("grpc-message: ")), "")
    words = urllib.parse.unquote(message_line.partition(": ")[2])
    return Reply(int(headers["grpc-status"]), words, done.raw_out[5:])


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field (wire type 2); names of images are shorter than 16 KiB."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _first_string(body: bytes) -> str:
    """Field 1 of a message that begins with a short length-delimited field 1 (PullImageResponse.image_ref)."""
    assert body[:1] == b"\x0a", body
    assert body[1] < 0x80, body
    return body[2 : 2 + body[1]].decode()


def docker_pull(node: Node, image: str, timeout_seconds: int = PULL_TIMEOUT_SECONDS) -> Pull:
    """`docker pull`, and the id Docker knows the image by."""
    began = time.monotonic()
    done = node.run(["docker", "pull", "-q", image], check=False, timeout_seconds=timeout_seconds)
    seconds = time.monotonic() - began
    if not done.ok:
        return Pull(ok=False, image_id="", error=done.err.strip(), seconds=seconds)
    known = node.run(["docker", "image", "inspect", "-f", "{{.Id}}", image]).out.strip()
    return Pull(ok=True, image_id=known, error="", seconds=seconds)


def docker_remove(node: Node, image: str) -> None:
    """Forget the image, so that the next pull asks the registries again."""
    node.run(["docker", "image", "rm", "-f", image], check=False)


def docker_info(node: Node) -> dict[str, object]:
    """GET /info of the running dockerd."""
    answer = node.run("curl -sf --unix-socket /run/docker.sock http://localhost/info").raw_out
    found: dict[str, object] = json.loads(answer)
    return found


def docker_mirrors(node: Node) -> list[str]:
    """The mirrors the running dockerd has in effect, as it writes them (with a trailing slash)."""
    registry_config = docker_info(node)["RegistryConfig"]
    assert isinstance(registry_config, dict)
    return list(registry_config["Mirrors"] or [])
