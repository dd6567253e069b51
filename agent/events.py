"""What the journal says: one kind per sort of event, each with the MESSAGE_ID that `journalctl -x` explains.

The identifiers are for ever: scripts and alerts match on them. Every kind has an entry in both catalogues of
packaging/ (a test holds them together).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """A sort of event; the value is its MESSAGE_ID (systemd catalogue, 128 bits in hex)."""

    LOADED = "dca574d9de1c437cbec42bd0981d8cab"
    """A desired state was read and is in force."""

    INVALID = "8236609b10f14db2a5a9c39a4209e3c9"
    """The desired state is invalid; the last good one stays in force."""

    MISSING = "f9bbf289247941b69ab58eca3cd7ce6d"
    """There is no desired state to read."""

    WROTE = "80000667533d4314a6a03f10f4e1c9a9"
    """A file was written."""

    REMOVED = "f363a96e2dc945e29edf4058727ae1ba"
    """A file or directory was removed."""

    RELOADED = "c76c6b3ab4db4ae48e872b236d12d525"
    """A runtime was told to reload."""

    RESTARTED = "e21db2f1c9b7406aa8056adba01edaf8"
    """A runtime was restarted."""

    DEFERRED = "02634a9077a04a80be9599e35b23585a"
    """A wanted act waits: policy or rate limit."""

    CONFLICT = "4999d7fdfe354b2399de9c128e9eb1dc"
    """Something a person must resolve."""

    FAILED = "abca83cd3ef2490294c4f65205a5bc14"
    """An operation on the machine failed."""

    DEGRADED = "935b755179354826a4c215058a631647"
    """A cycle ended without convergence; it is tried again."""

    CONVERGED = "10586bcb3aec4bc9bc85b39039e033a7"
    """A cycle that did something ended converged."""

    RECOVERED = "c45ad67c58644e77b9b931a5e3046332"
    """What had failed works again."""

    DRIFT = "c6ad1048039c4e139eca65812653487b"
    """Something we own was changed by somebody else and is put back."""

    CONTENDED = "1192748ed3fa4c34b610741a8edfddbd"
    """Somebody else keeps changing a file that we put back: it is put back ever more rarely."""

    CALM = "8f3816b7dcf24fac9bd16d7209b1ca6b"
    """A contended file is contended no longer."""

    STARTED = "918f665ac85347b09800c82351b82d7d"
    """The agent started."""

    STOPPED = "b3e1db8cd0ca49f6b3af56234c2a95fc"
    """The agent stopped."""

    WATCH = "2b862af2e2bc4306872c1d426abd2884"
    """How changes are noticed has changed: events or polling."""

    WARNING = "5def7465b6524856afc4a59627e489a2"
    """A lint of the desired state."""

    DROPPED = "5e92e7efaa9e46f587f29ae90100188b"
    """Log lines were dropped because the journal did not take them."""

    REVERTED = "2ae976cb20df42aba44b8e6f37dbddc1"
    """Everything was given back as it stood before the agent came."""

    UNRESOLVED = "e6a32b0b4e2b475aba890a150fb51947"
    """A cycle has ended, and something in it needs a person."""

    LEDGER = "f7a36a4c337d43cc83a80ae129025227"
    """The ledger was damaged or gone: its copy has taken its place, or what stood here before us is not known."""

    MIRROR_OK = "d39fe56d770940e487a5126bfa64a76c"
    """A mirror works again."""

    MIRROR_REFUSED = "9fa4b568d6a24d9e8b77f7be5e2d1fda"
    """A mirror does not take connections."""

    MIRROR_UNREACHABLE = "96f85d685e6d468da12f58de1d27d43a"
    """A mirror's name or address leads nowhere."""

    MIRROR_TLS = "f5af60d983fa422d81d4b2c02b6197d1"
    """A mirror's TLS or its certificate is no good."""

    MIRROR_HANGING = "f0e3594dac64496dbaec32731582fbf5"
    """A mirror takes requests and does not answer."""

    MIRROR_HTML = "d5359aca3a28434ab07c69900820f021"
    """A mirror answers with a web page."""

    MIRROR_DENIED = "6805af076875443e8b054e0cee4fe3d3"
    """A mirror does not serve this image, or not here."""

    MIRROR_RATE_LIMITED = "422fbbf4705644629eae8e79ef3e2ca7"
    """A mirror was asked too often."""

    MIRROR_LOGIN_REQUIRED = "f51569ca672c4c6cb2bed60ea0306970"
    """A mirror wants a login."""

    MIRROR_MISSING = "f23b3041a4714a65a140e5d0e723f6d2"
    """A mirror does not have the image."""

    MIRROR_FAILING = "f4f2b237e3b4438ba366967556759422"
    """A mirror answers with an error."""

    MIRROR_WRONG_CONTENT = "97413570cd6a4a89897ccf6cc9b31496"
    """A mirror answers with something that is not what was asked for."""

    MIRROR_STALE = "e8e40f7d1c4240da88203ba369e48dc4"
    """A mirror's tags lag behind."""

    BUG = "f74fd5def1ab4838b103dde60192918e"
    """An unexpected exception."""


class Level(Enum):
    """Syslog priorities that we use."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal. `message` is the whole sentence a person reads; the rest are native journal fields
    (MIRROR_AGENT_GENERATION, _RUNTIME, _REGISTRY, _PATH, _ACTION, _REASON, _OUTCOME), left out where empty."""

    kind: Kind
    message: str
    level: Level = Level.INFO
    generation: str = ""
    runtime: str = ""
    registry: str = ""
    path: str = ""
    action: str = ""
    reason: str = ""
    outcome: str = ""
