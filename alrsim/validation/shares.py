"""Where the time of a step goes, for a predicted and a measured timeline alike, so that their difference adds up.

Of every unit, from 0 to the makespan: each instant belongs to a kind of task that runs, or is

* ``wait``: what the next task needs is not finished yet, or nothing follows;
* ``transfer``: it is finished on another unit and has not come, or a message leaves or comes;
* ``overhead``: everything is there, and the next task has not begun.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import KINDS
from alrsim.timeline.timeline import Span, Timeline
from alrsim.units import Ns

WAIT, TRANSFER, OVERHEAD = "wait", "transfer", "overhead"
TERMS = (*KINDS, OVERHEAD, TRANSFER, WAIT)


def time_shares(tasks: TaskGraph, timeline: Timeline) -> dict[str, Ns]:
    """Time of all units together by what they do; it adds up to units x makespan.

    Args:
        tasks: Of the same step, in any order. Without fused pairs.
    """
    spans = {span.task: span for span in timeline.spans}
    total: dict[str, Ns] = defaultdict(int)
    lanes: dict[str, list[Span]] = {unit: [] for unit in timeline.units}
    for span in timeline.spans:
        lanes[span.unit].append(span)
    for unit, lane in lanes.items():
        moving = _merged((one.start, one.end) for one in timeline.transfers if unit in (one.source, one.target))
        now = 0
        for span in sorted(lane, key=lambda one: (one.start, one.end)):
            needs = [spans[tasks.tasks[other].id] for other, _ in tasks.dependencies(tasks.index[span.task])]
            last = max(needs, key=lambda one: (one.end, one.unit != unit), default=None)
            ready = min(span.start, max(now, last.end if last is not None else 0))
            total[WAIT] += ready - now
            late = span.start - ready
            if last is not None and last.end >= ready and last.unit != unit:
                total[TRANSFER] += late
            else:
                moved = sum(max(0, min(end, span.start) - max(start, ready)) for start, end in moving)
                total[TRANSFER] += moved
                total[OVERHEAD] += late - moved
            total[span.task.kind] += span.end - max(span.start, now)
            now = max(now, span.end)
        total[WAIT] += timeline.makespan - now
    return {term: total[term] for term in TERMS if total[term]}


def differences(predicted: Mapping[str, Ns], measured: Mapping[str, Ns], units: int, makespan: Ns) -> dict[str, float]:
    """What each term adds to the relative error of the makespan: ``(predicted - measured) / (units x makespan)``.

    They add up to ``(predicted makespan - measured makespan) / measured makespan``.
    """
    every = [term for term in TERMS if term in predicted or term in measured]
    return {term: (predicted.get(term, 0) - measured.get(term, 0)) / (units * makespan) for term in every}


def reason(terms: Mapping[str, float], most: int = 3) -> str:
    """The terms that are furthest off, in words: ``G -4.9, wait -2.3, F +0.4 points``."""
    ranked = sorted(terms.items(), key=lambda one: -abs(one[1]))[:most]
    words = [f"{term} {100 * value:+.1f}" for term, value in ranked if abs(value) >= 0.0005]
    return ", ".join(words).replace("-", "−") + " points" if words else "nothing"


def _merged(spans: Iterable[tuple[Ns, Ns]]) -> list[tuple[Ns, Ns]]:
    """Intervals as disjoint ones, ascending."""
    found: list[tuple[Ns, Ns]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif end > start:
            found.append((start, end))
    return found
