"""One daemon.json: from the fates of its keys to the text of the file, its claims, its releases and its actions.

When nothing of ours is left in it and the rest means what the kept original meant, the original comes back byte for
byte, with mode and owner; a file that did not exist before us goes, unless others have put something into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.host import HostReader
from agent.ledger import Entry, Original
from agent.model import Absent, FileState, Regular, Unusable
from agent.plan import Claim, Conflict, FileAction, MakeDirectory, Release, RemoveDirectory, RemoveFile, WriteFile
from agent.redact import holds_secret
from agent.runtimes import _daemon_json
from agent.runtimes._daemon_json import Document
from agent.runtimes._docker_fate import Fate, OddValueError
from agent.runtimes._docker_keys import fates_of
from agent.runtimes._docker_reload import Running
from agent.runtimes._docker_wants import Wants
from agent.runtimes._json_text import NotEditableError, same

_OTHERS_READ = 0o044
_HANDS_OFF = "mirror-agent leaves the file alone until it is mended"


@dataclass(frozen=True, slots=True)
class View:
    """A daemon.json as it was seen. `entry` is what the ledger has about it, `original` the bytes from before us (None:
    none kept); `missing` are the directories that have to be made for it, outermost first."""

    path: str
    state: FileState
    entry: Entry | None = None
    original: bytes | None = field(default=None, repr=False)
    missing: tuple[str, ...] = ()

    @property
    def is_made_by_us(self) -> bool:
        """Whether there was no file before us."""
        if self.entry is None:
            return isinstance(self.state, Absent)
        return not self.entry.original.existed and not self.entry.is_doubtful

    @property
    def document(self) -> Document:
        """The file read as JSON; a missing one reads as an empty object. Raises NotEditableError."""
        if isinstance(self.state, Unusable):
            raise NotEditableError(self.state.reason)
        return _daemon_json.parse(self.state.content if isinstance(self.state, Regular) else b"")


@dataclass(frozen=True, slots=True)
class FilePlan:
    """The part of a Plan that one file makes."""

    fates: tuple[Fate, ...] = ()
    actions: tuple[FileAction, ...] = ()
    claims: tuple[Claim, ...] = ()
    releases: tuple[Release, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether the file is written or removed."""
        return any(isinstance(action, WriteFile | RemoveFile) for action in self.actions)

    def content(self, view: View) -> bytes | None:
        """What the file will hold, None for no file."""
        for action in self.actions:
            if isinstance(action, WriteFile):
                return action.content
            if isinstance(action, RemoveFile):
                return None
        return view.state.content if isinstance(view.state, Regular) else None


def look_at(host: HostReader, path: str) -> View:
    """Everything that planning one daemon.json needs."""
    entry = host.ledger().entries.get(path)
    original = host.original(entry.original.sha256) if entry and entry.original.existed else None
    return View(path, host.read(path), entry, original, _missing_directories(host, path))


def plan_file(view: View, wants: Wants, running: Running | None) -> FilePlan:
    """`running` None: no daemon that is up reads this file, so that nothing has to be cleared first."""
    if wants.is_empty and view.entry is None:
        return FilePlan()
    try:
        before = view.document
        fates = fates_of(before, view.entry, wants, running)
    except (NotEditableError, OddValueError) as error:
        return FilePlan(conflicts=(Conflict(view.path, f"{error}; {_HANDS_OFF}"),))
    after = _edited(view, before, fates)
    if _ends(view, wants, fates):
        return FilePlan(fates, _farewell(view, after, fates), releases=(Release(view.path),))
    actions = () if after == before else _writes(view, after.encode(), _reason(fates))
    released = tuple(key for fate in fates for key in fate.releases)
    releases = (Release(view.path, released),) if released else ()
    return FilePlan(fates, actions, _claims(view, fates, actions), releases)


def _missing_directories(host: HostReader, path: str) -> tuple[str, ...]:
    missing: list[str] = []
    parent = path.rpartition("/")[0]
    while parent and not host.exists(parent):
        missing.insert(0, parent)
        parent = parent.rpartition("/")[0]
    return tuple(missing)


def _kept(view: View) -> Document | None:
    """The original as a document, None if there is none that can be read. An empty file is not brought back: Docker
    20.10 does not start with one."""
    try:
        return _daemon_json.parse(view.original) if view.original and view.original.strip() else None
    except NotEditableError:
        return None


def _edited(view: View, document: Document, fates: tuple[Fate, ...]) -> Document:
    """The document with every fate fulfilled; a value that comes back comes back in its own spelling."""
    original, brought = _kept(view), _brought(view, fates)
    for index, fate in enumerate(fates):
        current = document.get(fate.key)
        if same(current, fate.value):
            continue
        spelled = original.raw(fate.key) if original and same(original.get(fate.key), fate.value) else None
        successor = next((each for each in brought[index + 1 :] if each and document.get(each) is not None), None)
        if fate.value is None:
            document = document.without(fate.key)
        elif spelled is not None:
            document = document.with_raw(fate.key, spelled)
        elif current is None and successor is not None:
            document = document.with_new(fate.key, fate.value, before=successor)
        else:
            document = document.with_value(fate.key, fate.value)
    return document


def _brought(view: View, fates: tuple[Fate, ...]) -> list[str]:
    """For each fate its key if the key came with us, else "". What came with us stands together, in the order of the
    fates, so that the file does not depend on what was desired in between."""
    claims = [claim for fate in fates for claim in fate.claims]
    ours = {key.key for key in (*(view.entry.keys if view.entry else ()), *claims) if key.json is None}
    return [fate.key if fate.key in ours else "" for fate in fates]


def _reason(fates: tuple[Fate, ...]) -> str:
    return "; ".join(fate.reason for fate in fates if fate.reason)


# --- owning ------------------------------------------------------------------------------------------------------


def _claims(view: View, fates: tuple[Fate, ...], actions: tuple[FileAction, ...]) -> tuple[Claim, ...]:
    keys = tuple(claim for fate in fates for claim in fate.claims)
    known = view.entry.made_directories if view.entry else ()
    made = tuple(action.path for action in actions if isinstance(action, MakeDirectory) and action.path not in known)
    if not (keys or made) or isinstance(view.state, Unusable):
        return ()
    is_doubtful = any(claim.json is not None and claim.json == fate.value for fate in fates for claim in fate.claims)
    return (Claim(view.path, view.state, keys, made, is_doubtful),)


def _writes(view: View, content: bytes, reason: str) -> tuple[FileAction, ...]:
    """Replace the content, keeping mode and owner; make the directories on the way. A file of ours that holds a secret
    is for root alone; whoever made another one has given it its mode, and is told."""
    mode = view.state.mode if isinstance(view.state, Regular) else 0o644
    is_open = bool(mode & _OTHERS_READ) and holds_secret(view.path, content.decode())
    if is_open and view.is_made_by_us:
        mode = 0o600
    elif is_open and not _held_secret(view):
        reason = f"{reason}; it holds a secret now, and others may read it ({mode:04o}): chmod 0600 {view.path}"
    return (*_makes(view), WriteFile(view.path, content, reason, view.state, mode))


def _held_secret(view: View) -> bool:
    return isinstance(view.state, Regular) and holds_secret(view.path, view.state.content.decode("utf-8", "replace"))


def _makes(view: View) -> tuple[MakeDirectory, ...]:
    return tuple(MakeDirectory(path, f"{view.path} is to stand in it") for path in view.missing)


# --- giving back -------------------------------------------------------------------------------------------------


def _ends(view: View, wants: Wants, fates: tuple[Fate, ...]) -> bool:
    """Whether nothing of ours is left in the file once the fates are fulfilled."""
    owned = {key.key for key in view.entry.keys} if view.entry else set()
    return wants.is_empty and owned <= {key for fate in fates for key in fate.releases}


def _farewell(view: View, after: Document, fates: tuple[Fate, ...]) -> tuple[FileAction, ...]:
    """The file as it was before us, as far as others have left it so."""
    before_us = view.entry.original if view.entry else Original()
    if not after.members and isinstance(view.state, Absent):
        return _remove_directories(view)
    if not after.members and not before_us.existed:
        reason = "nothing is left in it, and it did not exist before mirror-agent"
        return (RemoveFile(view.path, reason, view.state), *_remove_directories(view))
    if view.original is None or not _means_the_same(after, _kept(view)):
        unchanged = isinstance(view.state, Regular) and after == view.document
        return () if unchanged else _writes(view, after.encode(), _reason(fates))
    restored = Regular(view.original, before_us.mode, before_us.uid, before_us.gid)
    return () if view.state == restored else _restores(view, restored, _reason(fates))


def _restores(view: View, restored: Regular, reason: str) -> tuple[FileAction, ...]:
    said = f"{reason}; the file is as it was before mirror-agent" if reason else "as it was before mirror-agent"
    owner = (restored.uid, restored.gid)
    write = WriteFile(view.path, restored.content, said, view.state, restored.mode, owner, verbatim=True)
    return (*_makes(view), write)


def _means_the_same(left: Document, right: Document | None) -> bool:
    """Whether two documents hold the same members in the same order, numbers as they are written."""
    if right is None:
        return False
    one, other = left.values(), right.values()
    return list(one) == list(other) and all(same(one[key], other[key]) for key in one)


def _remove_directories(view: View) -> tuple[FileAction, ...]:
    made = view.entry.made_directories if view.entry else ()
    standing = (path for path in reversed(made) if path not in view.missing)
    return tuple(RemoveDirectory(path, "it was made for daemon.json, which is gone") for path in standing)
