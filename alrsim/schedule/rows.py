"""Whether rows from PyTorch are whole, and the repair of the fault that its own 1F1B rows have."""

from collections import Counter
from collections.abc import Iterable

from alrsim.errors import ScheduleError
from alrsim.tasks.token import TaskId

_SHOWN = 6


def complete_rows(lanes: list[list[TaskId]], where: str, repair: bool, notes: list[str]) -> list[list[TaskId]]:
    """Prove that every stage has the same micro-batches 0..m-1, each with one forward and one whole gradient.

    Args:
        repair: Renumber a stage whose forwards count from 1.
        notes: What was repaired is added here.

    Raises:
        ScheduleError: tokens are missing, double or unknown.
    """
    tokens = [task for lane in lanes for task in lane if task.kind != "U"]
    found = sorted({task.stage for task in tokens})
    stages = len(found)
    if found != list(range(stages)):
        empty = next(stage for stage in range(stages) if stage not in found)
        raise ScheduleError(
            f"stage {empty} has no actions, but stage {found[-1]} has", where=where, fix="number the stages from 0"
        )
    forwards = Counter(task.stage for task in tokens if task.kind == "F")
    microbatches = Counter(forwards.values()).most_common(1)[0][0] if forwards else 0
    faults = _faults(tokens, stages, microbatches)
    if not faults:
        return lanes
    late = _late_stages(tokens, microbatches)
    if repair and late:
        lanes = [
            [
                task._replace(microbatch=task.microbatch - 1) if task.kind == "F" and task.stage in late else task
                for task in lane
            ]
            for lane in lanes
        ]
        notes.append(f"repaired stage {', '.join(map(str, sorted(late)))}: its forwards counted from 1 instead of 0")
        return complete_rows(lanes, where, False, notes)
    reason = "; ".join(faults)
    fix = "the rows must hold each stage's forward and gradient for every micro-batch once"
    if late:
        numbers = ", ".join(map(str, sorted(late)))
        reason += (
            f": the forwards of stage {numbers} count from 1 to {microbatches}, not from 0 (a fault of PyTorch's 1F1B)"
        )
        fix = "read it with repair"
    raise ScheduleError(reason, where=where, fix=fix)


def _faults(tokens: list[TaskId], stages: int, microbatches: int) -> list[str]:
    counts = Counter(tokens)
    missing: list[str] = []
    for stage in range(stages):
        for microbatch in range(microbatches):
            f, b, i, w = (TaskId(stage, kind, microbatch) in counts for kind in ("F", "B", "I", "W"))
            missing += [] if f else [f"{stage}F{microbatch}"]
            missing += [] if b or i or w else [f"{stage}B{microbatch}"]
            missing += [f"{stage}W{microbatch}"] if i and not w and not b else []
    double = [str(task) for task, count in counts.items() if count > 1]
    double += [
        f"{t} beside {t._replace(kind='B')}" for t in counts if t.kind in "IW" and t._replace(kind="B") in counts
    ]
    unknown = [str(task) for task in counts if task.microbatch >= microbatches]
    lists = (("missing", missing), ("double", double), ("unknown", unknown))
    return [f"{what} {some(items)}" for what, items in lists if items]


def _late_stages(tokens: list[TaskId], microbatches: int) -> set[int]:
    """Stages whose forwards are exactly 1..m."""
    forwards: dict[int, list[int]] = {}
    for task in tokens:
        if task.kind == "F":
            forwards.setdefault(task.stage, []).append(task.microbatch)
    return {stage for stage, found in forwards.items() if sorted(found) == list(range(1, microbatches + 1))}


def some(items: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = list(items)
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")
