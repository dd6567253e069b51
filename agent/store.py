"""The state directory: the ledger, the originals that it names, and what else has to outlive the process.

The ledger is kept twice. The copy is written first, so that it is never older than the ledger, and a ledger that is
damaged or gone costs nothing. Where neither can be read, what there is is set aside under a name of its own and a new
one is begun. As long as something is aside, kept bytes that nothing names any more are not thrown away; once it can be
read (by the newer version that wrote it, or because a person has mended it) what it knows is known again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace

from agent import ledger
from agent.errors import HostError, LedgerError, NewerLedgerError
from agent.events import Event, Kind, Level
from agent.files import FileSystem, explained
from agent.ledger import Ledger
from agent.model import Absent, KeptFile, Regular
from agent.render import is_ours

LAST_GOOD = "last-good.yaml"
"""The last desired state that was good, for as long as the file holds none."""

FEUDS = "contended.json"
"""What somebody else keeps changing (agent.feud)."""

_LEDGER, _COPY, _MISSING = "ledger.json", "ledger.copy.json", "ledger.missing"
_ORIGINALS = "originals"


class Store:
    """What lies below `directory`, a path inside `root`. Looking changes nothing; who holds the lock may `recover`."""

    def __init__(self, root: str, directory: str) -> None:
        self.directory = directory
        self._above = os.path.dirname(directory if root == "/" else root + directory)
        self._files = FileSystem(root, allowed=(directory,))
        self._ledger: Ledger | None = None
        self._strays: tuple[tuple[str, ...], tuple[KeptFile, ...]] = ((), ())

    # --- the ledger ----------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """What we own. Raises HostError where it cannot be known (no permission, an I/O error, a directory)."""
        if self._ledger is None:
            self._ledger = self._load()
        return self._ledger

    def save_ledger(self, changed: Ledger) -> None:
        """The copy first. A crash between the two leaves a copy that claims more than the ledger, or less after the
        last write of what it gives back, and neither does any harm."""
        self._make_directories()
        data = changed.encode()
        self._replace(_COPY, data, durable=False)
        self._replace(_LEDGER, data)
        self._ledger = changed

    def recover(self) -> tuple[Event, ...]:
        """Mend what can be mended, set aside what cannot be read, and take up again what can. Returns what is to be
        said of it. Raises HostError; then nothing was overwritten."""
        said = [*self._settle(), *self._take_up()]
        loss = self.loss
        return (*said, _event(self._path(_LEDGER), loss, Level.ERROR)) if loss else tuple(said)

    @property
    def loss(self) -> str:
        """Why it is not known any more what stood here before us, and what to do; "" if it is."""
        try:
            aside = self._aside()
        except HostError:
            return ""  # then there is more to be said than this, and who asks for the ledger says it
        if not aside:
            return ""
        these = "as that file stands" if len(aside) == 1 else "as those files stand"
        kept = f"nothing in {self._path(_ORIGINALS)} is removed as long {these}"
        what = "; ".join(map(self._fate_of, aside))
        return f"{what}: what stood here before mirror-agent is not known any more; {kept}"

    def _load(self) -> Ledger:
        try:
            return self._read_ledger()
        except LedgerError:
            return Ledger(lost=True)

    def _read_ledger(self) -> Ledger:
        """The ledger, or its copy where it is damaged or gone. Raises LedgerError."""
        try:
            found = self._decoded(_LEDGER)
        except NewerLedgerError:
            raise
        except LedgerError:
            found = self._decoded(_COPY)
        return replace(found, lost=bool(self._aside()))

    def _settle(self) -> list[Event]:
        """From here on there is a ledger that can be read."""
        if self._error_of(_LEDGER) is None:
            return []
        was_damaged, is_first = self._data(_LEDGER) is not None, not self._has_traces()
        try:
            self.save_ledger(self._read_ledger())
        except LedgerError:
            if not is_first:
                self._set_aside()
            self.save_ledger(Ledger(lost=True))
            return []
        sentence = "its copy was whole and has taken its place: nothing is lost"
        what = f"was {'damaged' if was_damaged else 'gone'}; {sentence}"
        return [_event(self._path(_LEDGER), what, Level.WARNING)]

    def _has_traces(self) -> bool:
        """Whether somebody has worked here before; the ledger itself is stored before anything else is."""
        return any(not name.startswith(".") for name in self._files.list_directory(self.directory) or ())

    def _set_aside(self) -> None:
        """What cannot be read; or the mark that there is nothing, although there was."""
        for name in (_LEDGER, _COPY):
            data, error = self._data(name), self._error_of(name)
            if data is not None and error is not None:
                word = "newer" if isinstance(error, NewerLedgerError) else "damaged"
                self._replace(f"ledger.{word}-{hashlib.sha256(data).hexdigest()[:12]}", data)
        if not self._aside():
            self._replace(_MISSING, b"There was a ledger here. Remove this file when that is settled.\n")

    def _take_up(self) -> list[Event]:
        """What is aside and can be read."""
        said = []
        for name in self._aside():
            with suppress(LedgerError):
                self.save_ledger(self.ledger().with_past(self._decoded(name)))
                self._remove(name)
                sentence = "can be read: what stood here before mirror-agent is known again"
                said.append(_event(self._path(name), sentence, Level.NOTICE))
        if said:
            self._ledger = None
        return said

    def _aside(self) -> tuple[str, ...]:
        names = self._files.list_directory(self.directory) or ()
        return tuple(name for name in names if name.startswith(("ledger.damaged-", "ledger.newer-", _MISSING)))

    def _fate_of(self, name: str) -> str:
        if name == _MISSING:
            return f"the ledger is gone, which {name} bears in mind"
        error = self._error_of(name)
        if isinstance(error, NewerLedgerError):
            return f"{error}, and is kept as {name} until that version is back"
        return f"the ledger was damaged, and is kept as {name}"

    def _error_of(self, name: str) -> LedgerError | None:
        """What is wrong with a ledger; None if it is whole."""
        try:
            self._decoded(name)
        except LedgerError as error:
            return error
        return None

    def _decoded(self, name: str) -> Ledger:
        data = self._data(name)
        if data is None:
            raise LedgerError("there is no ledger")
        return ledger.decode(data)

    def _data(self, name: str) -> bytes | None:
        state = self._files.read_own(self._path(name))
        if isinstance(state, Absent):
            return None
        if not isinstance(state, Regular):
            raise HostError(self._path(name), state.reason)
        return state.content

    # --- originals -----------------------------------------------------------------------------------------------

    def original(self, sha256: str) -> bytes | None:
        """Kept bytes by their digest; None if they are lost or do not match it."""
        state = self._files.read(self._path(f"{_ORIGINALS}/{sha256}"))
        if not isinstance(state, Regular) or hashlib.sha256(state.content).hexdigest() != sha256:
            return None
        return state.content

    def keep_original(self, content: bytes) -> str:
        """Keep bytes by their SHA-256 (hex), which is returned."""
        digest = hashlib.sha256(content).hexdigest()
        self._make_directories()
        if self.original(digest) is None:
            self._replace(f"{_ORIGINALS}/{digest}", content)
        return digest

    def forget_originals(self) -> None:
        """Remove kept bytes that the ledger no longer names: each change of daemon.json leaves two. As long as a part
        of what was known is lost, everything stays."""
        known = self.ledger()
        if known.lost:
            return
        for name in self._files.list_directory(self._path(_ORIGINALS)) or ():
            if name not in known.contents and not name.startswith("."):
                self._remove(f"{_ORIGINALS}/{name}")

    def strays(self) -> tuple[KeptFile, ...]:
        """Kept bytes of others that no ledger names any more, the newest last; () as long as nothing is lost."""
        known = self.ledger()
        names = (self._files.list_directory(self._path(_ORIGINALS)) or ()) if known.lost else ()
        lost = tuple(name for name in names if name not in known.contents and not name.startswith("."))
        if self._strays[0] != lost:
            found = [each for name in lost if (each := self._stray(self._path(f"{_ORIGINALS}/{name}")))]
            self._strays = lost, tuple(sorted(found, key=lambda each: each.kept_at))
        return self._strays[1]

    def _stray(self, path: str) -> KeptFile | None:
        state, signature = self._files.read_own(path), self._files.signature(path)
        if not isinstance(state, Regular) or signature is None or is_ours(state.content):
            return None
        from agent.forms import form_of  # not at the top: it is for those who have lost something

        return KeptFile(path, signature[3] / 1e9, form_of(state.content))

    # --- everything else -----------------------------------------------------------------------------------------

    def save(self, name: str, content: bytes) -> None:
        """Keep a small file of our own, durably, readable by root only."""
        self._make_directories()
        self._replace(name, content)

    def read(self, name: str) -> bytes | None:
        """What `save` kept; None if there is nothing readable."""
        state = self._files.read_own(self._path(name))
        return state.content if isinstance(state, Regular) else None

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _replace(self, name: str, content: bytes, *, durable: bool = True) -> None:
        self._files.replace_file(self._path(name), content, 0o600, durable=durable)

    def _remove(self, name: str) -> None:
        self._files.remove_own(self._path(name))

    def _make_directories(self) -> None:
        """Below a root other than / the parents may be missing too."""
        try:
            os.makedirs(self._above, exist_ok=True)
        except OSError as error:
            raise explained(self.directory, error) from error
        self._files.make_directory(self.directory, 0o700)
        self._files.make_directory(self._path(_ORIGINALS), 0o700)


def _event(path: str, sentence: str, level: Level) -> Event:
    return Event(Kind.LEDGER, f"{path}: {sentence}", level, path=path)
