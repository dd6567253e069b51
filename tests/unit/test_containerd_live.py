"""Does the running containerd read certs.d? What status says for each way in which it does not, and what to do."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.ledger import Ledger
from agent.model import (
    ActiveState,
    CommandResult,
    ContainerdSettings,
    DesiredState,
    Manage,
    Mirror,
    Registry,
    RegistryReport,
    RuntimeReport,
    Setting,
    UnitState,
    Unusable,
)
from agent.plan import Memory, WriteFile
from agent.runtimes._config_toml import CriConfig, parse_version, read_config
from agent.runtimes._containerd_config import (
    LOADED_CONTENT,
    LOADED_IMPORTS,
    LOADED_PATH,
    Verdict,
    digest_of_imports,
    look_at_daemon,
)
from agent.runtimes._trial import digest_of
from agent.runtimes.containerd import RUNTIME
from tests.fakes import FakeHost
from tests.pem import CERTIFICATE

CERTS_D = "/etc/containerd/certs.d"
CONFIG = "/etc/containerd/config.toml"
PROGRAM = "/usr/bin/containerd"
STARTED = 1_799_000_000.0
UP = UnitState(ActiveState.ACTIVE, True, "running", 612, "inv", STARTED)
DESIRED = DesiredState("0", registries=(Registry("ghcr.io", "https://ghcr.io", (Mirror("https://m.cn"),)),))
IN_USE = Verdict(True, f"{CERTS_D} is in use, nothing to restart")
RESTART = "then systemctl restart containerd"


def table(version: int, body: str = f'config_path = "{CERTS_D}"') -> str:
    """A config.toml of one version with this in its registry table."""
    heading = {1: "plugins.cri", 2: 'plugins."io.containerd.grpc.v1.cri"'}.get(
        version, 'plugins."io.containerd.cri.v1.images"'
    )
    return (f"version = {version}\n" if version > 1 else "") + f"[{heading}.registry]\n{body}\n"


def machine(config: str | None, version: str = "1.7.24", unit: UnitState = UP) -> FakeHost:
    """A node with containerd of this version, its config.toml older than its start."""
    host = FakeHost(units={"containerd.service": unit}, processes={612: (PROGRAM,)})
    host.put(PROGRAM, "")
    host.mkdirs("/etc/containerd")
    if config is not None:
        host.put(CONFIG, config)
        host.mtimes[CONFIG] = STARTED - 60
    output = f"containerd github.com/containerd/containerd v{version} 0123abc"
    host.commands[(PROGRAM, "--version")] = CommandResult(0, output, "")
    return host


def verdict(host: FakeHost, desired: DesiredState = DESIRED) -> Verdict:
    """What status says about the runtime once its files are written."""
    for action in RUNTIME.plan(desired, RUNTIME.observe(host, desired)).file_actions:
        if isinstance(action, WriteFile) and action.path.endswith("/hosts.toml"):
            host.put(action.path, action.content)
    report = RUNTIME.report(desired, RUNTIME.observe(host, desired))
    return Verdict(report.live, report.sentence)


def put(version: int) -> str:
    heading = {1: "[plugins.cri.registry]", 2: '[plugins."io.containerd.grpc.v1.cri".registry]'}.get(
        version, '[plugins."io.containerd.cri.v1.images".registry]'
    )
    return f'put config_path = "{CERTS_D}" under {heading} in {CONFIG}, {RESTART}'


@pytest.mark.parametrize(
    ("file_version", "containerd"),
    [(1, "1.7.24"), (1, "2.3.4"), (2, "1.5.18"), (2, "1.7.24"), (2, "2.1.9"), (3, "2.0.9"), (3, "2.2.7"), (4, "2.3.4")],
)
def test_live(file_version: int, containerd: str) -> None:
    """config_path is this very directory, in the table that this containerd reads in a file of this version."""
    assert verdict(machine(table(file_version), containerd)) == IN_USE


@pytest.mark.parametrize("file_version", [2, 3])
def test_not_set(file_version: int) -> None:
    """As Debian ships it: the sentence holds the very line, for the file's own version."""
    said = f"config_path is not set, so {CERTS_D} is not in use: {put(file_version)}"
    assert verdict(machine(table(file_version, ""), "2.1.9")) == Verdict(False, said)


def test_not_set_where_the_default_is_a_trap() -> None:
    """2.2 and later have a default: a list, which they ignore."""
    why = "config_path is not set (the default is a list, which containerd ignores)"
    said = f"{why}, so {CERTS_D} is not in use: {put(3)}"
    assert verdict(machine(table(3, 'config_path = ""'), "2.2.7")) == Verdict(False, said)


def test_no_configuration_at_all() -> None:
    """The file to write, in the version that every containerd reads."""
    said = (
        f"config_path is not set, so {CERTS_D} is not in use: write version = 2, "
        f'[plugins."io.containerd.grpc.v1.cri".registry] and config_path = "{CERTS_D}" to {CONFIG}, {RESTART}'
    )
    assert verdict(machine(None)) == Verdict(False, said)


def test_a_version_1_file_is_not_read_by_2_0_to_2_2() -> None:
    """Where the setting stands and is ignored, the way out is another one."""
    said = (
        f"config_path is not set, so {CERTS_D} is not in use: {CONFIG} is of version 1, whose CRI tables containerd "
        f'2.1.9 ignores: convert it (containerd config migrate), set config_path = "{CERTS_D}", {RESTART}'
    )
    assert verdict(machine(table(1), "2.1.9")) == Verdict(False, said)


@pytest.mark.parametrize(
    ("config", "containerd"),
    [
        ("version = 3\n" + table(2).partition("\n")[2], "2.1.9"),
        ("version = 2\n" + table(3).partition("\n")[2], "1.7.24"),
        (table(2).partition("\n")[2], "1.7.24"),
    ],
)
def test_the_wrong_table_for_the_version(config: str, containerd: str) -> None:
    """containerd ignores a table that belongs to another version of the file, and says so nowhere."""
    assert verdict(machine(config, containerd)).sentence.startswith("config_path is not set")


def test_another_directory() -> None:
    """Two ways out: name it in the desired state, or change the configuration."""
    said = (
        "containerd reads /etc/containerd/cert.d: name that as containerd.certs_dir, "
        f'or set config_path = "{CERTS_D}" in its place'
    )
    assert verdict(machine(table(2, 'config_path = "/etc/containerd/cert.d"'))) == Verdict(False, said)


LIST = f'config_path = "{CERTS_D}:/etc/docker/certs.d"'


@pytest.mark.parametrize("containerd", ["1.7.24", "2.0.9"])
def test_a_list_works_before_2_1(containerd: str) -> None:
    """Both directories are looked at."""
    assert verdict(machine(table(2, LIST), containerd)) == IN_USE


def test_a_list_is_ignored_from_2_1_on() -> None:
    """The whole value, without a word in the log."""
    said = (
        f"config_path is a list of directories ({CERTS_D}:/etc/docker/certs.d), which containerd 2.1 and later ignore "
        f'whole: write config_path = "{CERTS_D}" in {CONFIG}, {RESTART}'
    )
    assert verdict(machine(table(2, LIST), "2.2.7")) == Verdict(False, said)


@pytest.mark.parametrize(
    "key",
    [
        "use_local_image_pull = true",
        "discard_unpacked_layers = true",
        "max_concurrent_downloads = 5",
        "image_pull_with_sync_fs = true",
        "disable_snapshot_annotations = false",
        '[plugins."io.containerd.cri.v1.images".registry.configs."x".auth]',
    ],
)
def test_a_list_works_where_containerd_pulls_locally(key: str) -> None:
    """As on EKS: an unrelated key makes containerd pull in the older way, which understands lists."""
    images = '[plugins."io.containerd.cri.v1.images"'
    before, after = ("", key) if key.startswith("[") else (f"{images}]\n{key}", "")
    config = "\n".join(["version = 3", before, f"{images}.registry]", LIST, after])
    assert verdict(machine(config, "2.2.7")) == IN_USE


def test_paths_are_compared_as_directories() -> None:
    """A trailing slash changes nothing."""
    assert verdict(machine(table(2, f'config_path = "{CERTS_D}/"'))) == IN_USE


def test_mirrors_and_config_path_keep_cri_down() -> None:
    """The daemon starts, its CRI does not, and no check of containerd's own says so."""
    config = (
        table(2) + '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["https://m.cn"]\n'
    )
    said = (
        f"{CONFIG} has both config_path and registry.mirrors, with which containerd's CRI does not start: "
        f"remove the mirrors tables, {RESTART}"
    )
    assert verdict(machine(config)) == Verdict(False, said)


@pytest.mark.parametrize("name", ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"])
def test_cri_is_off(name: str) -> None:
    """As in Docker's own package: nothing is wrong, and nothing is needed."""
    said = "CRI is off in its configuration: only Docker uses this containerd, nothing is needed here"
    assert verdict(machine(f'disabled_plugins = ["{name}"]\n')) == Verdict(None, said)


def test_too_old() -> None:
    """1.4 does not read hosts.toml for CRI at all: what counts is what the old tables say."""
    said = f"registry.mirrors in {CONFIG} do not say it: ghcr.io"
    assert verdict(machine(table(2), "1.4.13")) == Verdict(False, said)


def test_restart_pending() -> None:
    """Only a start reads config.toml: what changed after it is not in force."""
    host = machine(table(2))
    host.mtimes[CONFIG] = STARTED + 1
    said = f"restart pending: {CONFIG} changed after containerd started: systemctl restart containerd"
    assert verdict(host) == Verdict(False, said)


@pytest.mark.parametrize(
    "arguments", [("-c", "/x.toml"), ("--config", "/x.toml"), ("--config=/x.toml",), ("-c=/x.toml",)]
)
def test_the_file_that_the_process_was_started_with(arguments: tuple[str, ...]) -> None:
    """Not the usual one, if the command line names another."""
    host = machine(table(2, ""))
    host.put("/x.toml", table(2))
    host.mtimes["/x.toml"] = 0.0
    host.processes[612] = (PROGRAM, "--log-level", "info", *arguments)
    assert verdict(host) == IN_USE


IMPORTS = 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
DUMP = (PROGRAM, "--config", CONFIG, "config", "dump")


def test_imports_are_merged_by_containerd_itself() -> None:
    """What counts is its own dump."""
    host = machine(IMPORTS, "2.1.9")
    host.commands[DUMP] = CommandResult(0, table(3), "")
    assert verdict(host) == IN_USE


def test_a_dump_is_that_of_the_imports_too() -> None:
    """What it said is used again only while each of them is the same, and no other has come: those of a pattern, in
    directories of a pattern as well, and what they import themselves; each once, also where they go round in a circle.
    A file that is named and not there is looked at as well."""
    host = machine('version = 2\nimports = ["conf.d/*.toml", "/opt/*/x.toml", "/none.toml"]\n', "2.1.9")
    for path, content in {
        "/etc/containerd/conf.d/b.toml": 'imports = ["../more.toml", "/etc/containerd/config.toml"]',
        "/etc/containerd/conf.d/a.toml": "version = ",
        "/etc/containerd/conf.d/a.json": "{}",
        "/etc/containerd/more.toml": 'imports = ["conf.d/*.toml"]',
        "/opt/one/x.toml": "",
        "/opt/two/y.toml": "",
    }.items():
        host.put(path, content)
    RUNTIME.observe(host, DESIRED)
    expected = ["conf.d/a.toml", "conf.d/b.toml"]
    expected = [f"/etc/containerd/{name}" for name in expected] + ["/opt/one/x.toml", "/none.toml"]
    assert host.read_by[DUMP] == (*expected, "/etc/containerd/more.toml")


def test_an_import_that_the_running_containerd_has_not_read() -> None:
    """By its dump config_path is right, but that stands in a drop-in which has changed since it started: not live. If
    containerd looked there before that change as well, it is."""
    host = machine('version = 2\nimports = ["conf.d/*.toml"]\n', "2.1.9")
    drop_in = "/etc/containerd/conf.d/a.toml"
    host.put(drop_in, "version = 2\n")
    memory = Memory(
        UP.invocation_id,
        (
            Setting(LOADED_CONTENT, json.dumps(digest_of(host.read(CONFIG)))),
            Setting(LOADED_PATH, json.dumps("")),
            Setting(LOADED_IMPORTS, json.dumps(digest_of_imports(look_at_daemon(host, DESIRED)))),
        ),
    )
    host.stored_ledger = Ledger().with_memory("containerd", memory)
    host.commands[DUMP] = CommandResult(0, table(2), "")
    host.put(drop_in, table(2))
    assert verdict(host) == Verdict(
        False, f"restart pending: {CONFIG} changed after containerd started: systemctl restart containerd"
    )
    had_it = replace(memory, loaded=(memory.loaded[0], Setting(LOADED_PATH, json.dumps(CERTS_D)), memory.loaded[2]))
    host.stored_ledger = Ledger().with_memory("containerd", had_it)
    assert verdict(host) == IN_USE


def test_imports_that_set_nothing() -> None:
    """The advice is for the main file, in its own version."""
    host = machine(IMPORTS.replace("3", "2"), "2.1.9")
    host.commands[DUMP] = CommandResult(0, table(3, "config_path = ''"), "")
    assert verdict(host) == Verdict(False, f"config_path is not set, so {CERTS_D} is not in use: {put(2)}")


def test_a_configuration_that_containerd_rejects() -> None:
    """The daemon still runs with the one before; the next start would fail."""
    host = machine(IMPORTS, "2.1.9")
    host.commands[DUMP] = CommandResult(1, "", "containerd: invalid")
    assert verdict(host) == Verdict(False, f"containerd rejects {CONFIG}: see `containerd config dump`")


def test_a_configuration_that_is_no_toml() -> None:
    """Said plainly; no traceback, no guess."""
    said = f"{CONFIG} cannot be read as TOML: a restart of containerd would fail"
    assert verdict(machine("version = ")) == Verdict(False, said)


def test_a_configuration_that_is_no_file() -> None:
    """A directory or a dangling link in its place is as bad."""
    host = machine(None)
    host.files[CONFIG] = Unusable("is a link to nothing")
    assert verdict(host).sentence == f"{CONFIG} cannot be read as TOML: a restart of containerd would fail"


def test_not_running() -> None:
    """Nothing can be live, but what will be wrong at its start is said already."""
    down = replace(UP, active=ActiveState.INACTIVE, sub_state="dead", main_pid=0)
    assert verdict(machine(table(2), unit=down)) == Verdict(None, "not running")
    assert verdict(machine(table(2, ""), unit=down)).sentence.startswith("not running; config_path is not set")


def test_starting() -> None:
    """A unit that comes up is not asked."""
    assert verdict(machine(table(2), unit=replace(UP, active=ActiveState.ACTIVATING))).sentence == "not up yet"


def test_units_not_controlled() -> None:
    """In a sandbox or an image there is no daemon to ask."""
    said = "units are not controlled here, so a running containerd cannot be asked"
    assert verdict(machine(table(2), unit=UnitState())) == Verdict(None, said)


@pytest.mark.parametrize(
    ("loaded", "runs"),
    [
        ((), [(PROGRAM, "--version")]),
        ((Setting("config_path", '"/etc/containerd/certs.d"'),), []),
        ((Setting("config_path", '""'), Setting("registry", '"5e1"')), [(PROGRAM, "--version")]),
    ],
)
def test_what_is_run_before_the_unit_is_up(loaded: tuple[Setting, ...], runs: list[tuple[str, ...]]) -> None:
    """At boot, before containerd, looking costs no process where it is known to read hosts.toml; else its version tells
    what must be in the file."""
    asked: list[tuple[str, ...]] = []

    class Asked(FakeHost):
        def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
            asked.append(tuple(argv))
            return super().command(argv, stdin, files)

    host = Asked(units={"containerd.service": replace(UP, active=ActiveState.INACTIVE)})
    host.put(PROGRAM, "")
    host.put(CONFIG, IMPORTS)
    host.stored_ledger = Ledger(memories={"containerd": Memory("i0", loaded)})
    RUNTIME.observe(host, DESIRED)
    assert asked == runs


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6", (1, 7, 24)),
        ("containerd containerd.io 1.6.28 ae07eda36dd25f8a1b98dfbf587313b99c0190bb", (1, 6, 28)),
        ("containerd github.com/containerd/containerd/v2 v2.0.9 7b1d2f0", (2, 0, 9)),
        ("containerd github.com/containerd/containerd/v2 v2.3.0-beta.1 0", (2, 3, 0)),
        ("", None),
        ("no version here", None),
    ],
)
def test_versions(output: str, version: tuple[int, int, int] | None) -> None:
    """Debian's, Docker's and upstream's ways of printing it."""
    assert parse_version(output) == version


def test_odd_types_are_read_as_nothing() -> None:
    """Values that containerd would refuse to load are no reason to fail."""
    assert read_config('version = "2"\nplugins = 3\ndisabled_plugins = "cri"\nimports = 0\n', None) == CriConfig()


# --- the report -----------------------------------------------------------------------------------------------------

REGISTRIES = (
    Registry("docker.io", "https://registry-1.docker.io", (Mirror("https://a.cn"), Mirror("https://b.cn/v2/x", True))),
    Registry("quay.io", "https://quay.io", (Mirror("https://q.cn"),), fallback=False),
    Registry("r.lan:5000", "http://r.lan:5000", plain_http=True),
    Registry("_default", "", (Mirror("http://127.0.0.1:1"),)),
)


def test_the_registries_in_the_report() -> None:
    """Mirrors in order, then the registry itself; the file; what this version cannot do; what was left out."""
    host = machine(table(2), "1.5.18")
    host.put(f"{CERTS_D}/quay.io/junk.crt", "junk")
    desired = DesiredState("0", registries=REGISTRIES)
    assert RUNTIME.report(desired, RUNTIME.observe(host, desired)) == RuntimeReport(
        "containerd",
        "containerd",
        installed=True,
        version="1.5.18",
        live=False,
        sentence=f"{IN_USE.sentence}; 4 files are to be put right",
        registries=(
            RegistryReport(
                "docker.io",
                ("https://a.cn", "https://b.cn/v2/x", "registry-1.docker.io"),
                f"{CERTS_D}/docker.io/hosts.toml",
                "containerd 1.5.18 does not read override_path (1.6 does)",
                live=False,
                state="to be written: docker.io is new in the desired state",
            ),
            RegistryReport(
                "quay.io",
                ("https://q.cn",),
                f"{CERTS_D}/quay.io/hosts.toml",
                f"{CERTS_D}/quay.io/junk.crt holds no certificate in PEM form",
                live=False,
                state="to be written: quay.io is new in the desired state",
            ),
            RegistryReport(
                "r.lan:5000",
                ("r.lan:5000 over http",),
                f"{CERTS_D}/r.lan_5000_/hosts.toml",
                live=False,
                state="to be written: r.lan:5000 is new in the desired state",
            ),
            RegistryReport(
                "_default",
                ("http://127.0.0.1:1", "each registry itself"),
                f"{CERTS_D}/_default/hosts.toml",
                "containerd 1.5.18 does not read _default (1.6.17 does)",
                live=False,
                state="to be written: _default is new in the desired state",
            ),
        ),
    )


def test_an_entry_without_a_file_is_reported_too() -> None:
    """It is asked directly."""
    desired = DesiredState("0", registries=(Registry("ghcr.io", "https://ghcr.io"),))
    report = RUNTIME.report(desired, RUNTIME.observe(machine(table(2)), desired))
    assert report.registries == (RegistryReport("ghcr.io", ("ghcr.io",), live=True),)


def test_a_registry_whose_file_is_missing_is_not_live() -> None:
    """certs.d is in use, and the file of one registry in it is not there: the row of that one says so."""
    host = machine(table(2))
    names = ("ghcr.io", "quay.io")
    desired = DesiredState(
        "0", registries=tuple(Registry(each, f"https://{each}", (Mirror("https://m.cn"),)) for each in names)
    )
    for action in RUNTIME.plan(desired, RUNTIME.observe(host, desired)).file_actions:
        if isinstance(action, WriteFile) and action.registry == "quay.io":
            host.put(action.path, action.content)
    report = RUNTIME.report(desired, RUNTIME.observe(host, desired))
    assert (report.live, report.sentence) == (False, f"{IN_USE.sentence}; 1 file is to be put right")
    assert [(row.live, row.state) for row in report.registries] == [
        (False, "to be written: ghcr.io is new in the desired state"),
        (True, ""),
    ]


def test_a_registry_that_is_refused_is_not_live() -> None:
    """What stands in the way is in the row and in the runtime's sentence: every pull of that registry fails."""
    host = machine(table(2))
    host.put(f"{CERTS_D}/ghcr.io", "")
    desired = DesiredState("0", registries=(Registry("ghcr.io", "https://ghcr.io", (Mirror("https://m.cn"),)),))
    report = RUNTIME.report(desired, RUNTIME.observe(host, desired))
    (conflict,) = RUNTIME.plan(desired, RUNTIME.observe(host, desired)).conflicts
    reason = f"{CERTS_D}/ghcr.io: {conflict.reason}"
    assert (report.live, report.sentence) == (False, f"needs you: {reason}")
    assert [(row.live, row.state) for row in report.registries] == [(False, f"refused: {reason}")]


def test_not_managed_and_not_installed() -> None:
    """No rows where nothing is done."""
    unmanaged = replace(DESIRED, containerd=ContainerdSettings(manage=Manage.NEVER))
    bare = FakeHost()
    bare.put(f"{CERTS_D}/r.lan/ca.crt", CERTIFICATE)
    reports = [
        RUNTIME.report(unmanaged, RUNTIME.observe(machine(table(2)), unmanaged)),
        RUNTIME.report(DESIRED, RUNTIME.observe(bare, DESIRED)),
    ]
    assert [(each.installed, each.live, each.sentence, each.registries) for each in reports] == [
        (True, None, "not managed (containerd.manage is false)", ()),
        (False, None, "not installed", ()),
    ]


@pytest.mark.parametrize(
    "content", [b"version = 2\n# \xff\n", b"\xef\xbb\xbfversion = 2\n", b"a = " + b"[" * 3000 + b"]" * 3000]
)
def test_a_file_that_containerd_reads_and_we_do_not(content: bytes) -> None:
    """containerd 1.x takes bytes that are no TOML: status says what to mend, and the file is never edited."""
    host = machine("")
    host.put(CONFIG, content)
    host.commands[(PROGRAM, "--config", CONFIG, "config", "dump")] = CommandResult(0, "version = 2\n", "")
    observed = RUNTIME.observe(host, DESIRED)
    made = RUNTIME.plan(DESIRED, observed)
    assert [conflict.path for conflict in made.conflicts] == [CONFIG]
    assert CONFIG not in {action.path for action in made.file_actions}
    assert verdict(host).is_live is False


def test_an_import_that_is_missing_is_mended_first() -> None:
    """containerd 2.x takes it in a dump and dies of it at its next start: nothing is edited, nothing restarted."""
    host = machine('version = 2\nimports = ["/nowhere/x.toml", "/etc/containerd/conf.d/*.toml"]\n', "2.1.9")
    dumped = 'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = ""\n'
    host.commands[(PROGRAM, "--config", CONFIG, "config", "dump")] = CommandResult(0, dumped, "")
    made = RUNTIME.plan(DESIRED, RUNTIME.observe(host, DESIRED))
    assert [(conflict.path, "/nowhere/x.toml" in conflict.reason) for conflict in made.conflicts] == [(CONFIG, True)]
    assert (CONFIG in {action.path for action in made.file_actions}, made.acts) == (False, ())
