"""From what runtimes say about a node to the text of a desired state: YAML that always loads, with where each thing
came from, and with everything that could not be said as a comment.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from agent.desired import load
from agent.desired.models import MAX_REGISTRIES
from agent.errors import DesiredStateError
from agent.found import Found, FoundRegistry
from agent.model import ClientPair, DesiredState, Mirror, Registry, Setting

_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/._-]*|[0-9]+(?:ns|us|ms|s|m|h)|https?://[A-Za-z0-9.:/_~+-]*[A-Za-z0-9/_~+-]")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_WIDTH = 116
_USUAL = Mirror("")
_TOO_MANY = f"left out: a desired state has at most {MAX_REGISTRIES} registries"
_HEAD = (
    "This node as it is, as mirror-agent import found it. Look through the comments, save it as {source}, and see with "
    "mirror-agent plan what it would change."
)


def text(founds: Sequence[Found], source: str, notes: Iterable[str] = ()) -> str:
    """The whole file. `notes` are sentences for its head."""
    entries = {each.entry.name: each for found in founds for each in found.registries}
    reasons = [_reason(each) for each in entries.values()]
    said = list(accumulate(reason is None for reason in reasons))
    reasons = [_TOO_MANY if count > MAX_REGISTRIES else why for count, why in zip(said, reasons, strict=True)]
    has_registries = any(said)
    lines = [*_comment(_HEAD.format(source=source)), *(line for note in notes for line in _comment(note))]
    lines += ["version: 1", "registries:" if has_registries else "registries: {}"]
    for each, reason in zip(entries.values(), reasons, strict=True):
        lines += _registry(each, reason)
    has_any = has_registries or any(found.settings for found in founds)
    for found in founds:
        lines += _section(found, has_any=has_any)
    return "\n".join(lines) + "\n"


# --- registries ------------------------------------------------------------------------------------------------------


def _reason(found: FoundRegistry) -> str | None:
    """Why an entry has to stay a comment ("" if its remarks say so); None if it can stand."""
    if found.is_silent:
        return ""
    problems = _problems(["registries:", *_entry(found.entry)])
    return f"left out: {'; '.join(problems)}" if problems else None


def _registry(found: FoundRegistry, reason: str | None) -> Iterator[str]:
    """Where it is from, what is not in it, and the entry; all of it a comment where the entry cannot stand."""
    yield ""
    yield from _comment(f"from {' and '.join(found.sources)}", "  ")
    for remark in (*found.remarks, reason):
        yield from _comment(remark, "  ") if remark else ()
    lines = _entry(found.entry)
    yield from lines if reason is None else (f"  # {line.removeprefix('  ')}" for line in lines)


def registries_text(registries: Iterable[Registry]) -> str:
    """Entries of a desired state, to be pasted into one."""
    return "\n".join(["registries:", *(line for registry in registries for line in _entry(registry)), ""])


def _entry(registry: Registry) -> list[str]:
    options = list(_options(registry))
    if not registry.mirrors:
        return [f"  {_scalar(registry.name)}: {{{', '.join(options)}}}"]
    lines = [f"  {_scalar(registry.name)}:", "    mirrors:"]
    for mirror in registry.mirrors:
        lines += _mirror(mirror)
    return [*lines, *(f"    {option}" for option in options)]


def _options(registry: Registry) -> Iterator[str]:
    implied = f"{'http' if registry.plain_http else 'https'}://{registry.name}"
    hub = registry.name == "docker.io" and registry.server == "https://registry-1.docker.io"
    if registry.server and registry.server != implied and not hub:
        yield f"server: {_scalar(registry.server)}"
    if not registry.fallback:
        yield "fallback: false"
    if registry.insecure:
        yield "insecure: true"
    if registry.plain_http:
        yield "plain_http: true"


def _mirror(mirror: Mirror) -> list[str]:
    options = list(_mirror_options(mirror))
    if not options:
        return [f"      - {_scalar(mirror.url)}"]
    return [f"      - url: {_scalar(mirror.url)}", *(f"        {option}" for option in options)]


def _mirror_options(mirror: Mirror) -> Iterator[str]:
    if mirror.override_path:
        yield "override_path: true"
    if mirror.capabilities != _USUAL.capabilities:
        yield f"capabilities: {_list(mirror.capabilities)}"
    if mirror.ca:
        yield f"ca: {_list(mirror.ca)}"
    if mirror.client:
        yield f"client: [{', '.join(_pair(pair) for pair in mirror.client)}]"
    if mirror.skip_verify:
        yield "skip_verify: true"
    if mirror.headers:
        yield f"header: {{{', '.join(f'{_scalar(each.name)}: {_list(each.values)}' for each in mirror.headers)}}}"
    if mirror.header_files:
        files = (f"{_scalar(each.name)}: {_scalar(each.path)}" for each in mirror.header_files)
        yield f"header_file: {{{', '.join(files)}}}"
    if mirror.dial_timeout != _USUAL.dial_timeout:
        yield f"dial_timeout: {_scalar(mirror.dial_timeout)}"


def _pair(pair: ClientPair) -> str:
    key = f", key: {_scalar(pair.key)}" if pair.key else ""
    return f"{{cert: {_scalar(pair.cert)}{key}}}"


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(map(_scalar, items))}]"


def _scalar(value: str) -> str:
    """A text that every reader of YAML takes for that text; a JSON string is one."""
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)


# --- sections --------------------------------------------------------------------------------------------------------


def _section(found: Found, *, has_any: bool) -> Iterator[str]:
    """A runtime's own part. Where nothing of it belongs to the desired state it is left alone, or what others say would
    come to it too."""
    settings = [line for setting in found.settings for line in _setting(found.runtime, setting)]
    paths = [line for key, value in found.paths for line in _path(found.runtime, key, value)]
    is_left_alone = found.manage is None and found.installed and has_any
    keys = [*paths, *(["  manage: false"] if is_left_alone else ())]
    keys += ["  settings:"] if any(_is_key(line) for line in settings) else []
    comments = [line for remark in found.remarks for line in _comment(remark)]
    if is_left_alone:
        comments += _comment(f"manage: false, for else {found.runtime} would get the registries above as well")
    yield from ("", *comments) if comments or keys else ()
    yield from (f"{found.runtime}:",) if any(map(_is_key, keys)) else ()
    yield from (*keys, *settings)


def _is_key(line: str) -> bool:
    return not line.lstrip().startswith("#")


def _path(section: str, key: str, value: str) -> list[str]:
    """A key of a section, or a comment where the desired state refuses its value."""
    line = f"  {key}: {_scalar(value)}"
    problems = _problems([f"{section}:", line])
    return _comment(f"{key} {value}: {'; '.join(problems)}", "  ") if problems else [line]


def _setting(section: str, setting: Setting) -> list[str]:
    """One key, its value as JSON, which is YAML; a comment where the desired state refuses it."""
    line = f"    {_scalar(setting.key)}: {setting.json}"
    problems = _problems([f"{section}:", "  settings:", line])
    if not problems:
        return [line]
    return _comment(f"{setting.key} is left out: {'; '.join(problems)}", "    ")


# --- checking and writing --------------------------------------------------------------------------------------------


def _problems(lines: Iterable[str]) -> tuple[str, ...]:
    """What the desired state says against these lines alone."""
    try:
        _load("\n".join(["version: 1", *lines]))
    except DesiredStateError as error:
        return tuple(problem.message for problem in error.problems)
    return ()


def _load(yaml: str) -> DesiredState:
    return load(f"{yaml}\n".encode("utf-8", "surrogatepass"))


def _comment(sentence: str, indent: str = "") -> list[str]:
    """A sentence as lines of comment, whatever characters are in it."""
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), sentence)
    lead = f"{indent}# "
    return textwrap.wrap(
        shown, _WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False
    )
