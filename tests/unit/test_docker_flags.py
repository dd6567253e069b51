"""Which keys of daemon.json dockerd's flags set, and which file sets the flag."""

from __future__ import annotations

from agent.runtimes._docker_flags import RUNNING, Flag, Word, config_file, flags_by_key, without_config_file
from agent.runtimes._unit_files import next_start
from tests.fakes import FakeHost

UNIT = "docker.service"
PACKAGED = "/usr/lib/systemd/system/docker.service"


def words(*texts: str, source: str = RUNNING) -> list[Word]:
    return [Word(text, source) for text in texts]


def machine(**files: str) -> FakeHost:
    host = FakeHost()
    for path, text in files.items():
        host.put(path, text)
    return host


def test_a_flag_sets_its_key() -> None:
    """Singular and plural names, short forms, `--x=v` and `--x v`, proxies in their own section; runtimes are
    exempt."""
    line = "-H fd:// --registry-mirror=https://u:p@x --insecure-registry y -D --https-proxy=z --add-runtime a=b --bip 1"
    assert {key: flag.name for key, flag in flags_by_key(words(*line.split())).items()} == {
        "hosts": "-H",
        "registry-mirrors": "--registry-mirror",
        "insecure-registries": "--insecure-registry",
        "debug": "-D",
        "proxies": "--https-proxy",
        "bip": "--bip",
    }


def test_the_file_is_named_rather_than_the_command_line() -> None:
    """A flag that both show is told with the file, for there it can be taken out."""
    both = [*words("--debug"), *words("--debug", source="/etc/default/docker")]
    assert flags_by_key(both) == {"debug": Flag("--debug", "/etc/default/docker")}


def test_the_configuration_file_is_no_flag_of_a_key() -> None:
    """It is found in both forms, and left out where another file is to be judged."""
    for line in (["-D", "--config-file", "/x", "--bip=1"], ["-D", "--config-file=/x", "--bip=1"]):
        assert (config_file(line), without_config_file(line)) == ("/x", ("-D", "--bip=1"))
    assert (config_file(["-D"]), without_config_file(["-D"])) == ("", ("-D",))


def test_the_next_start_is_read_from_the_unit() -> None:
    """Debian's unit: $DOCKER_OPTS comes from a file that need not exist, and falls apart into words."""
    host = machine(**{
        PACKAGED: "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/sbin/dockerd -H fd:// $DOCKER_OPTS\n",
        "/etc/default/docker": '# comment\nDOCKER_OPTS="--registry-mirror=https://a --debug"\n',
    })  # fmt: skip
    assert next_start(host, UNIT) == (
        *words("-H", "fd://", source=PACKAGED),
        *words("--registry-mirror=https://a", "--debug", source="/etc/default/docker"),
    )
    del host.files["/etc/default/docker"]
    assert next_start(host, UNIT) == tuple(words("-H", "fd://", source=PACKAGED))


def test_drop_ins_are_read_in_systemds_order() -> None:
    """By name over all directories, /etc hiding /usr; an empty ExecStart= forgets the one before; lines may go on."""
    drop_in = "/etc/systemd/system/docker.service.d/20-x.conf"
    host = machine(**{
        PACKAGED: "[Unit]\nExecStart=not this\n[Service]\nExecStart=/usr/bin/dockerd --bip=1\n",
        f"{PACKAGED}.d/10-y.conf": "[Service]\nEnvironment=DOCKER_OPTS=--debug 'MORE=--label a=b'\n",
        f"{PACKAGED}.d/20-x.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --hidden\n",
        drop_in: "[Service]\nExecStart=\nExecStart=@-/bin/dockerd docker \\\n  --mtu=1 ${DOCKER_OPTS} $MORE $UNSET\n",
    })  # fmt: skip
    said = f"{PACKAGED}.d/10-y.conf"
    assert next_start(host, UNIT) == (
        Word("--mtu=1", drop_in),
        *words("--debug", "--label", "a=b", source=said),
    )


def test_a_unit_in_etc_stands_in_for_the_packaged_one() -> None:
    """The whole file counts, as in systemd."""
    host = machine(**{
        PACKAGED: "[Service]\nExecStart=/usr/bin/dockerd --bip=1\n",
        "/etc/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd\n",
    })  # fmt: skip
    assert next_start(host, UNIT) == ()
    assert next_start(FakeHost(), UNIT) == ()
