"""Mirrors that die inside a node: one server whose way of dying can be changed while it runs, and packets that vanish.

A faulty mirror stands in front of a good registry, so that one that recovers serves what the good one has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from tests.node.machine import Node
from tests.node.registry import Registry
from tests.node.waiting import wait_until

START_DEADLINE_SECONDS = 20.0
_SCRIPT = "/run/faulty-mirror.py"


class Fault(Enum):
    """What a faulty mirror does."""

    NONE = "serves what the registry behind it has"
    DENIED = "answers 403"
    MISSING = "answers 404"
    FAILING = "answers 500"
    HTML = "answers everything with a web page and 200"
    CORRUPT = "serves manifests, and blobs with wrong bytes"
    LATE = "gives each answer after 5 s"
    SILENT = "accepts and never answers"


@dataclass(frozen=True, slots=True)
class FaultyMirror:
    """A mirror on 127.0.0.1:`port` of the node, in front of a registry of the same node."""

    node: Node
    port: int
    behind: Registry

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def unit(self) -> str:
        return f"faulty-{self.port}.service"

    @property
    def _log(self) -> str:
        return f"/run/faulty-{self.port}.log"

    def start(self, fault: Fault) -> "FaultyMirror":
        """Start it, or change what it does from the next connection on."""
        node = self.node
        node.put(f"/run/faulty-{self.port}.mode", fault.name)
        if not node.run(["systemctl", "is-active", "-q", self.unit], check=False).ok:
            node.put(_SCRIPT, _SERVER)
            words = ["python3", "-I", _SCRIPT, str(self.port), str(self.behind.port)]
            node.run(["systemd-run", "-q", f"--unit={self.unit}", "--collect", *words])
            wait_until(lambda: node.exists(self._log), START_DEADLINE_SECONDS, f"a faulty mirror on {self.port}")
        return self

    def stop(self) -> None:
        """From then on connections are refused."""
        self.node.run(["systemctl", "stop", self.unit], check=False)

    def requests(self) -> list[str]:
        """`METHOD target` of every request that it has read, and `connection` for each that it was silent to."""
        return self.node.text(self._log).splitlines()[1:]


@contextmanager
def black_hole(node: Node, port: int) -> Iterator[None]:
    """Packets to this port vanish."""
    rule = f"INPUT -i lo -p tcp --dport {port} -j DROP"
    node.run(f"iptables -I {rule}")
    try:
        yield
    finally:
        node.run(f"iptables -D {rule}")


def dropped(node: Node, port: int) -> int:
    """How many packets have vanished in the black hole."""
    lines = node.run("iptables -nvxL INPUT").out.splitlines()
    return sum(int(line.split()[0]) for line in lines if f"dpt:{port}" in line.split() and "DROP" in line)


_SERVER = """
import http.client, http.server, socketserver, sys, time
PORT, BEHIND = int(sys.argv[1]), int(sys.argv[2])
LOG = open(f"/run/faulty-{PORT}.log", "a", buffering=1)
SAID = {"DENIED": 403, "MISSING": 404, "FAILING": 500}
PAGE = b"<!DOCTYPE html><html><body>Please log in.</body></html>"

def mode():
    return open(f"/run/faulty-{PORT}.mode").read().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        if mode() == "SILENT":
            print("connection", file=LOG)
            time.sleep(3600)
        super().handle()

    def do_GET(self):
        print(self.command, self.path, file=LOG)
        now = mode()
        if now == "LATE":
            time.sleep(5)
        if now == "SILENT":
            time.sleep(3600)
        if now in SAID:
            self.reply(SAID[now], [("Content-Type", "application/json")], b'{"errors": []}')
        elif now == "HTML":
            self.reply(200, [("Content-Type", "text/html; charset=utf-8")], PAGE)
        else:
            self.pass_on(now)

    do_HEAD = do_GET

    def pass_on(self, now):
        ahead = http.client.HTTPConnection("127.0.0.1", BEHIND, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        ahead.request(self.command, self.path, headers=headers)
        got = ahead.getresponse()
        body = got.read()
        if now == "CORRUPT" and "/blobs/" in self.path:
            body = bytes(255 - byte for byte in body)
        drop = ("connection", "transfer-encoding") + (() if self.command == "HEAD" else ("content-length",))
        self.reply(got.status, [(k, v) for k, v in got.getheaders() if k.lower() not in drop], body)

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64

server = Server(("127.0.0.1", PORT), Handler)
print("listening", file=LOG)
server.serve_forever()
"""
