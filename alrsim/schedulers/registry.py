"""Every scheduler by name: which rules it accepts, and how many stages it wants."""

from collections.abc import Callable
from dataclasses import dataclass

from alrsim.errors import OptionError, ScheduleError
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.auto import auto, auto_solution
from alrsim.schedulers.cpsat import cpsat, cpsat_solution
from alrsim.schedulers.heft import heft, heft_solution
from alrsim.schedulers.list_schedule import list_schedule, list_solution
from alrsim.schedulers.local_search import local_search, local_search_solution
from alrsim.schedulers.lr_free import lr_fixed, lr_free
from alrsim.schedulers.pipelines import gpipe, interleaved, one_f_one_b, serial, zb_h1, zb_v
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem

Scheduler = Callable[[Problem], Schedule]
Search = Callable[[Problem, SearchOptions], Solution]

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
        search: The same with options, for schedulers that have some.
    """

    name: str
    function: Scheduler
    rules: tuple[str, ...]
    chunks: int | None
    description: str
    search: Search | None = None


_ENTRIES = (
    SchedulerEntry("serial", serial, _KNOWN_RULES, None, "everything on the first unit, in reference order"),
    SchedulerEntry("gpipe", gpipe, _KNOWN_RULES, 1, "all forwards, then all gradients"),
    SchedulerEntry("1f1b", one_f_one_b, _KNOWN_RULES, 1, "one forward, one gradient; fewest live micro-batches"),
    SchedulerEntry("interleaved-1f1b", interleaved, _KNOWN_RULES, 2, "1f1b over several chunks for each unit"),
    SchedulerEntry("zb-h1", zb_h1, ("bp-split",), 1, "1f1b with weight gradients moved into its bubbles"),
    SchedulerEntry("zb-v", zb_v, ("bp-split",), 2, "zero bubble inside each unit, two chunks in a V"),
    SchedulerEntry("lr-fixed", lr_fixed, _LR_RULES, None, "LR gradients on their layer's own unit"),
    SchedulerEntry("lr-free", lr_free, _LR_RULES, None, "LR gradients on any free unit, transfers charged"),
    SchedulerEntry("list", list_schedule, _KNOWN_RULES, None, "longest path first, any tasks", list_solution),
    SchedulerEntry("heft", heft, _KNOWN_RULES, None, "earliest finish on unlike units and links", heft_solution),
    SchedulerEntry(
        "local-search", local_search, _KNOWN_RULES, None, "small changes to the critical path", local_search_solution
    ),
    SchedulerEntry("cpsat", cpsat, _KNOWN_RULES, None, "proved optimum or bound, needs OR-Tools", cpsat_solution),
    SchedulerEntry("auto", auto, _KNOWN_RULES, None, "the best of all within a time budget", auto_solution),
)

SCHEDULERS: dict[str, SchedulerEntry] = {entry.name: entry for entry in _ENTRIES}


def schedule(problem: Problem, name: str, options: SearchOptions | None = None) -> Schedule:
    """Run a scheduler by name; see :func:`solve`."""
    return solve(problem, name, options).schedule


def solve(problem: Problem, name: str, options: SearchOptions | None = None) -> Solution:
    """Run a scheduler by name and keep what it proved.

    Args:
        options: For the schedulers that search; the others have no options and ignore them.

    Raises:
        OptionError: there is no such scheduler.
        ScheduleError: it does not accept the problem's rule, or not its number of stages.
    """
    entry = SCHEDULERS.get(name)
    if entry is None:
        raise OptionError(
            f"there is no scheduler {name!r}", field="scheduler", fix=f"choose one of {', '.join(SCHEDULERS)}"
        )
    rule = rule_name(problem)
    if rule in _KNOWN_RULES and rule not in entry.rules:
        others = [other.name for other in _ENTRIES if rule in other.rules]
        raise ScheduleError(
            f"{name} schedules rule {' or '.join(entry.rules)}, not {rule}",
            where=f"scheduler {name}",
            fix=f"use rule {entry.rules[0]}, or one of the schedulers {', '.join(others)}",
        )
    if entry.search is None:
        return Solution(entry.function(problem))
    return entry.search(problem, options or SearchOptions())


def rule_name(problem: Problem) -> str:
    """The rule that made the problem's tasks, without its options; ``alr`` is rule ``lr`` on signs."""
    name = (problem.tasks.rule.split() or [""])[0]
    return "lr" if name == "alr" else name
