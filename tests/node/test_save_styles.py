"""Every way to save a file that operators and tools have: each is noticed at once, none half-read."""

import pytest

from agent.events import Kind
from tests.node.rig import DESIRED_STATE, Rig
from tests.node.service import Service, desired_state
from tests.node.waiting import wait_until

# A save that goes unnoticed is found by the resync a minute later; this is far below.
NOTICE_DEADLINE_SECONDS = 5.0
_DROP_IN = "/etc/systemd/system/mirror-agent.service.d/config.conf"

# nano wants a terminal: this gives it one, waits until its help lines stand there, and types.
_NANO = r"""
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp("nano", ["nano", "--nowrap", sys.argv[1]])
seen = b""
def until(what):
    global seen
    while what not in seen:
        if not select.select([terminal], [], [], 10)[0]:
            sys.exit(f"no {what!r} in {seen[-500:]!r}")
        seen += os.read(terminal, 4096)
    seen = b""
until(b"Exit")
os.write(terminal, b"\x1c")          # ^\ replace
until(b"Search")
os.write(terminal, b":5001\r")
until(b"with")
os.write(terminal, b":5002\r")
until(b"instance?")
os.write(terminal, b"a")
until(b"occurrence")
os.write(terminal, b"\x0f")          # ^O write out
until(b"Write")
os.write(terminal, b"\r")
until(b"Wrote")
os.write(terminal, b"\x18")          # ^X exit
os.waitpid(pid, 0)
"""

_STYLES = {
    "vim": "vim -Nes -u NONE -c '%s/:5001/:5002/' -c wq {path}",
    "vim-backupcopy-yes": "vim -Nes -u NONE --cmd 'set backup backupcopy=yes' -c '%s/:5001/:5002/' -c wq {path}",
    "vim-backupcopy-no": "vim -Nes -u NONE --cmd 'set backup backupcopy=no' -c '%s/:5001/:5002/' -c wq {path}",
    "nano": "python3 -I /root/nano.py {path}",
    "sed": "sed -i s/:5001/:5002/ {path}",
    "cp": "sed s/:5001/:5002/ {path} > /root/new; cp /root/new {path}",
    "mv": "sed s/:5001/:5002/ {path} > {path}.new; mv {path}.new {path}",
    "install": "sed s/:5001/:5002/ {path} > /root/new; install -m 0640 /root/new {path}",
    "redirect": 'new=$(sed s/:5001/:5002/ {path}); printf "%s\\n" "$new" > {path}',
    "tee": 'new=$(sed s/:5001/:5002/ {path}); printf "%s\\n" "$new" | tee {path} >/dev/null',
    "slow-redirect": 'new=$(sed s/:5001/:5002/ {path}); {{ sleep 0.4; printf "%s\\n" "$new"; }} > {path}',
    "hard-link": "sed s/:5001/:5002/ {path} > /etc/other; ln -f /etc/other {path}",
}


@pytest.mark.parametrize("style", _STYLES)
def test_a_save_is_noticed_at_once(rig: Rig, service: Service, style: str) -> None:
    """Replaced, rewritten in place, linked, slow: seconds later the new state is in force, and nothing was invalid
    on the way unless the writer closed the file half-way."""
    rig.node.put("/root/nano.py", _NANO)
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor = rig.node.cursor()
    rig.node.run(_STYLES[style].format(path=DESIRED_STATE))
    service.await_mirror("docker.io", rig.second.url, NOTICE_DEADLINE_SECONDS)
    assert service.count(Kind.INVALID, Kind.MISSING, after=cursor) == {}


def test_a_file_written_line_by_line_is_read_when_it_is_closed(rig: Rig, service: Service) -> None:
    """A writer that takes a second over the file is not read half-way: every prefix would be another desired state."""
    before = {"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}
    service.start_with(desired_state(before))
    cursor = rig.node.cursor()
    lines = desired_state({name: [rig.second.url] for name in before}).splitlines()
    slowly = "; sleep 0.3; ".join(f"echo '{line}'" for line in lines)
    rig.node.run(f"{{ {slowly}; }} > {DESIRED_STATE}")
    service.await_mirror("ghcr.io", rig.second.url, NOTICE_DEADLINE_SECONDS)
    assert service.count(Kind.INVALID, Kind.REMOVED, after=cursor) == {}
    assert service.count(Kind.LOADED, after=cursor) == {"LOADED": 1}


@pytest.mark.parametrize("way", ["link", "setting"])
def test_a_configmap_swap_is_noticed_at_once(rig: Rig, service: Service, way: str) -> None:
    """The file lies in a directory whose `..data` link is swapped, as kubelet updates a ConfigMap, so that no event
    ever names the file itself. The agent is pointed there by a link in /etc or by MIRROR_AGENT_CONFIG."""
    node, volume = rig.node, "/etc/mirror-agent-volume"
    for generation, mirror in (("..2026_1", rig.first), ("..2026_2", rig.second)):
        node.put(f"{volume}/{generation}/mirror-agent.yaml", desired_state({"docker.io": [mirror.url]}), 0o640)
    node.run(f"ln -s ..2026_1 {volume}/..data; ln -s ..data/mirror-agent.yaml {volume}/mirror-agent.yaml")
    if way == "link":
        node.run(f"ln -sf {volume}/mirror-agent.yaml {DESIRED_STATE}")
    else:
        node.put(_DROP_IN, f"[Service]\nEnvironment=MIRROR_AGENT_CONFIG={volume}/mirror-agent.yaml\n")
        node.run("systemctl daemon-reload")
    try:
        service.start()
        service.await_mirror("docker.io", rig.first.url)
        node.run(f"ln -s ..2026_2 {volume}/..data_tmp; mv -T {volume}/..data_tmp {volume}/..data")
        service.await_mirror("docker.io", rig.second.url, NOTICE_DEADLINE_SECONDS)
    finally:
        node.run(f"rm -rf {volume}")


def test_a_file_that_is_deleted_and_written_anew_is_noticed(rig: Rig, service: Service) -> None:
    """Without a desired state the last good one stays in force; the next one that appears is read at once."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor = rig.node.cursor()
    rig.node.run(["rm", DESIRED_STATE])
    wait_until(lambda: service.events(Kind.MISSING, cursor), NOTICE_DEADLINE_SECONDS, "a word about the missing file")
    assert rig.first.url in rig.node.text("/etc/containerd/certs.d/docker.io/hosts.toml")
    service.desire(desired_state({"docker.io": [rig.second.url]}))
    service.await_mirror("docker.io", rig.second.url, NOTICE_DEADLINE_SECONDS)
