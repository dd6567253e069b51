"""Mirrors on loopback, sane and hostile: servers in threads that answer as a test says and note what they are asked."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
JSON = {"Content-Type": "application/json"}
_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """A request as it came: the target with its query, header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


Serve = Callable[[Request, socket.socket], None]


@dataclass
class Server:
    """A server on a port of 127.0.0.1."""

    port: int
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def asked(self) -> list[str]:
        """`METHOD target` of every request."""
        return [f"{each.method} {each.target}" for each in self.requests]


@contextmanager
def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that reads each request and lets `serve` answer; the connection is closed behind the answer."""

    def answer(server: Server, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            connection.settimeout(_DEADLINE_SECONDS)
            if tls is None:
                _answer(server, connection, serve)
            else:
                _answer_with_tls(server, connection, serve, tls)

    with taking(answer, "https" if tls else "http") as server:
        yield server


def _answer_with_tls(server: Server, connection: socket.socket, serve: Serve, tls: ssl.SSLContext) -> None:
    """Whoever is turned away is told why: to close while a request waits to be read would reset the connection, and
    that can overtake the alert."""
    secured = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    with secured:
        try:
            secured.do_handshake()
        except ssl.SSLError:
            plain = socket.socket(fileno=secured.detach())
            with plain:
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
            return
        _answer(server, secured, serve)


@contextmanager
def taking(handle: Callable[[Server, socket.socket], None], scheme: str = "http") -> Iterator[Server]:
    """A server that leaves each connection to `handle`, in a thread of its own."""

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(server, listening.accept()[0]), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(listening.getsockname()[1], scheme)
        threading.Thread(target=listen, daemon=True).start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)


def _answer(server: Server, connection: socket.socket, serve: Serve) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(4096)
        if not piece:
            return
        text += piece
    first, *lines = text.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    request = Request(method, target, headers)
    server.requests.append(request)
    serve(request, connection)


# --- answers ----------------------------------------------------------------------------------------------------------


def response(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """A whole answer."""
    lines = [
        f"HTTP/1.1 {status} X",
        *(f"{k}: {v}" for k, v in {"Content-Length": str(len(body)), **(headers or {})}.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def saying(answer: bytes) -> Serve:
    """The same to everybody."""
    return lambda _, connection: connection.sendall(answer)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Content:
    """A small image behind an index."""

    config: bytes = b'{"architecture": "amd64"}'

    @property
    def manifest(self) -> bytes:
        config = {"digest": digest(self.config), "size": len(self.config)}
        return json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()

    @property
    def index(self) -> bytes:
        first = {"digest": digest(self.manifest), "size": len(self.manifest), "mediaType": MANIFEST_TYPE}
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [first]}).encode()


IMAGE = Content()
Answers = Mapping[tuple[str, str], bytes]
"""By method and path; a HEAD without an answer of its own gets the head of the GET."""


def image_answers(repository: str = "library/hello-world", content: Content = IMAGE) -> dict[tuple[str, str], bytes]:
    """A registry that has the image as `latest`, and asks nobody for a token."""
    index = response(200, {"Content-Type": INDEX_TYPE, "Docker-Content-Digest": digest(content.index)}, content.index)
    manifest = response(
        200, {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest(content.manifest)}, content.manifest
    )
    root = f"/v2/{repository}"
    return {
        ("GET", "/v2/"): response(200, JSON, b"{}"),
        ("GET", f"{root}/manifests/latest"): index,
        ("GET", f"{root}/manifests/{digest(content.index)}"): index,
        ("GET", f"{root}/manifests/{digest(content.manifest)}"): manifest,
        ("GET", f"{root}/blobs/{digest(content.config)}"): response(
            200, {"Content-Type": "application/octet-stream"}, content.config
        ),
    }


def registry(answers: Answers) -> Serve:
    """What is not among the answers is not found."""

    def serve(request: Request, connection: socket.socket) -> None:
        answer = answers.get((request.method, request.path)) or answers.get(("GET", request.path)) or response(404)
        connection.sendall(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.method == "HEAD" else answer)

    return serve


def guarded(answers: Answers, challenge: str, token: str) -> Serve:
    """A registry that answers nobody without the token."""
    inner = registry(answers)

    def serve(request: Request, connection: socket.socket) -> None:
        if request.headers.get("authorization") == f"Bearer {token}":
            inner(request, connection)
        else:
            connection.sendall(response(401, {"WWW-Authenticate": challenge}))

    return serve


# --- certificates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A throw-away CA in a directory."""

    directory: Path

    @property
    def path(self) -> str:
        return str(self.directory / "ca.pem")

    def issue(self, name: str, san: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> tuple[str, str]:
        """Paths of a certificate and its key. `days` below 0: it has expired."""
        cert, key = str(self.directory / f"{name}.pem"), str(self.directory / f"{name}.key")
        request, extensions = str(self.directory / f"{name}.csr"), self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\n")
        _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        ca = ("-CA", self.path, "-CAkey", str(self.directory / "ca.key"), "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *ca, "-days", str(days), "-extfile", str(extensions), "-out", cert)
        return cert, key

    def server(self, name: str = "server", san: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> ssl.SSLContext:
        """A server's side with a certificate of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, san, days))
        return context


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(directory: Path) -> Authority:
    """A new CA; skipped without the openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    key, cert = str(directory / "ca.key"), str(directory / "ca.pem")
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=throw-away CA")
    return Authority(directory)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
