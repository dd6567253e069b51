"""What a person sees of a status: whole texts, plain and in colours, in any script and width."""

import time
from dataclasses import replace

import pytest

from agent.cli.mirror_views import mirror_lines
from agent.cli.shown import Shown
from agent.cli.terminal import padded, painted, plain, table, width_of
from agent.cli.views import status_lines, word_of
from agent.cli.wording import age, moment
from agent.errors import WHOLE_FILE, Problem
from agent.model import RegistryReport, RuntimeReport
from agent.plan import Conflict, Contention
from agent.proof import Proof
from agent.status import MirrorStatus, Pending, Status

ALIYUN, DAOCLOUD, GHCR = (
    "https://uw9bnv9c.mirror.aliyuncs.com",
    "https://docker.m.daocloud.io",
    "https://ghcr.m.daocloud.io",
)
CONTAINERD = RuntimeReport(
    "containerd",
    "containerd",
    True,
    "1.7.24",
    True,
    "/etc/containerd/certs.d is in use, nothing to restart",
    (
        RegistryReport("docker.io", (ALIYUN, DAOCLOUD, "registry-1.docker.io")),
        RegistryReport("ghcr.io", (GHCR, "ghcr.io")),
    ),
)
DOCKER = RuntimeReport(
    "docker",
    "Docker",
    True,
    "26.1.5",
    True,
    "reloaded 12 s ago, no container was touched",
    (
        RegistryReport("docker.io", (ALIYUN, DAOCLOUD, "Docker Hub")),
        RegistryReport("ghcr.io", (), note="not possible in Docker 26; pull ghcr.m.daocloud.io/NAME instead"),
    ),
)
LIVE = Shown(
    Status(
        generation="7f3a91c" + "0" * 57,
        source="/etc/mirror-agent.yaml",
        converged_at=1000.0,
        cause="after an edit of /etc/mirror-agent.yaml",
        runtimes=(CONTAINERD, DOCKER),
    ),
    now=1012.9,
    daemon_pid=123,
)


def as_it_is(_: str, text: str) -> str:
    return text


def text_of(shown: Shown, width: int | None = None) -> str:
    return "\n".join(status_lines(shown, as_it_is, width))


def changed(shown: Shown, **fields: object) -> Shown:
    return replace(shown, status=replace(shown.status, **fields))  # type: ignore[arg-type]


def test_a_live_node() -> None:
    """The answer, then each runtime, then its registries with their hosts in order, in straight columns."""
    assert text_of(LIVE) == (
        "converged   7f3a91c, 12 s ago, after an edit of /etc/mirror-agent.yaml\n"
        "containerd  1.7.24  live      /etc/containerd/certs.d is in use, nothing to restart\n"
        f"  docker.io  {ALIYUN}, {DAOCLOUD}, then registry-1.docker.io\n"
        f"  ghcr.io    {GHCR}, then ghcr.io\n"
        "Docker      26.1.5  live      reloaded 12 s ago, no container was touched\n"
        f"  docker.io  {ALIYUN}, {DAOCLOUD}, then Docker Hub\n"
        "  ghcr.io    not possible in Docker 26; pull ghcr.m.daocloud.io/NAME instead"
    )


def test_everything_that_can_be_wrong_is_said() -> None:
    """Each trouble has a line that begins with its kind; the first word of all is the worst of them."""
    troubled = changed(
        replace(LIVE, missing=("containerd: write /x (0644): somebody changed it",), daemon_pid=0),
        outcome="failed",
        runtimes=(replace(DOCKER, live=False, registries=()),),
        problems=(Problem(4, 5, "registries.docker.io.mirror", 'unknown key, did you mean "mirrors"?', 6),),
        conflicts=(Conflict("/etc/docker/daemon.json", "is not JSON; mend it"),),
        contentions=(
            Contention("/etc/docker/daemon.json", "docker", "nvidia-ctk", 1052.9),
            Contention("/etc/containerd/certs.d/ghcr.io/hosts.toml", "containerd", "", 1312.9, is_held=False),
            Contention("/etc/x", "docker", "Ansible", 1012.9 + 71 * 3600, is_held=False, takes_restarts=True),
        ),
        pending=(Pending("docker", "restart", "docker.service", "it waits for 02:00", 60.0, "log-driver changed"),),
        last_error="/etc/docker: read-only file system (EROFS)",
        last_error_at=952.0,
    )
    assert text_of(troubled) == (
        "invalid     7f3a91c stays in force, 12 s ago, after an edit of /etc/mirror-agent.yaml\n"
        "Docker      26.1.5  not live  reloaded 12 s ago, no container was touched\n"
        'invalid     /etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key, did you mean "mirrors"?\n'
        "conflict    /etc/docker/daemon.json: is not JSON; mend it\n"
        "contended   /etc/docker/daemon.json: somebody else (nvidia-ctk, by its marks) keeps changing it, and the"
        " runtime is not restarted meanwhile; it is put back in 40 s\n"
        "contended   /etc/containerd/certs.d/ghcr.io/hosts.toml: somebody else keeps changing it, and the runtime"
        " is not restarted meanwhile; it is as desired; over in 5 min without a change\n"
        "contended   /etc/x: somebody else (Ansible, by its marks) keeps changing it, and each time it takes a restart"
        " to undo it, so none is made for now; the file is as desired, and the restart is made in 71 h, or after an"
        " edit of the desired state\n"
        "drift       containerd: write /x (0644): somebody changed it\n"
        "pending     docker: restart, because it waits for 02:00: log-driver changed\n"
        "last error  1 min ago: /etc/docker: read-only file system (EROFS)\n"
        "no daemon   nobody keeps it so: systemctl start mirror-agent"
    )


@pytest.mark.parametrize(
    ("shown", "word", "live"),
    [
        (LIVE, "converged", True),
        (replace(LIVE, daemon_pid=0), "converged", True),
        (changed(LIVE, generation=""), "inert", False),
        (changed(LIVE, runtimes=(replace(DOCKER, live=False),)), "not live", False),
        (changed(LIVE, runtimes=(replace(DOCKER, live=None),)), "converged", True),
        (changed(LIVE, outcome="degraded"), "degraded", False),
        (changed(LIVE, outcome="failed"), "failed", False),
        (changed(LIVE, pending=(Pending("docker", "restart", "docker.service", "waits"),)), "pending", False),
        (replace(LIVE, missing=("docker: write /x: y",)), "drifted", False),
        (replace(LIVE, missing=("docker: write /x: y",), is_new=True), "pending", False),
        (changed(LIVE, conflicts=(Conflict("/x", "y"),)), "conflict", False),
        (changed(LIVE, contentions=(Contention("/x", "docker", "", 1.0),)), "contended", False),
        (changed(LIVE, problems=(Problem(1, 1, "x", "y"),)), "invalid", False),
    ],
)
def test_the_first_word_and_the_exit_code_agree(shown: Shown, word: str, live: bool) -> None:
    """`converged` and nothing else is live."""
    assert (word_of(shown), shown.is_live) == (word, live)
    assert (word == "converged") is live


PROVED = Proof("containerd", "containerd", True, "it asked")
NOT_PROVED = Proof("containerd", "containerd", False, "restart pending")
NO_PROOF = Proof("docker", "Docker", None, "not running")


def test_what_a_test_came_to_is_said() -> None:
    """One line for each runtime, below all that is known without it."""
    lines = text_of(replace(LIVE, proofs=(PROVED, NOT_PROVED, NO_PROOF))).splitlines()
    assert lines[-3:] == [
        "proved      containerd: it asked",
        "not proved  containerd: restart pending",
        "no proof    Docker: not running",
    ]


@pytest.mark.parametrize(
    ("proofs", "live"),
    [
        (None, True),
        ((), False),
        ((PROVED,), True),
        ((PROVED, NO_PROOF), True),
        ((NO_PROOF,), False),
        ((PROVED, NOT_PROVED), False),
    ],
)
def test_where_a_test_was_asked_for_it_decides_too(proofs: tuple[Proof, ...] | None, live: bool) -> None:
    """Something must be proved and nothing refuted; and what is not live stays so."""
    assert replace(LIVE, proofs=proofs).is_live is live
    assert not changed(replace(LIVE, proofs=proofs), outcome="failed").is_live


def test_a_mirror_that_is_not_probed_says_why() -> None:
    """Once, on a line of its own, in the place of a verdict that is no longer known to hold; the others have theirs."""
    blind = MirrorStatus("docker.io", ALIYUN, "hanging", "was hanging", unprobed="its CA file cannot be read")
    well = MirrorStatus("docker.io", DAOCLOUD, "ok", "answers", since=900.0, probed_at=1000.0, seconds=0.1)
    lines = list(mirror_lines((blind, well), 1012.9, as_it_is))
    assert [line.split("  ")[3].strip() if "asked" in line else line.strip() for line in lines[1:3]] == [
        "not probed",
        "not probed: its CA file cannot be read",
    ]
    assert (len(lines), "ok since" in lines[3]) == (4, True)


def test_a_file_that_names_nothing_is_said_to() -> None:
    """As it is after the installation: all is well, and it tells what to do next."""
    lines = text_of(replace(changed(LIVE, source="/etc/x.yaml"), names_nothing=True)).splitlines()
    assert lines[0].endswith("; /etc/x.yaml names no registry yet")


def test_a_problem_of_the_file_as_a_whole_has_no_place() -> None:
    """No line and no column where there is no text, and the path once."""
    missing, open_to_all = Problem(1, 1, WHOLE_FILE, "/etc/x.yaml: no such file"), Problem(1, 1, WHOLE_FILE, "is open")
    lines = text_of(changed(LIVE, source="/etc/x.yaml", problems=(missing, open_to_all))).splitlines()
    assert [line for line in lines if line.startswith("invalid ")][-2:] == [
        "invalid     /etc/x.yaml: no such file",
        "invalid     /etc/x.yaml: is open",
    ]


def test_chinese_titles_and_names_keep_the_columns_straight() -> None:
    """A Chinese character takes two columns, and the padding knows it."""
    report = replace(DOCKER, title="容器引擎甲乙丙", registries=(RegistryReport("镜像", (GHCR,)), DOCKER.registries[0]))
    lines = text_of(changed(LIVE, runtimes=(report, CONTAINERD))).splitlines()
    assert lines[1].startswith("容器引擎甲乙丙  26.1.5")
    assert lines[4].startswith("containerd      1.7.24")
    assert {width_of(line[: line.index("https://")]) for line in lines[2:4]} == {13}


def test_a_registry_that_differs_from_its_runtime_says_so() -> None:
    """Only there: what is as the runtime is, or cannot be told, needs no word."""
    rows = tuple(RegistryReport(f"r{live}.io", (GHCR,), live=live) for live in (True, False, None))
    for live, expected in ((True, ["", "; not live", ""]), (False, ["; live", "", ""]), (None, ["", "", ""])):
        report = replace(CONTAINERD, live=live, registries=rows)
        lines = text_of(changed(LIVE, runtimes=(report,))).splitlines()
        assert [line.partition(GHCR)[2] for line in lines[2:5]] == expected


def test_on_a_narrow_terminal_hosts_go_below_each_other() -> None:
    """No line is wider than the terminal, and what was wrapped stands under its first host."""
    lines = text_of(LIVE, 78).splitlines()
    assert max(map(len, lines[2:4])) <= 78
    assert lines[3] == " " * 13 + f"{DAOCLOUD}, then registry-1.docker.io"


def test_colours_change_nothing_but_colours() -> None:
    """Without its escape codes the coloured text is the plain one; live is green, what is wrong is not."""
    coloured = "\n".join(status_lines(LIVE, painted))
    for code in ("\x1b[32m", "\x1b[1m", "\x1b[0m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == text_of(LIVE)


def test_what_comes_from_files_cannot_steer_a_terminal() -> None:
    """Escape codes in a message are written out."""
    shown = changed(LIVE, conflicts=(Conflict("/etc/x\x1b[2J", "\x9b31m"),))
    assert text_of(shown).splitlines()[-1] == "conflict    /etc/x\\x1b[2J: \\x9b31m"
    assert plain("a\tb\n") == "a\tb\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0 s ago"),
        (0.0, "0 s ago"),
        (59.9, "59 s ago"),
        (60.0, "1 min ago"),
        (7199.0, "1 h ago"),
        (86400.0, "1 day ago"),
        (3 * 86400.0, "3 days ago"),
    ],
)
def test_ages_are_in_the_largest_unit_that_fits(seconds: float, words: str) -> None:
    """A clock that went backwards gives no negative age."""
    assert age(seconds) == words


def test_a_moment_of_another_day_has_its_date() -> None:
    """Today the time is enough."""
    noon = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
    assert (moment(noon - 5280, noon), moment(noon - 86400, noon)) == ("10:32", "2026-11-23 12:00")


def test_a_table_is_as_wide_as_its_cells() -> None:
    """Columns are aligned by what is seen, and no line ends in spaces."""
    assert table([("a", "bb", ""), ("镜像", "b", "c")]) == ["a     bb", "镜像  b   c"]
    assert table([]) == []
    assert padded("镜", 4) == "镜  "
