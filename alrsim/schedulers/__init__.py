"""Who runs what and in which order: one pure function ``Problem -> Schedule`` for each scheduler."""

from alrsim.schedulers.registry import SCHEDULERS, Scheduler, SchedulerEntry, rule_name, schedule, solve
from alrsim.schedulers.search import SearchOptions, Solution

__all__ = [
    "SCHEDULERS",
    "Scheduler",
    "SchedulerEntry",
    "SearchOptions",
    "Solution",
    "rule_name",
    "schedule",
    "solve",
]
