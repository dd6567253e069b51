"""What will be done: actions with reasons, conflicts, deferred acts. Made by a runtime's `plan`, done by `converge`.

A Plan is a value: `mirror-agent plan` prints it, golden tests compare it, the journal repeats its reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.model import Absent, FileState, Regular, Setting


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Replace the file whole and durably. `replaces` is what the plan was made from: anything else there is a change
    by somebody else, and the write is refused (ConcurrentChangeError) so that it can be merged by a new plan.

    `mode` is set on the new file; an existing file's owner, group and xattrs are kept unless `owner` says otherwise.
    `verbatim` is an original given back as it stood: unlike what we made, it need not be valid by its own syntax.
    `needs` are registries whose files must be there first: written after all others, and not at all if one failed.
    """

    path: str
    content: bytes = field(repr=False)
    reason: str
    replaces: FileState
    mode: int = 0o644
    owner: tuple[int, int] | None = None
    registry: str = ""
    verbatim: bool = False
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove the file if it still is what the plan was made from."""

    path: str
    reason: str
    replaces: FileState
    registry: str = ""


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Create one directory (its parent exists or is made by an action before this one). There already: nothing."""

    path: str
    reason: str
    mode: int = 0o755
    registry: str = ""


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    """Remove the directory if it is empty; keep it, silently, if somebody put something into it."""

    path: str
    reason: str
    registry: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What we must remember about a running daemon because it cannot be asked. Belongs to one invocation of its unit.

    `loaded` are the settings the daemon is known to have read, "" standing for a value that nobody knows; `reloaded_at`
    is when we last told it to reload and have no confirmation yet (0.0: nothing outstanding); `failed_reload`
    identifies the content whose reload did not take; `restarted_at` is our last restart of it, in Unix seconds, across
    invocations; `file_changed_at` is when the file had last changed as this was remembered: if it still is that, then a
    daemon restarted since has read this very file, whatever the clock says.

    The rest is about a file that only a start of the daemon reads; a content goes by its SHA-256. `trial` is what we
    wrote and the daemon is not known to have come up with; `good` is what stood there before, kept as an original, to
    go back to ("" with a trial: there is nothing behind it); `expects` says what else the trial must amount to;
    `is_restarting` that we restarted a daemon that was up, and have not seen it up since; `is_recovering` that a start
    because of that has failed, too; `awaits_order` that such a start was about to be made, and systemd is not known to
    have taken the order; `bad` names the attempt that the daemon did not come up with, which is not made
    again, and `why` is what was seen of it. `effective` are the values that the daemon ran with before a trial changed
    them in the file ("null": none), `refused` those that it did not come up with ("": without the key), which stay out
    of the file while `bad` holds. `restarts` are the times of all our restarts and starts in the last ten minutes;
    `our_invocation` is the one that the last of them brought.
    """

    invocation_id: str = ""
    loaded: tuple[Setting, ...] = ()
    reloaded_at: float = 0.0
    failed_reload: str = ""
    restarted_at: float = 0.0
    file_changed_at: float = 0.0
    trial: str = ""
    good: str = ""
    expects: str = ""
    is_restarting: bool = False
    bad: str = ""
    is_recovering: bool = False
    why: str = ""
    effective: tuple[Setting, ...] = ()
    refused: tuple[Setting, ...] = ()
    restarts: tuple[float, ...] = ()
    our_invocation: str = ""
    awaits_order: bool = False


@dataclass(frozen=True, slots=True)
class Reload:
    """SIGHUP to the unit's main process. `attempt` identifies what is to be loaded; converge waits until the plan asks
    for no act any more, else records `attempt` as Memory.failed_reload. `after` is stored once the signal was sent.
    """

    unit: str
    reason: str
    attempt: str
    after: Memory


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the unit, waiting with our own deadline. `before` is stored first, so that no crash forgets it. `ends`
    says which containers the restart ends for good, in words that may change from one look to the next; "" for none."""

    unit: str
    reason: str
    before: Memory
    ends: str = ""


@dataclass(frozen=True, slots=True)
class Recover:
    """Start a unit that was up before we restarted it and has failed since. `before` is stored first; if it does not
    come up, Memory.is_recovering says so."""

    unit: str
    reason: str
    before: Memory


def reason_of(act: Reload | Restart | Recover) -> str:
    """Why, and what it costs: the sentence that people read."""
    return f"{act.reason}; {act.ends}" if isinstance(act, Restart) and act.ends else act.reason


FileAction = WriteFile | RemoveFile | MakeDirectory | RemoveDirectory
Act = Reload | Restart | Recover
Action = FileAction | Act


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something the planner refuses to resolve by guessing: what is wrong, where, and what a person can do."""

    path: str
    reason: str
    registry: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A wanted act that policy or rate limit postpones. `retry_after_seconds` None: nothing but a person changes it."""

    act: Act
    reason: str
    retry_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Contention:
    """A file that somebody else keeps changing back. `writer` is a tool that is recognised by its marks, "" if none is;
    with `is_held` the file is somebody else's now and is put back at `until` (Unix seconds), else it is as we want it,
    and the contention ends then if it stays so. With `takes_restarts` it is one whose every revert took a restart, and
    the next one is held back."""

    path: str
    runtime: str
    writer: str
    until: float
    is_held: bool = True
    takes_restarts: bool = False


@dataclass(frozen=True, slots=True)
class KeyOriginal:
    """What one key held before we owned it, as compact JSON text; None: the key was not there."""

    key: str
    json: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """We are about to own `path` (or `keys` in it). Stored in the ledger, durably, before the first write.

    `original` is what stood there; the ledger keeps the first original it was given for a path and for a key.
    `made_directories` are those that do not exist yet and that we make on the way, outermost first. `is_doubtful`:
    what stands there says already what we would write, so without a ledger nobody knows whether it is our own work.
    """

    path: str
    original: Absent | Regular
    keys: tuple[KeyOriginal, ...] = ()
    made_directories: tuple[str, ...] = ()
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """We own `path` (or the `keys` in it) no longer. Stored after the actions of the same plan are done."""

    path: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One runtime's way from observed to desired: claims first, then actions in order, releases last.

    Actions are ordered directories, writes, removals, acts. An empty plan means converged. `keeps` are contents that
    may be needed again: they are kept as originals before the first write; `contentions` say what was taken out of it
    because somebody else keeps changing it. `undoes` says that this plan takes back what was on trial: no wait for an
    act ends well with it.
    """

    runtime: str
    actions: tuple[Action, ...] = ()
    claims: tuple[Claim, ...] = ()
    releases: tuple[Release, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    remember: Memory | None = None
    keeps: tuple[bytes, ...] = field(default=(), repr=False)
    contentions: tuple[Contention, ...] = ()
    undoes: bool = False

    @property
    def file_actions(self) -> tuple[FileAction, ...]:
        """The part that may be done at once."""
        return tuple(action for action in self.actions if not isinstance(action, Reload | Restart | Recover))

    @property
    def acts(self) -> tuple[Act, ...]:
        """The part that waits for the settle time and for READY=1."""
        return tuple(action for action in self.actions if isinstance(action, Reload | Restart | Recover))

    def state_of(self, registry: str, path: str) -> str:
        """Why the file at `path` does not say of a registry what it should; "" if it does."""
        for conflict in self.conflicts:
            if conflict.registry == registry or (not conflict.registry and conflict.path == path):
                return f"refused: {conflict.path}: {conflict.reason}"
        for action in self.file_actions:
            if isinstance(action, WriteFile | RemoveFile) and action.path == path:
                return f"to be {'written' if isinstance(action, WriteFile) else 'removed'}: {action.reason}"
        return ""

    @property
    def changes_nothing(self) -> bool:
        """Nothing to do on the machine, nothing wrong, nothing pending; what is ours may become known to the ledger."""
        return not (self.actions or self.conflicts or self.deferred)

    @property
    def is_empty(self) -> bool:
        """As above, and the ledger has it all."""
        return self.changes_nothing and not (self.claims or self.releases)
