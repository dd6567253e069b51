"""`mirror-agent mirrors --probe`: which mirrors, their probes, a table by speed, and the YAML to paste."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from agent import adopt, catalogue, image
from agent.cli.explain import in_force
from agent.cli.session import FAILED, FINE, Session
from agent.cli.terminal import Paint, Terminal, plain, table, width_of
from agent.desired.urls import canonical_url, path_of
from agent.errors import MirrorAgentError
from agent.health import probe_image
from agent.image import Image
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB, DesiredState, Header, Mirror, Registry, Regular
from agent.node import RealHost
from agent.probe import Limits, Result, Target, Verdict, probe
from agent.probe.pace import crowded
from agent.route import OF_USE, default_endpoint
from agent.settings import UsageError

OWN, KNOWN, GIVEN = "desired state", "catalogue", "command line"
_HEADINGS = ("MIRROR", "VERDICT", "TIME", "FROM", "WHAT")
_STYLES = {Verdict.OK: "good", Verdict.DENIED: "warn", Verdict.RATE_LIMITED: "warn", Verdict.LOGIN_REQUIRED: "warn"}
_MOST_PASTED = 3
_NARROWEST_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mirror that is to be probed, and who named it. `registry` is the entry of the desired state it stands in, or
    one as it would be written."""

    registry: Registry
    mirror: Mirror
    origin: str


@dataclass(frozen=True, slots=True)
class Probed:
    """A candidate and what its probe came to."""

    candidate: Candidate
    result: Result

    @property
    def is_ok(self) -> bool:
        return self.result.finding.verdict is Verdict.OK

    @property
    def note(self) -> str:
        """What the catalogue knows about a mirror that does not work, "" where it knows nothing."""
        entry = None if self.is_ok else catalogue.find(self.candidate.mirror.url)
        return entry.note if entry else ""

    @property
    def sentence(self) -> str:
        """What a person reads."""
        known_note = f" (known: {self.note})" if self.note else ""
        return plain(self.result.finding.sentence) + known_note


def run(session: Session) -> int:
    """Probe, and print what came of it. Raises UsageError."""
    wanted = image.parse(session.options.image) if session.options.image else None
    registry = _registry(session.options.registry.lower(), wanted)
    desired = in_force(session)
    urls = session.options.probe
    chosen = given(urls, registry, desired) if urls else known(registry, desired)
    if not chosen:
        raise MirrorAgentError(f"no mirror of {registry} is known: name one, as in --probe https://mirror.example")
    every = by_speed(_probed(session, chosen, wanted))
    yaml = adopt.registries_text(to_paste(every)) if any(each.is_ok for each in every) else ""
    if session.json:
        session.write_json({"probes": [document(each) for each in every], "yaml": yaml})
    else:
        session.terminal.write("\n".join(lines(every, yaml, session.terminal.paint, session.terminal.width)))
    return FINE if yaml else FAILED


def _registry(named: str, wanted: Image | None) -> str:
    """The one registry that is meant, "" if none is."""
    if wanted and named and named != wanted.registry:
        raise UsageError(f"--image {wanted.name} is an image of {wanted.registry}, not of {named}")
    return wanted.registry if wanted else named


# --- which ---------------------------------------------------------------------------------------------------------


def given(urls: Sequence[str], registry: str, desired: DesiredState) -> list[Candidate]:
    """The mirrors of the command line; what the desired state names too, as it is there. Raises UsageError."""
    own = {each.mirror.url: each for each in reversed(_own(registry, desired))}
    return [own.get(url) or _stranger(url, registry) for url in dict.fromkeys(map(_url, urls))]


def _url(text: str) -> str:
    try:
        return canonical_url(text)
    except ValueError as error:
        raise UsageError(f"--probe: {error}") from error


def _stranger(url: str, registry: str) -> Candidate:
    entry = catalogue.find(url)
    serves = [name for name, served in entry.serves if served == url] if entry else []
    mirror = Mirror(url, override_path=path_of(url).startswith("/v2/"))
    return Candidate(_plain_entry(registry or next(iter(serves), DOCKER_HUB)), mirror, GIVEN)


def known(registry: str, desired: DesiredState) -> list[Candidate]:
    """The desired state's own mirrors, then the catalogue's: those that work at least for some and can be written to a
    node."""
    own = _own(registry, desired)
    there = {(each.registry.name, each.mirror.url) for each in own}
    name = registry or DOCKER_HUB
    entry = next((each.registry for each in own if each.registry.name == name), _plain_entry(name))
    found = [
        Candidate(entry, Mirror(url), KNOWN)
        for each in catalogue.mirrors()
        for served, url in each.serves
        if served == name and each.state in OF_USE and not each.host.startswith("*.")
        if each.kind is catalogue.MirrorKind.PREFIX_REPLACE and (name, url) not in there
    ]
    return [*own, *found]


def _own(registry: str, desired: DesiredState) -> list[Candidate]:
    """Of one registry, or of all; `_default` stands in for a registry without an entry."""
    by_name = {each.name: each for each in desired.registries}
    entry = by_name.get(registry) or by_name.get(DEFAULT_REGISTRY)
    entries = list(by_name.values()) if not registry else [entry] if entry else []
    return [Candidate(each, mirror, OWN) for each in entries for mirror in each.mirrors]


def _plain_entry(name: str) -> Registry:
    return Registry(name, default_endpoint(name))


# --- the probes ------------------------------------------------------------------------------------------------------


def _probed(session: Session, chosen: Sequence[Candidate], wanted: Image | None) -> Iterator[Probed]:
    host = session.host()
    content, limits = session.options.content, Limits(session.options.timeout)
    targets = {
        id(target): (target, each)
        for each in chosen
        for target in [Target(_here(session, host, each.mirror), wanted or image_for(each), checks_content=content)]
    }
    for site, count in crowded(each.mirror.url.partition("://")[2].partition("/")[0] for each in chosen).items():
        session.terminal.complain(f"{count} mirrors of {site}: a few a minute, to stay below its rate limit")
    progress = _Progress(session.terminal, len(targets))
    try:
        for result in probe([target for target, _ in targets.values()], limits):
            progress.show(result)
            yield Probed(targets[id(result.target)][1], result)
    finally:
        progress.clear()


def image_for(candidate: Candidate) -> Image:
    """The image that a registry is probed with where none is named."""
    return image.parse(probe_image(candidate.registry.name))


def _here(session: Session, host: RealHost, mirror: Mirror) -> Mirror:
    """The mirror with its paths as they are on this machine, and its header files among the headers; one that cannot be
    read is left out, and the mirror then says what it misses."""
    root = session.settings.root.rstrip("/")
    headers = [Header(each.name, (value,)) for each in mirror.header_files if (value := _secret(host, each.path))]
    return replace(
        mirror,
        ca=tuple(f"{root}{path}" for path in mirror.ca),
        client=tuple(
            replace(pair, cert=f"{root}{pair.cert}", key=pair.key and f"{root}{pair.key}") for pair in mirror.client
        ),
        headers=(*mirror.headers, *headers),
        header_files=(),
    )


def _secret(host: RealHost, path: str) -> str:
    state = host.read(path)
    text = state.content.decode("ascii", "replace").strip() if isinstance(state, Regular) else ""
    return text if text.isascii() and text.isprintable() else ""


class _Progress:
    """One line on standard error that tells how far it is; nothing where nobody looks at a terminal."""

    def __init__(self, terminal: Terminal, total: int) -> None:
        self._out = terminal.err if terminal.err.isatty() else None
        self._total = total
        self._done = self._good = 0
        self._write(f"probing {total} mirrors …" if total > 1 else "probing …")

    def show(self, result: Result) -> None:
        """One more is done."""
        self._done += 1
        self._good += result.finding.verdict is Verdict.OK
        host = result.target.mirror.url.partition("://")[2]
        self._write(f"{self._done} of {self._total} probed, {self._good} ok; {host}: {result.finding.verdict.value}")

    def clear(self) -> None:
        """Leave nothing of it behind."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._out:
            self._out.write(f"\r\x1b[K{plain(text)[:78]}")
            self._out.flush()


# --- what came of it -------------------------------------------------------------------------------------------------


def by_speed(probed: Iterator[Probed]) -> list[Probed]:
    """Registry by registry, what works first, the fastest first."""
    every = list(probed)
    names = dict.fromkeys(each.candidate.registry.name for each in every)
    order = {name: place for place, name in enumerate(names)}
    return sorted(
        every,
        key=lambda each: (
            order[each.candidate.registry.name],
            not each.is_ok,
            each.result.seconds if each.is_ok else 0.0,
            each.candidate.mirror.url,
        ),
    )


def to_paste(every: Sequence[Probed]) -> Iterator[Registry]:
    """Each registry with the mirrors that work: the desired state's own, and of others the fastest few."""
    entries = dict.fromkeys(each.candidate.registry for each in every if each.is_ok)
    for entry in entries:
        good = [each.candidate for each in every if each.is_ok and each.candidate.registry == entry]
        strangers = [each for each in good if each.origin != OWN][:_MOST_PASTED]
        yield replace(entry, mirrors=tuple(each.mirror for each in good if each.origin == OWN or each in strangers))


def lines(every: Sequence[Probed], yaml: str, paint: Paint, width: int | None) -> Iterator[str]:
    """A table for each registry, then what to paste."""
    for name in dict.fromkeys(each.candidate.registry.name for each in every):
        chosen = [each for each in every if each.candidate.registry.name == name]
        tested = chosen[0].result.target.image.name
        yield paint("strong", f"{name}, probed with {plain(tested)}")
        yield from _table(chosen, paint, width)
        yield ""
    if yaml:
        yield "What works, as it can stand in the desired state:"
        yield ""
        yield from plain(yaml).splitlines()
    else:
        yield "None of them works from here."


def _table(chosen: Sequence[Probed], paint: Paint, width: int | None) -> Iterator[str]:
    heads = table([_HEADINGS[:-1], *(_cells(each) for each in chosen)])
    columns = max(map(width_of, heads)) + 2
    styles = ["dim", *(_STYLES.get(each.result.finding.verdict, "bad") for each in chosen)]
    texts = [_HEADINGS[-1], *(each.sentence for each in chosen)]
    for style, head, text in zip(styles, heads, texts, strict=True):
        room = width - columns if width else 0
        first, *more = textwrap.wrap(text, room) if room >= _NARROWEST_COLUMNS else [text]
        yield paint(style, head) + " " * (columns - width_of(head)) + first
        yield from (" " * columns + line for line in more)


def _cells(probed: Probed) -> tuple[str, ...]:
    time = f"{probed.result.seconds * 1000:.0f} ms" if probed.is_ok else "-"
    return (probed.candidate.mirror.url, probed.result.finding.verdict.value, time, probed.candidate.origin)


def document(probed: Probed) -> dict[str, object]:
    """For scripts."""
    finding, result = asdict(probed.result.finding), probed.result
    return {
        "registry": probed.candidate.registry.name,
        "mirror": probed.candidate.mirror.url,
        "from": probed.candidate.origin,
        "image": result.target.image.name,
        **finding,
        "verdict": result.finding.verdict.value,
        "advice": result.finding.verdict.advice,
        "known": probed.note,
        "seconds": round(result.seconds, 3),
        "requests": result.requests,
    }
