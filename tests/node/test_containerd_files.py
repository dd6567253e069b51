"""What is written for containerd, read by a real containerd: TLS of every kind, headers, no fallback, `_default`."""

import pytest

from tests.node.machine import Node
from tests.node.pulls import Pull, cri_pull, cri_remove
from tests.node.rig import CERTS_D, Rig, needs_hosts_toml
from tests.node.service import Service
from tests.node.waiting import wait_until

HOST = "tls.lan"
STRICT, OPEN = 5443, 5444
DEAD = "http://127.0.0.1:5999"
TLS = "/etc/ssl/test"
TOKEN = "s3cret-token"
_LOG = "/var/log/front-{port}.log"

_FRONT = r"""
import http.server, ssl, sys, urllib.error, urllib.request

port, target, ca, log = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with open(log, "a") as file:
            print(self.command, self.path, "token=" + self.headers.get("X-Token", ""), file=file)
        request = urllib.request.Request(target + self.path, method=self.command)
        request.add_header("Accept", self.headers.get("Accept", "*/*"))
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        body = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "Docker-Content-Digest"):
            if answer.headers.get(name):
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(len(body))))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/ssl/test/server.pem", "/etc/ssl/test/server.key")
if ca:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Front)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""

_PREPARE = f"""
set -e
mkdir -p {TLS} && cd {TLS}
make() {{ openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1 2>/dev/null
  openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile san -out $1.pem 2>/dev/null
}}
if [ ! -e node.pem ]; then
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test-ca -days 30 2>/dev/null
  echo subjectAltName=DNS:{HOST} >san
  make server; make node; cat node.pem node.key >both.pem
  printf %s {TOKEN} >token && chmod 600 token
fi
grep -q {HOST} /etc/hosts || echo 127.0.0.1 {HOST} >>/etc/hosts
for front in "{STRICT} {TLS}/ca.pem" "{OPEN} "; do
  port=${{front%% *}} log=/var/log/front-${{front%% *}}.log; : >$log
  systemctl is-active -q front-$port || systemd-run -q --unit front-$port \
    python3 -I {TLS}/front.py $port http://127.0.0.1:5001 "${{front#* }}" $log
done
"""


@pytest.fixture
def fronts(rig: Rig) -> Node:
    """Two TLS fronts of the first registry at tls.lan: STRICT asks for a client certificate, OPEN does not."""
    rig.node.run(["mkdir", "-p", TLS])
    rig.node.put(f"{TLS}/front.py", _FRONT)
    rig.node.run(_PREPARE)
    for port in (STRICT, OPEN):
        check = f"ss -Hltn 'sport = :{port}' | grep -q ."
        wait_until(lambda check=check: rig.node.run(check, check=False).ok, 10.0, f"a listener on port {port}")
    return rig.node


def fresh_pull(node: Node, image: str) -> Pull:
    """A pull that finds nothing of an earlier one."""
    cri_remove(node, image)
    return cri_pull(node, image)


def asked(node: Node, port: int) -> list[str]:
    return node.text(_LOG.format(port=port)).splitlines()


def hello(port: int) -> str:
    return f"{HOST}:{port}/library/hello:latest"


@needs_hosts_toml
def test_certificates_beside_the_file_stay_in_force(rig: Rig, service: Service, fronts: Node) -> None:
    """A directory host:port with a CA and a client certificate: mirrors are added, and the registry is still reached
    with them; they are used without our file before and after."""
    directory = f"{CERTS_D}/{HOST}:{STRICT}"
    fronts.run(f"mkdir -p {directory} && cd {TLS} && cp ca.pem {directory}/ca.crt")
    fronts.run(f"cd {TLS} && cp node.pem {directory}/node.cert && cp node.key {directory}/node.key")
    expected = rig.first.pushed["library/hello"].image_id
    before = fronts.identity(directory)
    assert fresh_pull(fronts, hello(STRICT)).image_id == expected
    service.start_with(f'version: 1\nregistries:\n  "{HOST}:{STRICT}": {{mirrors: ["{DEAD}"]}}\n')
    assert fronts.exists(f"{directory}/hosts.toml")
    pull = fresh_pull(fronts, hello(STRICT))
    assert (pull.error, pull.image_id) == ("", expected)
    service.desire("version: 1\n")
    service.await_nothing_pending()
    assert (fronts.exists(f"{directory}/hosts.toml"), fresh_pull(fronts, hello(STRICT)).image_id) == (False, expected)
    assert {path: found for path, found in fronts.identity(directory).items() if path != directory} == {
        path: found for path, found in before.items() if path != directory
    }


@needs_hosts_toml
def test_a_mirror_with_ca_client_certificate_and_secret_header(rig: Rig, service: Service, fronts: Node) -> None:
    """Certificate and key in one file, a header from a file: the mirror serves the pull and sees the header; the file
    that holds it is for root alone."""
    mirror = f"{{url: https://{HOST}:{STRICT}, ca: {TLS}/ca.pem, client: [{{cert: {TLS}/both.pem}}]"
    token = f"header_file: {{X-Token: {TLS}/token}}}}"
    service.start_with(f"version: 1\nregistries:\n  docker.io: {{mirrors: [{mirror}, {token}]}}\n")
    pull = fresh_pull(fronts, "docker.io/library/hello:latest")
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["library/hello"].image_id)
    requests = asked(fronts, STRICT)
    assert requests[0] == f"HEAD /v2/library/hello/manifests/latest?ns=docker.io token={TOKEN}"
    assert fronts.run(["stat", "-c", "%a %u", f"{CERTS_D}/docker.io/hosts.toml"]).out.strip() == "600 0"


@needs_hosts_toml
def test_without_fallback_the_registry_is_never_asked(rig: Rig, service: Service, fronts: Node) -> None:
    """The mirror serves; when it is dead the pull fails, and the registry itself has not heard a word."""
    entry = f'"{HOST}:{OPEN}": {{fallback: false, insecure: true, mirrors: ["{rig.second.url}"]}}'
    service.start_with(f"version: 1\nregistries:\n  {entry}\n")
    assert fresh_pull(fronts, hello(OPEN)).image_id == rig.second.pushed["library/hello"].image_id
    rig.second.stop()
    assert (fresh_pull(fronts, hello(OPEN)).ok, asked(fronts, OPEN)) == (False, [])


def test_insecure_is_tls_without_verification(rig: Rig, service: Service, fronts: Node) -> None:
    """An unknown CA fails the pull without the word, and does not with it."""
    assert not fresh_pull(fronts, hello(OPEN)).ok
    service.start_with(f'version: 1\nregistries:\n  "{HOST}:{OPEN}": {{insecure: true}}\n')
    pull = fresh_pull(fronts, hello(OPEN))
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["library/hello"].image_id)


def test_default_and_the_registries_with_an_entry_of_their_own(rig: Rig, service: Service, fronts: Node) -> None:
    """`_default` answers for a registry without an entry; one with an entry is asked itself, here by plain http."""
    registry = f"{HOST}:5001"
    entries = [f'_default: {{mirrors: ["{rig.second.url}"]}}', f'"{registry}": {{plain_http: true}}']
    service.start_with("\n  ".join(["version: 1\nregistries:", *entries]) + "\n")
    mark = rig.second.mark()
    assert fresh_pull(fronts, "other.example/org/app:latest").image_id == rig.second.pushed["org/app"].image_id
    rig.second.await_request("HEAD /v2/org/app/manifests/latest?ns=other.example", since=mark)
    pull = fresh_pull(fronts, f"{registry}/org/app:latest")
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["org/app"].image_id)
