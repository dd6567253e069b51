"""What a person sees of a status: pure functions from values to lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.cli.mirror_views import mirror_lines
from agent.cli.terminal import Paint, padded, plain, width_of
from agent.cli.wording import HEAD_COLUMNS, age, lasting, moment, wrapped
from agent.model import KeptFile, RegistryReport, RuntimeReport

if TYPE_CHECKING:
    from agent.cli.shown import Shown
    from agent.plan import Contention
    from agent.proof import Proof

_WORD_STYLES = {"converged": "good", "live": "good", "not live": "bad", "failed": "bad", "invalid": "bad"}

_MOST_STRAYS = 20


def status_lines(shown: Shown, paint: Paint, width: int | None = None) -> Iterator[str]:
    """The whole status, one line after the other: the answer, each runtime with its registries, what is wrong."""
    yield _headline(shown, paint)
    titles = max((width_of(report.title) for report in shown.status.runtimes), default=0)
    versions = max((width_of(report.version) for report in shown.status.runtimes), default=0)
    for report in shown.status.runtimes:
        yield _runtime_line(report, (max(titles, HEAD_COLUMNS), versions), paint)
        yield from _registry_lines(report, width)
    yield from mirror_lines(shown.status.mirrors, shown.now, paint, width)
    yield from _troubles(shown, paint)


def word_of(shown: Shown) -> str:
    """The state in one word; the worst that is true of it."""
    status = shown.status
    if not status.generation:
        return "failed" if status.outcome == "failed" else "inert"
    candidates = (
        ("invalid", bool(status.problems)),
        ("failed", status.outcome == "failed"),
        ("conflict", bool(status.conflicts)),
        ("contended", bool(status.contentions)),
        ("drifted", bool(shown.missing) and not shown.is_new),
        ("pending", bool(shown.missing or status.pending)),
        ("degraded", status.outcome == "degraded"),
        ("not live", any(report.live is False for report in status.runtimes)),
    )
    return next((word for word, holds in candidates if holds), "converged")


def contested(contention: Contention, now: float) -> str:
    """Who fights over a file, and what becomes of it."""
    by = f" ({contention.writer}, by its marks)" if contention.writer else ""
    when = f"in {lasting(max(0.0, contention.until - now))}"
    if contention.takes_restarts:
        return (
            f"somebody else{by} keeps changing it, and each time it takes a restart to undo it, so none is made for"
            f" now; the file is as desired, and the restart is made {when}, or after an edit of the desired state"
        )
    what = f"it is put back {when}" if contention.is_held else f"it is as desired; over {when} without a change"
    return f"somebody else{by} keeps changing it, and the runtime is not restarted meanwhile; {what}"


def stray_lines(strays: Sequence[KeptFile], now: float) -> list[str]:
    """Kept originals that belong nowhere any more, each with what it looks like; of very many the first."""
    lines = [f"{each.path}: {_likeness(each)}, kept since {moment(each.kept_at, now)}" for each in strays]
    rest = len(lines) - _MOST_STRAYS
    return [*lines[:_MOST_STRAYS], f"and {rest} more in the same place"] if rest > 0 else lines


def _likeness(stray: KeptFile) -> str:
    return f"looks like {stray.form}" if stray.form else "looks like nothing that mirror-agent writes"


def _headline(shown: Shown, paint: Paint) -> str:
    word = word_of(shown)
    head = paint(_WORD_STYLES.get(word, "warn"), padded(word, HEAD_COLUMNS))
    return f"{head}  {plain(_headline_text(shown))}"


def _headline_text(shown: Shown) -> str:
    status = shown.status
    if not status.generation and status.outcome == "failed":
        return "nothing can be looked at or changed"
    if not status.generation:
        return "there is no valid desired state, so nothing is managed"
    parts = [f"{status.short_generation} stays in force" if status.problems else status.short_generation]
    if status.converged_at:
        parts.append(age(shown.now - status.converged_at))
    text = ", ".join([*parts, status.cause] if status.cause else parts)
    return f"{text}; {status.source} names no registry yet" if shown.names_nothing else text


def _runtime_line(report: RuntimeReport, columns: tuple[int, int], paint: Paint) -> str:
    """`columns` are those of title and version; without any version there is no such column."""
    title = paint("strong", padded(report.title, columns[0]))
    word = {True: "live", False: "not live", None: "files" if report.installed else "-"}[report.live]
    state = paint(_WORD_STYLES.get(word, "dim"), padded(word, 8))
    version = [padded(report.version or "-", columns[1])] if columns[1] else []
    return "  ".join([title, *version, state, plain(report.sentence)]).rstrip()


def _registry_lines(report: RuntimeReport, width: int | None) -> Iterator[str]:
    names = max((width_of(registry.name) for registry in report.registries), default=0)
    for registry in report.registries:
        line = f"  {padded(registry.name, names)}  {_hosts(registry)}{_own_state(registry, report)}"
        yield from wrapped(plain(line), width, indent=names + 4)


def _own_state(registry: RegistryReport, report: RuntimeReport) -> str:
    """What is not so yet, or where a registry differs from its runtime."""
    if registry.state:
        return f"; {registry.state}"
    if registry.live is None or report.live is None or registry.live is report.live:
        return ""
    return "; live" if registry.live else "; not live"


def _hosts(registry: RegistryReport) -> str:
    """`https://a, https://b, then registry-1.docker.io`: what is no URL is the registry itself."""
    mirrors = [host for host in registry.hosts if "://" in host]
    own = [host for host in registry.hosts if "://" not in host]
    text = ", then ".join([", ".join(mirrors), *own] if mirrors else own)
    return "; ".join(part for part in (text, registry.note) if part)


def _troubles(shown: Shown, paint: Paint) -> Iterator[str]:
    status = shown.status
    for problem in status.problems:
        yield _trouble("invalid", problem.line_of(status.source), paint)
    for conflict in status.conflicts:
        yield _trouble("conflict", f"{conflict.path}: {conflict.reason}", paint)
    for contention in status.contentions:
        yield _trouble("contended", f"{contention.path}: {contested(contention, shown.now)}", paint)
    for step in shown.missing:
        yield _trouble("pending" if shown.is_new else "drift", step, paint)
    for pending in status.pending:
        wanted = f": {pending.wanted}" if pending.wanted else ""
        yield _trouble("pending", f"{pending.runtime}: {pending.action}, because {pending.reason}{wanted}", paint)
    for proof in shown.proofs or ():
        yield _proof_line(proof, paint)
    yield from _own_troubles(shown, paint)


def _own_troubles(shown: Shown, paint: Paint) -> Iterator[str]:
    """What is wrong with the agent itself."""
    status = shown.status
    if status.ledger:
        yield _trouble("ledger", status.ledger, paint)
        for line in stray_lines(status.strays, shown.now):
            yield _trouble("kept", line, paint)
    if status.last_error and status.outcome in {"failed", "degraded"}:
        yield _trouble("last error", f"{age(shown.now - status.last_error_at)}: {status.last_error}", paint)
    if status.metrics_error:
        yield _trouble("no metrics", status.metrics_error, paint)
    if shown.daemon_pid == 0:
        yield _trouble("no daemon", "nobody keeps it so: systemctl start mirror-agent", paint)


def _proof_line(proof: Proof, paint: Paint) -> str:
    """`proved`, `not proved`, or `no proof` where there is nothing to prove."""
    word, style = {True: ("proved", "good"), False: ("not proved", "bad"), None: ("no proof", "dim")}[proof.is_proved]
    return f"{paint(style, padded(word, HEAD_COLUMNS))}  {plain(f'{proof.title}: {proof.sentence}')}"


def _trouble(word: str, sentence: str, paint: Paint) -> str:
    style = "bad" if word in {"invalid", "ledger", "last error"} else "warn"
    return f"{paint(style, padded(word, HEAD_COLUMNS))}  {plain(sentence)}"
