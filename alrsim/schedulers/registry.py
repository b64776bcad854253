"""Every scheduler by name: which rules it accepts, and how many stages it wants."""

from collections.abc import Callable
from dataclasses import dataclass

from alrsim.errors import OptionError, ScheduleError
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.gpipe import gpipe
from alrsim.schedulers.interleaved import interleaved
from alrsim.schedulers.list_schedule import list_schedule
from alrsim.schedulers.lr_fixed import lr_fixed
from alrsim.schedulers.lr_free import lr_free
from alrsim.schedulers.one_f_one_b import one_f_one_b
from alrsim.schedulers.serial import serial
from alrsim.schedulers.zb_h1 import zb_h1
from alrsim.schedulers.zb_v import zb_v
from alrsim.tasks.problem import Problem

Scheduler = Callable[[Problem], Schedule]

_KNOWN_RULES = ("bp", "bp-split", "segments", "lr")
_LR_RULES = ("lr", "segments")


@dataclass(frozen=True, slots=True)
class SchedulerEntry:
    """A scheduler.

    Attributes:
        name: As on the command line.
        function: Problem to schedule.
        rules: Rules whose tasks it accepts, the usual one first.
        chunks: Stages for each unit that it is usually given; ``None``: any number of stages.
        description: One sentence for people.
    """

    name: str
    function: Scheduler
    rules: tuple[str, ...]
    chunks: int | None
    description: str


_ENTRIES = (
    SchedulerEntry("serial", serial, _KNOWN_RULES, None, "everything on the first unit, in reference order"),
    SchedulerEntry("gpipe", gpipe, _KNOWN_RULES, 1, "all forwards, then all gradients"),
    SchedulerEntry("1f1b", one_f_one_b, _KNOWN_RULES, 1, "one forward, one gradient; fewest live micro-batches"),
    SchedulerEntry("interleaved-1f1b", interleaved, _KNOWN_RULES, 2, "1f1b over several chunks for each unit"),
    SchedulerEntry("zb-h1", zb_h1, ("bp-split",), 1, "1f1b with weight gradients moved into its bubbles"),
    SchedulerEntry("zb-v", zb_v, ("bp-split",), 2, "zero bubble inside each unit, two chunks in a V"),
    SchedulerEntry("lr-fixed", lr_fixed, _LR_RULES, None, "LR gradients on their layer's own unit"),
    SchedulerEntry("lr-free", lr_free, _LR_RULES, None, "LR gradients on any free unit, transfers charged"),
    SchedulerEntry("list", list_schedule, _KNOWN_RULES, None, "longest path first, any tasks"),
)

SCHEDULERS: dict[str, SchedulerEntry] = {entry.name: entry for entry in _ENTRIES}


def schedule(problem: Problem, name: str) -> Schedule:
    """Run a scheduler by name.

    Raises:
        OptionError: there is no such scheduler.
        ScheduleError: it does not accept the problem's rule, or not its number of stages.
    """
    entry = SCHEDULERS.get(name)
    if entry is None:
        raise OptionError(
            f"there is no scheduler {name!r}", where="--scheduler", fix=f"choose one of {', '.join(SCHEDULERS)}"
        )
    rule = rule_name(problem)
    if rule in _KNOWN_RULES and rule not in entry.rules:
        others = [other.name for other in _ENTRIES if rule in other.rules]
        raise ScheduleError(
            f"{name} schedules rule {' or '.join(entry.rules)}, not {rule}",
            where=f"scheduler {name}",
            fix=f"use rule {entry.rules[0]}, or one of the schedulers {', '.join(others)}",
        )
    return entry.function(problem)


def rule_name(problem: Problem) -> str:
    """The rule that made the problem's tasks, without its options; ``alr`` is rule ``lr`` on signs."""
    name = (problem.tasks.rule.split() or [""])[0]
    return "lr" if name == "alr" else name
