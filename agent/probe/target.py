"""What is probed: a mirror of a registry, by an image, as containerd would ask it for that image."""

from __future__ import annotations

from dataclasses import dataclass

from agent.image import Image
from agent.model import Mirror
from agent.probe.pace import REQUESTS_A_PROBE, REQUESTS_FOR_CONTENT
from agent.route import api_root, manifest_url


@dataclass(frozen=True, slots=True)
class Target:
    """One probe. The mirror's paths are those of this machine, and its header files stand among its headers. An image
    with both tag and digest is asked by its tag, and the digest is what the tag should lead to. `timeout_seconds`: for
    this probe in all, if it is not what the others have."""

    mirror: Mirror
    image: Image
    checks_content: bool = False
    timeout_seconds: float = 0.0

    @property
    def most_requests(self) -> int:
        """What is set aside for it."""
        return REQUESTS_A_PROBE + (REQUESTS_FOR_CONTENT if self.checks_content else 0)

    @property
    def asked_image(self) -> Image:
        """As it is asked for: by tag, if it has one."""
        return Image(self.image.registry, self.image.repository, self.image.tag) if self.image.tag else self.image

    @property
    def manifest_url(self) -> str:
        """The first request of a pull."""
        return manifest_url(self._root, self.asked_image, ns=True)

    @property
    def ping_url(self) -> str:
        """The API's own root, "" where the mirror's path has none."""
        before, slash, _ = f"{self._root}/".partition("/v2/")
        return before + slash if slash else ""

    def url_of(self, kind: str, digest: str) -> str:
        """The request for what has a digest: `kind` is manifests or blobs."""
        image = Image(self.image.registry, self.image.repository, "", digest)
        return manifest_url(self._root, image, ns=True).replace("/manifests/", f"/{kind}/")

    @property
    def _root(self) -> str:
        return api_root(self.mirror.url, override_path=self.mirror.override_path)
