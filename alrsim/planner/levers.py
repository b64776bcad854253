"""Where no plan fits into memory: what would make one fit, by how much. Every lever is computed by planning again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from alrsim.errors import AlrsimError
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.planner.candidate import Candidate
from alrsim.planner.evaluate import Bounded, Evaluated, Misfit, Setting, bounded, evaluate
from alrsim.planner.search import Lever
from alrsim.planner.space import Space

TRIED = 6
"""Candidates that a lever is tried on: those with the smallest memory bounds."""

MOST_SPLIT = 64
"""Micro-batches that are tried, unless the plan has half as many already."""

Candidates = Callable[[Setting, Space], Sequence[Candidate]]


def levers(setting: Setting, space: Space, candidates: Candidates, grow: Callable[[int], Machine]) -> list[Lever]:
    """Every lever that applies, those that fit first.

    Args:
        candidates: The space of candidates of a changed question.
        grow: A machine with more units.
    """
    found = []
    for words, changed, wider in _changes(setting, space, grow):
        try:
            found.append(_try(words, changed, candidates(changed, wider)))
        except AlrsimError:
            continue  # the machine has no such format, or is not to be had with so many units
    return sorted((one for one in found if one is not None), key=lambda one: not one.fits)


def _changes(setting: Setting, space: Space, grow: Callable[[int], Machine]) -> Iterator[tuple[str, Setting, Space]]:
    batch = setting.source.batch
    most = max(MOST_SPLIT, 2 * max(space.microbatches))
    more = [count for count in range(max(space.microbatches) + 1, min(batch, most) + 1) if batch % count == 0]
    for count in more[:1] + more[-1:] if len(more) > 1 else more:
        yield f"{count} micro-batches", setting, replace(space, microbatches=(count,))
    formats = (Precision.BF16, Precision.FP16)
    half = next((one for one in formats if all(one in unit.peak_flops for unit in setting.machine.units)), None)
    if half is not None and setting.base.precision == PrecisionPlan():
        base = replace(setting.base, precision=PrecisionPlan(half, half, half, half))
        yield f"state in {half.value}", replace(setting, base=base), space
    if setting.base.optimizer != "sgd":
        yield "optimizer sgd", replace(setting, base=replace(setting.base, optimizer="sgd")), space
    if {"lr", "segments"} & set(space.rules):
        for mode in ("accumulated", "regenerated", "bits"):
            if mode not in space.modes:
                yield f"noise {mode}", setting, replace(space, modes=(mode,))
    units = len(setting.machine.units)
    for count in sorted({units + 1, 2 * units, 4 * units}):
        try:
            yield f"{count} units", replace(setting, machine=grow(count)), space
        except AlrsimError:
            return


def _try(words: str, setting: Setting, candidates: Sequence[Candidate]) -> Lever | None:
    lean = replace(setting, target="memory")
    known: list[Bounded] = []
    for candidate in candidates:
        try:
            known.append(bounded(lean, candidate))
        except AlrsimError:
            continue
    known.sort(key=lambda one: one.bound)
    nearest: Misfit | None = None
    for one in known[:TRIED]:
        made = evaluate(lean, one)
        if isinstance(made, Evaluated):
            return Lever(words, True, made.score.memory, 0)
        nearest = made if nearest is None or made.excess < nearest.excess else nearest
    if nearest is None:
        return None
    rows = [row for row in nearest.shortages if row[3] == "bytes"]
    short = max((demand - capacity for _, demand, capacity, _ in rows), default=0)
    return Lever(words, False, max((demand for _, demand, _, _ in rows), default=0), short)
