"""From one hosts.toml as it stands to the one that is wanted, and back to what stood there before us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.ledger import Entry
from agent.model import Absent, FileState, Regular, Unusable
from agent.plan import (
    Claim,
    Conflict,
    FileAction,
    MakeDirectory,
    Release,
    RemoveDirectory,
    RemoveFile,
    WriteFile,
)
from agent.render import is_debris, is_ours
from agent.runtimes._certs_dir import HOSTS_TOML, Directory, Place
from agent.runtimes._hosts_changes import describe_change, parse

_PUBLIC = 0o644
_SECRET = 0o600
_ROOT = (0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """One registry's part of the plan."""

    actions: tuple[FileAction, ...] = ()
    claims: tuple[Claim, ...] = ()
    releases: tuple[Release, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hosts.toml that must be there. `entry` is what the ledger knows of it; `made_directories` are those on the way
    to it that are missing or were made by us, outermost first; `is_said` tells that the file of before us, which still
    stands there, means the very same; `news` is why there is to be a file, the registry being the subject; `because`
    says why it is not quite what is desired."""

    registry: str
    directory: Directory
    content: bytes = field(repr=False)
    is_secret: bool
    entry: Entry | None
    made_directories: tuple[str, ...]
    is_said: bool = False
    news: str = "is new in the desired state"
    because: str = ""


@dataclass(frozen=True, slots=True)
class Surplus:
    """A file that we own and that is not wanted. `original` are the bytes that stood there before us, None if there
    were none or they are lost; `names` is what lies in each directory that we made on the way to it, while it is
    there."""

    entry: Entry
    state: FileState
    original: bytes | None = field(default=None, repr=False)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# --- wanted ----------------------------------------------------------------------------------------------------------


def plan_wanted(wanted: Wanted, reader: str) -> Part:
    """Claim what is not ours yet, make the directory, write the file; nothing of it where it is so already. `reader`
    is who reads it, as people call it."""
    state = wanted.directory.hosts_toml
    if reason := _obstacle(wanted, state, reader):
        return Part(conflicts=(Conflict(wanted.directory.file, reason, wanted.registry),))
    reason = "" if wanted.is_said else _reason(wanted, state)
    claims = _claims(wanted, state)
    if not reason:
        return Part(claims=claims)
    write = WriteFile(
        path=wanted.directory.file,
        content=wanted.content,
        reason=reason,
        replaces=state,
        mode=_mode(wanted),
        owner=_ROOT if _has_wrong_owner(wanted, state) else None,
        registry=wanted.registry,
    )
    if wanted.directory.place is not Place.MISSING:
        return Part((write,), claims)
    return Part((MakeDirectory(wanted.directory.path, reason, registry=wanted.registry), write), claims)


def _obstacle(wanted: Wanted, state: FileState, reader: str) -> str:
    """Why the file must not be written, and what to do; "" if it may."""
    if isinstance(state, Unusable):
        return f"{state.reason}, so the file for {wanted.registry} cannot be written: remove what stands there"
    if isinstance(state, Regular) and wanted.entry is None and not _is_of_ours(state) and parse(state.content) is None:
        return (
            f"is not valid TOML, so {reader} ignores it and asks {wanted.registry} directly; it is not ours: "
            "mend it or remove it, then it is taken over"
        )
    return ""


def _is_of_ours(state: Regular) -> bool:
    return is_ours(state.content) or (state.content != b"" and is_debris(state.content))


def _reason(wanted: Wanted, state: FileState) -> str:
    """Why the file is to be written; "" if it is what it must be."""
    if not isinstance(state, Regular):
        return f"{wanted.registry}: the file is missing" if wanted.entry else _is_new(wanted)
    if state.content != wanted.content:
        if wanted.entry is None and not _is_of_ours(state):
            return f"{_is_new(wanted)}; what stood there is kept and comes back"
        change = describe_change(wanted.registry, state.content, wanted.content)
        return f"{change}; {wanted.because}" if wanted.because else change
    if state.mode != _mode(wanted):
        return f"{wanted.registry}: the mode was {state.mode:04o}, {_mode(wanted):04o} is right"
    if _has_wrong_owner(wanted, state):
        return f"{wanted.registry}: the file holds a secret and belonged to user {state.uid}"
    return ""


def _is_new(wanted: Wanted) -> str:
    news = f"{wanted.registry} {wanted.news}"
    return f"{news}; {wanted.because}" if wanted.because else news


def _mode(wanted: Wanted) -> int:
    return _SECRET if wanted.is_secret else _PUBLIC


def _has_wrong_owner(wanted: Wanted, state: FileState) -> bool:
    """An owner is kept as somebody set it, except that a secret is for root alone."""
    return wanted.is_secret and isinstance(state, Regular) and state.uid != 0


def _claims(wanted: Wanted, state: FileState) -> tuple[Claim, ...]:
    """What the ledger does not know yet. A file with our header is never an original: it is ours from another life."""
    entry = wanted.entry
    if entry is not None and set(wanted.made_directories) <= set(entry.made_directories):
        return ()
    made = wanted.made_directories
    is_old = isinstance(state, Regular) and _is_of_ours(state)
    original = state if isinstance(state, Regular) and not is_old else Absent()
    if entry is None and is_old and wanted.directory.names == (HOSTS_TOML,):
        made = (*made, wanted.directory.path)
    return (Claim(wanted.directory.file, original, made_directories=made, is_doubtful=entry is None and is_old),)


# --- not wanted any more ---------------------------------------------------------------------------------------------


def give_back(surplus: Surplus, registry: str, reason: str) -> Part:
    """Put back what stood there before us, or remove what we made; own it no longer. What somebody else has put in
    its place meanwhile stays."""
    release = Release(surplus.entry.path)
    match surplus.state:
        case Unusable(blocked):
            text = f"{blocked}, so what stood there before mirror-agent cannot be given back: remove what stands there"
            return Part(conflicts=(Conflict(surplus.entry.path, text, registry),))
        case Regular() as state if is_ours(state.content) or is_debris(state.content):
            if surplus.entry.original.existed:
                return _restore(surplus, state, registry, reason)
            return Part((RemoveFile(surplus.entry.path, reason, state, registry),), releases=(release,))
        case _:
            return Part(releases=(release,))


def _restore(surplus: Surplus, state: Regular, registry: str, reason: str) -> Part:
    original = surplus.entry.original
    if surplus.original is None:
        text = (
            f"what stood there before mirror-agent came ({original.sha256[:12]}) is lost: remove the file or write "
            "your own, then it is yours again"
        )
        return Part(conflicts=(Conflict(surplus.entry.path, text, registry),))
    write = WriteFile(
        path=surplus.entry.path,
        content=surplus.original,
        reason=f"{reason}; what stood there before comes back",
        replaces=state,
        mode=original.mode,
        owner=(original.uid, original.gid),
        registry=registry,
        verbatim=True,
    )
    return Part((write,), releases=(Release(surplus.entry.path),))


def empty_directories(surplus: Iterable[Surplus], parts: Iterable[Part], kept: set[str]) -> Part:
    """The directories that we made and that the parts leave empty, innermost first. An empty one must not stay: it
    would keep containerd from looking into `_default`. `kept` are directories that are in use."""
    given_back = {release.path for part in parts for release in part.releases}
    leaving = [each for each in surplus if each.entry.path in given_back]
    gone = {each.entry.path for each in leaving if not isinstance(each.state, Regular)}
    gone |= {action.path for part in parts for action in part.actions if isinstance(action, RemoveFile)}
    names = {path: found for each in leaving for path, found in each.names.items()}
    actions = []
    for path in sorted(names, key=lambda path: (-path.count("/"), path)):
        if path not in kept and {f"{path}/{name}" for name in names[path]} <= gone:
            gone.add(path)
            actions.append(RemoveDirectory(path, "it was made by mirror-agent and is empty now"))
    return Part(tuple(actions))
