"""What `status` shows: a status, and what a fresh look adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.proof import Proof
    from agent.status import Status


@dataclass(frozen=True, slots=True)
class Shown:
    """A status as it is shown, at `now` (Unix seconds). `missing` are the steps that would make it converged, `is_new`
    says that this desired state was not in force before (so that they are no drift), `names_nothing` that there is
    nothing to manage in it. `daemon_pid` is 0 where a daemon should run and does not, None where none should; `looked`
    says whether this is a fresh look, `proofs` what a test of the running daemons came to, None if there was none."""

    status: Status
    now: float
    missing: tuple[str, ...] = ()
    is_new: bool = False
    names_nothing: bool = False
    daemon_pid: int | None = None
    looked: bool = True
    proofs: tuple[Proof, ...] | None = None

    @property
    def is_live(self) -> bool:
        """The one answer: exit code 0."""
        return bool(self.status.generation) and self.status.is_live and not self.missing and self.is_proved

    @property
    def is_proved(self) -> bool:
        """Nothing that was put to the test failed it, and something was; or no test was asked for."""
        told = {proof.is_proved for proof in self.proofs or ()}
        return self.proofs is None or (False not in told and True in told)
