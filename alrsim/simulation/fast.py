"""The fast engine: the same times as SimPy's, to the tick, by compiled loops over columns.

Fixed lanes decide almost everything. Where every channel has one feeder (any machine with a link of its own for each
pair of units) all three transfer semantics are a longest path, taken in one sweep
(:mod:`alrsim.simulation.machine.relax`). Where units share a channel, who asks first depends on the clock, and an event
loop follows the rules of :mod:`alrsim.simulation.run` (:mod:`alrsim.simulation.machine.events`). Units that share
cores, or slow each other down, are left to SimPy.
"""

from typing import Any

import numpy as np

from alrsim.compiled import available
from alrsim.errors import DeadlockError
from alrsim.schedule.lane_columns import Columns, columns_of
from alrsim.schedule.lower import Lowered
from alrsim.simulation.machine.tables import Marks, Tables
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.token import NONE


def refusal(problem: Problem, lowered: Lowered) -> str:
    """Why the fast engine leaves a problem to SimPy; empty if it does not."""
    # No time is later than if everything ran one after the other.
    ticks = sum(lowered.duration) + sum(message.delay for message in lowered.messages)
    return clock_refusal(problem, ticks) or (
        "" if available() else "its loops are compiled by numba, which is not installed"
    )


def clock_refusal(problem: Problem, ticks: int) -> str:
    """Why the times of a problem need SimPy's clock, in words that follow "because" or "and"; empty if they do not.

    Args:
        ticks: No time is later.
    """
    machine = problem.machine
    if machine.shared_cores is not None and machine.shared_cores < len(machine.units):
        return f"{len(machine.units)} units share {machine.shared_cores} cores"
    if problem.contention is not None:
        return "how long a task takes depends on who else is at work"
    return "times may need more than 64 bits" if ticks > np.iinfo(np.int64).max else ""


def run_fast(lowered: Lowered, *, semantics: Semantics = "link") -> Marks:
    """Simulate a lowered schedule.

    Raises:
        DeadlockError: if the lanes wait for each other.
    """
    columns = columns_of(lowered, semantics)
    return complete(columns, run_columns(columns, semantics), semantics)


def run_columns(columns: Columns, semantics: Semantics, *, keep_sent: bool = True) -> Marks:
    """Run columns that were lowered for these semantics. Under ``latency`` only what is there from the start is sent.

    Args:
        keep_sent: Whether to note when messages leave; nothing depends on it.

    Raises:
        DeadlockError: if the lanes wait for each other.
    """
    from alrsim.simulation.machine.events import loop
    from alrsim.simulation.machine.relax import relax

    latent = semantics == "latency"
    messages = (int(np.sum(columns.source == NONE)) if latent else columns.messages) * columns.copies
    values: dict[str, Any] = {name: getattr(columns, name) for name in Tables._fields}
    sizes = (len(columns), messages if keep_sent else 0, messages)
    marks = Marks(*(np.full(size, NONE, dtype=np.int64) for size in sizes))
    kernel = loop if columns.contended else relax
    done = kernel(Tables(**values), semantics == "blocking", marks)
    if done < len(columns):
        raise DeadlockError(
            f"the lanes wait for each other: {len(columns) - done} of {len(columns)} items can never run",
            where="schedule",
            fix="check the schedule to see the cycle",
        )
    return marks


def complete(columns: Columns, marks: Marks, semantics: Semantics) -> Marks:
    """Times of all messages: under ``latency`` they leave when their source ends."""
    if semantics != "latency":
        return marks
    copies, made = columns.copies, columns.source[columns.source != NONE].astype(np.int64)
    later = marks.ends[(made[:, None] * copies + np.arange(copies)).ravel()]
    delay = np.repeat(columns.latency[columns.source != NONE], copies)
    return Marks(marks.ends, np.concatenate([marks.sent, later]), np.concatenate([marks.arrived, later + delay]))
