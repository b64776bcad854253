"""Simulate a schedule of a problem: from an order of tasks to a timeline with transfers and memory."""

from dataclasses import replace
from fractions import Fraction
from typing import get_args

from alrsim.allocation import collector_paused
from alrsim.errors import OptionError
from alrsim.schedule.check import check_and_lower
from alrsim.schedule.lower import Lowered
from alrsim.schedule.schedule import Schedule
from alrsim.simulate.network import Semantics
from alrsim.simulate.run import Trace, run
from alrsim.tasks.problem import Problem
from alrsim.timeline.memory import memory_points
from alrsim.timeline.timeline import Span, Timeline, TransferSpan


def simulate(
    problem: Problem, schedule: Schedule, *, semantics: Semantics = "link", overlap: Fraction = Fraction(1)
) -> Timeline:
    """Carry out a schedule in simulated time.

    A unit runs its lane in order, each task as soon as everything that it waits for is there. What a message from
    one unit to another occupies has three semantics:

    - ``latency``: nothing; it delays its readers by its time on an idle network.
    - ``link`` (default): every channel of its route, one after the other, first in first out.
    - ``blocking``: as ``link``, and the sending unit is busy until the message has left the first channel; several
      messages of one task leave one after the other. The unit's core is free meanwhile.

    ZB-H1 with 4 units, 8 micro-batches, f = b = w = 1 and a transfer time of 0.25 takes 30.0 under ``latency`` and
    ``link`` (a sender is never blocked) and 31.75 under ``blocking``.

    On a host with fewer cores than units a task holds one core from start to end; units that wait for one get it
    first come, first served. Ties are decided as written in :mod:`alrsim.simulate.run`.

    Args:
        overlap: A fused pair of tasks takes ``overlap`` times the sum of both; their spans coincide.

    Returns:
        A timeline tagged ``simulated``, memory included.

    Raises:
        OptionError: an unknown semantics, or a negative overlap.
        ScheduleError: the schedule does not fit the problem, or needs a link that does not exist.
        DeadlockError: its lanes wait for each other.
    """
    if semantics not in get_args(Semantics):
        known = ", ".join(get_args(Semantics))
        raise OptionError(
            f"unknown semantics {semantics!r}", where="--transfer-semantics", fix=f"choose one of {known}"
        )
    if overlap < 0:
        raise OptionError(f"overlap is {overlap}, must not be negative", where="--overlap")
    lowered = check_and_lower(problem, schedule, overlap=overlap)
    trace = run(lowered, semantics=semantics, cores=problem.machine.shared_cores)
    return _timeline(problem, schedule, lowered, trace, semantics)


@collector_paused()
def _timeline(problem: Problem, schedule: Schedule, lowered: Lowered, trace: Trace, semantics: Semantics) -> Timeline:
    units = tuple(unit.name for unit in problem.machine.units)
    timeline = Timeline(
        source="simulated",
        schedule_digest=schedule.digest,
        units=units,
        spans=_spans(problem, lowered, trace, units),
        transfers=_transfers(problem, lowered, trace, units),
        cost_model=problem.cost_model,
        layer_units=_layer_units(problem, lowered, units),
        time_unit=problem.time_unit,
        ticks_per_unit=problem.ticks_per_unit,
        facts={"transfer_semantics": semantics},
    )
    homes = [units[home] for home in lowered.home]
    return replace(timeline, memory=memory_points(problem.tasks, timeline, homes))


def _spans(problem: Problem, lowered: Lowered, trace: Trace, units: tuple[str, ...]) -> tuple[Span, ...]:
    # Items are numbered unit by unit in lane order, so a stable sort keeps the lane order of tasks without duration.
    order = sorted(range(len(trace.starts)), key=lambda i: (trace.starts[i], lowered.unit[i], trace.ends[i]))
    tasks = problem.tasks.tasks
    return tuple(
        Span(tasks[member].id, units[lowered.unit[item]], trace.starts[item], trace.ends[item])
        for item in order
        for member in lowered.tasks[item]
    )


def _transfers(problem: Problem, lowered: Lowered, trace: Trace, units: tuple[str, ...]) -> tuple[TransferSpan, ...]:
    buffers = problem.tasks.buffers
    order = sorted(range(len(lowered.messages)), key=lambda index: (trace.sent[index], index))
    found = []
    for index in order:
        message = lowered.messages[index]
        buffer = buffers[message.buffer]
        source, target = units[message.source_unit], units[message.target_unit]
        found.append(TransferSpan(buffer.name, source, target, trace.sent[index], trace.arrived[index], buffer.bytes))
    return tuple(found)


def _layer_units(problem: Problem, lowered: Lowered, units: tuple[str, ...]) -> tuple[str, ...]:
    tasks, layers = problem.tasks.tasks, problem.tasks.stages
    busy = {
        lowered.unit[item]
        for item, members in enumerate(lowered.tasks)
        if any(tasks[member].id.stage < layers for member in members)
    }
    return tuple(units[unit] for unit in sorted(busy))
