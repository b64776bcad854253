"""Search: bound every candidate, evaluate from the smallest bound on, drop what cannot win, improve the best few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from alrsim.errors import OptionError, ScheduleError
from alrsim.planner.candidate import Candidate
from alrsim.planner.evaluate import (
    Bounded,
    Evaluated,
    Misfit,
    Setting,
    Target,
    bounded,
    build_problem,
    evaluate,
    judge,
    overfull,
    rank_key,
    surely_fits,
)
from alrsim.planner.time_to_cosine import NEVER
from alrsim.progress import Advance
from alrsim.schedule.proof import Freedom
from alrsim.schedulers import SearchOptions, solve
from alrsim.schedulers.caps import caps_of
from alrsim.units import Bytes, Ns, format_bytes

TASKS_PER_EFFORT = 40_000
"""Tasks of all quickly evaluated candidates together; an idle core takes three to four seconds for so many."""

IMPROVED = 2
"""Candidates that the slow search is tried on."""

LEAN, SOLVED = 12, 3
"""Candidates on which, where nothing fits, the leanest heuristics and the exact solver are tried."""


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        best: The chosen plan.
        ranked: Every evaluated candidate, the best one first.
        misfits: Candidates that were evaluated and did not fit.
        bound: What no candidate of the space can beat, in the unit of the target.
        candidates: Size of the space.
        pruned: Candidates whose bound is no better than the chosen plan.
        unseen: Candidates that might be better and were not evaluated for want of effort; the bound counts them.
        refused: Combinations that do not exist, with the reason, each reason once.
        quick: What the best plan of the heuristics alone costs.
    """

    target: Target
    best: Evaluated
    ranked: tuple[Evaluated, ...]
    misfits: tuple[Misfit, ...]
    bound: float
    candidates: int
    pruned: int
    unseen: int
    refused: tuple[str, ...] = ()
    quick: float = 0.0

    @property
    def gap(self) -> float:
        """Chosen over bound, less 1; 0 proves that no candidate of the space is better."""
        return self.value / self.bound - 1 if self.bound else 0.0

    @property
    def value(self) -> float:
        """What the chosen plan costs, in the unit of the target."""
        return self.best.score.of(self.target)


@dataclass(frozen=True)
class Lever:
    """A change of the question.

    Attributes:
        words: What is changed.
        fits: Whether a plan was found that fits.
        peak: Most bytes on a unit of the plan that fits, or of the nearest one.
        short: Bytes by which the worst unit of the nearest plan is still too small; 0 where it fits.
    """

    words: str
    fits: bool
    peak: Bytes
    short: Bytes

    @property
    def sentence(self) -> str:
        """For people."""
        if self.fits:
            return f"{self.words}: fits, with at most {format_bytes(self.peak)} on a unit"
        return f"{self.words}: does not suffice, short by {format_bytes(self.short)}"


class DoesNotFitError(ScheduleError):
    """No candidate fits into the units' memory.

    Attributes:
        nearest: The candidate that is short by the smallest share.
        levers: Changes of the question, and whether they would help.
    """

    nearest: Misfit
    levers: tuple[Lever, ...] = ()


More = Callable[[Ns], tuple[Sequence[Candidate], Ns]]
"""From the time of a plan that is known to candidates that might take less, and what all that are left out take at
least."""


def search(
    setting: Setting,
    candidates: Sequence[Candidate],
    tell: Advance = lambda _text: None,
    more: More | None = None,
    *,
    improve: bool = True,
) -> Outcome:
    """The best plan of a space of candidates.

    Effort is counted in tasks, not seconds, so that the same question has the same answer on every host.

    Args:
        more: The rest of the space, listed once a plan is known.
        improve: Try local search and the exact solver on the best few.

    Raises:
        OptionError: no candidate exists.
        DoesNotFitError: none fits into memory.
    """
    known, refused = bound_all(setting, candidates, tell)
    evaluated, misfits, rest = _evaluate(setting, known, tell)
    floor, count = float("inf"), len(candidates)
    if more is not None:
        best = min((one.score.time for one in evaluated), default=NEVER)
        if best == NEVER:  # the first of each kind, to have something to beat
            firsts, reasons = bound_all(setting, more(NEVER)[0], tell)
            evaluated, misfits, _ = _evaluate(setting, firsts, tell)
            known, refused, count = firsts, refused + reasons, count + len(firsts)
            best = min((one.score.time for one in evaluated), default=NEVER - 1)
        listed, floor = more(best)
        seen = {one.candidate for one in known}
        listed = [one for one in listed if one not in seen]
        others, reasons = bound_all(setting, listed, tell)
        found = _evaluate(setting, others, tell, best)
        evaluated, misfits, rest = evaluated + found[0], misfits + found[1], rest + found[2]
        known, refused, count = known + others, refused + reasons, count + len(listed)
    if not known:
        raise OptionError(
            f"none of {count} candidates exists: {'; '.join(refused) or 'no LR plan reaches the cosine'}",
            where="plan",
            fix="allow other `rules` or `modes`",
        )
    if not evaluated:
        evaluated = _rescue(setting, misfits)
    evaluated += _companions(setting, rest, evaluated)
    evaluated.sort(key=lambda one: rank_key(setting, one))
    quick = evaluated[0].score.of(setting.target)
    if improve:
        evaluated = _improve(setting, evaluated, tell)
    return _conclude(setting, evaluated, misfits, rest, floor, refused, count, quick)


def _conclude(
    setting: Setting,
    evaluated: Sequence[Evaluated],
    misfits: Sequence[Misfit],
    rest: Sequence[Bounded],
    floor: float,
    refused: Sequence[str],
    count: int,
    quick: float,
) -> Outcome:
    """The bound of the whole space is the least of all that might still be reached."""
    best = evaluated[0]
    value = best.score.of(setting.target)
    left = [one for one in rest if one.bound < value]
    lowest = min([value, floor, *(one.bound for one in (*evaluated, *left, *misfits))])
    return Outcome(
        setting.target,
        best,
        tuple(evaluated),
        tuple(misfits),
        lowest,
        count,
        len(rest) - len(left),
        len(left),
        tuple(dict.fromkeys(refused)),
        quick,
    )


def bound_all(setting: Setting, candidates: Sequence[Candidate], tell: Advance) -> tuple[list[Bounded], list[str]]:
    """Bounds of all candidates, and why some do not exist."""
    known: list[Bounded] = []
    refused: dict[str, None] = {}
    tell(f"bound {len(candidates)} candidates")
    for candidate in candidates:
        try:
            known.append(bounded(setting, candidate))
        except OptionError as error:
            refused.setdefault(f"{candidate.rule} {candidate.mode}".strip() + f": {error.what}")
    return known, list(refused)


def _evaluate(
    setting: Setting, known: list[Bounded], tell: Advance, best: float = float("inf")
) -> tuple[list[Evaluated], list[Misfit], list[Bounded]]:
    """Evaluate in the order of bounds until none can win, or the effort is spent."""
    known.sort(key=lambda one: (one.bound, len(one.candidate.cut) * one.candidate.microbatches))
    evaluated: list[Evaluated] = []
    misfits: list[Misfit] = []
    spent = 0
    limit = setting.search.effort * TASKS_PER_EFFORT
    deadline = monotonic() + setting.search.seconds
    for position, one in enumerate(known):
        late = spent > limit or monotonic() > deadline
        if one.bound >= best or (late and evaluated):
            return evaluated, misfits, list(known[position:])
        tell(one.candidate.label)
        made = evaluate(setting, one)
        if isinstance(made, Misfit):
            misfits.append(made)
            spent += len(one.candidate.cut) * one.candidate.microbatches
            continue
        spent += len(made.problem.durations)
        evaluated.append(made)
        best = min(best, made.score.of(setting.target))
    return evaluated, misfits, []


def _companions(setting: Setting, rest: list[Bounded], evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """One exact and one LR plan to stand beside the best, and a runner-up, though their bounds exclude them."""
    found: list[Evaluated] = []
    for is_lr in (False, True, None):  # None: whatever comes next
        known = [*evaluated, *found]
        if any(one.candidate.is_lr == is_lr for one in known) or (is_lr is None and len(known) > 1):
            continue
        one = next((each for each in rest if is_lr in (None, each.candidate.is_lr)), None)
        made = None if one is None else evaluate(setting, one)
        if one is not None and isinstance(made, Evaluated):
            found.append(made)
            rest.remove(one)
    return found


def _rescue(setting: Setting, misfits: list[Misfit]) -> list[Evaluated]:
    """Nothing fits by the usual heuristics: try the leanest, then the exact solver on the nearest few.

    Raises:
        DoesNotFitError: nothing does.
    """
    lean = replace(setting, target="memory")
    tried: list[Misfit] = []
    for misfit in sorted(misfits, key=lambda one: one.excess)[:LEAN]:
        made = evaluate(lean, misfit)
        if isinstance(made, Evaluated):
            misfits.remove(misfit)
            return [made]
        tried.append(min(misfit, made, key=lambda one: one.excess))
    tried.sort(key=lambda one: one.excess)
    for number, misfit in enumerate(tried[:SOLVED]):
        try:
            made = improved(setting, misfit)
        except ScheduleError as error:
            tried[number] = replace(misfit, proved="proved infeasible" in str(error))
            continue
        misfits[:] = [one for one in misfits if one.candidate != misfit.candidate]
        return [made]
    raise does_not_fit(tried[0], len(misfits))


def _amount(count: int, what: str) -> str:
    return format_bytes(count) if what == "bytes" else f"{count} {what}"


def does_not_fit(nearest: Misfit, tried: int) -> DoesNotFitError:
    """Demand, capacity and shortage of every unit of the plan that comes nearest."""
    units = "; ".join(
        f"unit {unit} needs {_amount(demand, what)}, has {_amount(capacity, what)}; "
        f"short by {_amount(demand - capacity, what)}"
        for unit, demand, capacity, what in nearest.shortages
    )
    error = DoesNotFitError(
        f"none of {tried} plans fits into memory; the nearest ({nearest.candidate.label}): {units or 'no schedule'}",
        where="plan",
    )
    error.nearest = nearest
    return error


def _improve(setting: Setting, evaluated: list[Evaluated], tell: Advance) -> list[Evaluated]:
    """Local search and the exact solver on the best few; a proof may raise a candidate's bound."""
    if setting.target == "memory":
        return evaluated
    for one in evaluated[:IMPROVED]:
        if one.score.of(setting.target) <= one.bound:
            continue
        tell(f"improve {one.candidate.label}")
        try:
            better = improved(setting, one)
        except ScheduleError:
            continue
        kept = min(better, one, key=lambda each: rank_key(setting, each))
        evaluated[evaluated.index(one)] = replace(kept, bound=max(one.bound, better.bound))
    return sorted(evaluated, key=lambda one: rank_key(setting, one))


def improved(setting: Setting, found: Bounded) -> Evaluated:
    """A candidate with the schedule of ``auto``.

    Raises:
        ScheduleError: nothing fits.
    """
    problem = build_problem(setting, found.candidate, found.options, found.candidate.microbatches)
    search = setting.search
    if search.memory and surely_fits(problem, caps_of(problem, search)):
        search = replace(search, memory=False)  # nothing to watch while orders are tried
    solution = solve(problem, "auto", search)
    made = judge(setting, found, problem, solution.schedule, solution.proof)
    proof = solution.proof
    if full := overfull(setting, made):
        raise ScheduleError(f"holds too much on {', '.join(unit for unit, *_ in full)}", where="plan")
    timed = setting.target in ("step-time", "time-to-cosine")
    if proof is not None and timed and covers(setting.search, proof.freedom, is_lr=found.candidate.is_lr):
        made = replace(made, bound=max(made.bound, proof.bound))
    return made


def covers(search: SearchOptions, proved: Freedom, *, is_lr: bool) -> bool:
    """Whether a bound that was proved for one freedom holds for all that a search may do."""
    movable = is_lr and search.gradients == "free"
    if search.placement in (None, "fixed"):
        return proved in (("gradients", "free") if movable else ("fixed", "gradients", "stages", "free"))
    return proved == "free" or (search.placement == "stages" and not movable and proved == "stages")
