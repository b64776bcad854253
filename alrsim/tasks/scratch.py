"""Scratch, what tasks allocate and free inside themselves, from a table into a task graph."""

from collections.abc import Mapping
from dataclasses import replace

from alrsim.errors import OptionError
from alrsim.tasks.problem import CostKey, cost_key
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.units import Bytes


def with_scratch(graph: TaskGraph, table: Mapping[CostKey, Bytes]) -> TaskGraph:
    """The task graph whose tasks have the scratch that a table gives by :func:`alrsim.tasks.problem.cost_key`.

    Tasks that are not in the table keep what they have.

    Raises:
        OptionError: bytes that are not whole.
    """
    for key, size in table.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise OptionError(f"{key} has {size!r} bytes of scratch; need whole bytes", where="scratch table")
    tasks = tuple(replace(task, scratch=table.get(cost_key(task), task.scratch)) for task in graph.tasks)
    return replace(graph, tasks=tasks)
