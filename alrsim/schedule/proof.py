"""What a scheduler can say about its schedule: proved best, or at most so far from the best."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from alrsim.schedule.bounds import makespan_bound, placed_bound, units_of
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.units import Ns

Freedom = Literal["fixed", "gradients", "stages", "free"]
"""What a search could change beside the order: nothing; LR gradients; whole stages; every task."""

FREEDOM_NAMES: dict[str, str] = {
    "fixed": "this placement",
    "gradients": "LR gradients on any unit",
    "stages": "stages on any unit",
    "free": "any placement",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What an exact solver proved of the problem that it was given, under `latency` transfers.

    Attributes:
        status: ``OPTIMAL``: no schedule with that freedom is shorter than ``bound``, and the one returned is as short;
            ``FEASIBLE``: it may be, but not below ``bound``.
        bound: Ticks that no schedule with that freedom, and within the caps, can beat.
        capped: Whether caps (memory, live micro-batches) were part of the problem.
    """

    status: Literal["OPTIMAL", "FEASIBLE"]
    bound: Ns
    freedom: Freedom
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A makespan beside what cannot be beaten.

    Attributes:
        makespan: Ticks.
        bound: Lower bound with the placement of this schedule, the order alone being open.
        any_bound: Lower bound over all placements.
        status: Of an exact solver, if one ran: ``OPTIMAL`` or ``FEASIBLE``.
        freedom: What that solver could change.
    """

    makespan: Ns
    bound: Ns
    any_bound: Ns
    status: str = ""
    freedom: str = ""

    @property
    def gap(self) -> Fraction:
        """``makespan / bound - 1`` for this placement; 0 proves that no other order is shorter."""
        return Fraction(self.makespan, self.bound) - 1 if self.bound else Fraction(0)

    @property
    def any_gap(self) -> Fraction:
        """The same over all placements."""
        return Fraction(self.makespan, self.any_bound) - 1 if self.any_bound else Fraction(0)


def gap(problem: Problem, makespan: Ns, schedule: Schedule | None = None, proof: Proof | None = None) -> Gap | None:
    """How far a makespan is from what cannot be beaten; for the schedule of any scheduler, or from a file.

    Args:
        makespan: Of the evaluator, or of a simulation under any transfer semantics (never shorter).
        schedule: Gives the placement; ``None``: bounds over all placements.
        proof: Of the exact solver that made the schedule, if one did.

    Returns:
        ``None`` for a schedule with fused pairs, which may take less than the sum that every bound counts.
    """
    if problem.contention is not None:
        # A step may be shorter than what was proved of the fixed durations that its scheduler saw.
        problem, proof = replace(problem, durations=problem.shortest, contention=None), None
    anywhere = makespan_bound(problem)
    if schedule is None:
        return Gap(makespan, anywhere, anywhere)
    if schedule.overlaps:
        return None
    here = max(anywhere, placed_bound(problem, units_of(problem, schedule)))
    if proof is None:
        return Gap(makespan, here, anywhere)
    if proof.freedom == "free":
        anywhere = max(anywhere, proof.bound)
    # A status is about the makespan that was proved; where links are contended a step may take longer.
    status = "FEASIBLE" if proof.status == "OPTIMAL" and makespan > proof.bound else proof.status
    return Gap(makespan, max(here, proof.bound), anywhere, status, proof.freedom)
