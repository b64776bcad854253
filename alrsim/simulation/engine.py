"""Simulate a schedule of a problem: from an order of tasks to a timeline with transfers and memory."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

from alrsim.allocation import collector_paused
from alrsim.errors import OptionError
from alrsim.schedule.check import check_and_lower
from alrsim.schedule.event_graph import EventGraph, Times
from alrsim.schedule.lower import Lowered
from alrsim.schedule.schedule import Schedule
from alrsim.simulation.contention import stretches
from alrsim.simulation.fast import refusal, run_fast
from alrsim.simulation.machine.tables import Marks
from alrsim.simulation.run import run
from alrsim.simulation.terms import terms
from alrsim.tasks.problem import SEMANTICS, Problem, Semantics
from alrsim.timeline.facts import Facts
from alrsim.timeline.memory import memory_points
from alrsim.timeline.timeline import MemPoint, Span, Timeline, TransferSpan, deferred, later, occupancy_of

Engine = Literal["simpy", "fast", "auto"]

FAST_FROM = 20_000
"""Tasks from which ``auto`` takes the fast engine: below, SimPy takes less time than loading compiled loops."""


def simulate(
    problem: Problem,
    schedule: Schedule,
    *,
    semantics: Semantics = "link",
    overlap: Fraction = Fraction(1),
    engine: Engine = "simpy",
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

    Where the problem says what its durations are made of (:class:`alrsim.tasks.problem.ContentionModel`), a task is as
    fast as its neighbours leave it, moment by moment (:mod:`alrsim.simulation.contention`).

    On a host with fewer cores than units a task holds one core from start to end; units that wait for one get it
    first come, first served. Ties are decided as written in :mod:`alrsim.simulation.run`.

    Args:
        overlap: A fused pair of tasks takes ``overlap`` times the sum of both; their spans coincide.
        engine: ``simpy`` is the reference; ``fast`` gives the same times from compiled loops
            (:mod:`alrsim.simulation.fast`); ``auto`` takes the fast one for :data:`FAST_FROM` tasks or more,
            wherever it can, else the reference.

    Returns:
        A timeline tagged ``simulated``, memory included; ``facts.engine`` says which engine made it, and where
        times are in ns ``facts.terms_ns`` what the makespan is made of (:mod:`alrsim.timeline.terms`).

    Raises:
        OptionError: an unknown semantics or engine, a negative overlap, or a problem that ``fast`` leaves to ``simpy``.
        ScheduleError: the schedule does not fit the problem, or needs a link that does not exist.
        DeadlockError: its lanes wait for each other.
    """
    if semantics not in SEMANTICS:
        raise OptionError(
            f"unknown semantics {semantics!r}", field="transfer_semantics", fix=f"choose one of {', '.join(SEMANTICS)}"
        )
    if overlap < 0:
        raise OptionError(f"overlap is {overlap}, must not be negative", field="overlap")
    if engine not in get_args(Engine):
        known = ", ".join(get_args(Engine))
        raise OptionError(f"there is no engine {engine!r}", field="engine", fix=f"choose one of {known}")
    lowered = check_and_lower(problem, schedule, overlap=overlap)
    values: dict[str, Any] = {
        "source": "simulated",
        "schedule_digest": schedule.digest,
        "units": tuple(unit.name for unit in problem.machine.units),
        "cost_model": problem.cost_model,
        "layer_units": _layer_units(problem, lowered),
        "time_unit": problem.time_unit,
        "ticks_per_unit": problem.ticks_per_unit,
    }
    fast = engine == "fast" or (engine == "auto" and len(lowered.duration) >= FAST_FROM)
    why = refusal(problem, lowered) if fast else ""
    if engine == "fast" and why:
        raise OptionError(f"the fast engine leaves this to SimPy: {why}", field="engine", fix="use auto or simpy")
    taken = run_fast(lowered, semantics=semantics) if fast and not why else None
    if taken is None:
        stretch = None if problem.contention is None else stretches(problem.contention, lowered, overlap)
        simulated = run(lowered, semantics=semantics, cores=problem.machine.shared_cores, stretch=stretch)
        times, timeline = cache(lambda: simulated), _timeline(problem, lowered, simulated, values)
    else:
        times = cache(lambda: _times(lowered, taken))
        timeline = _deferred(problem, lowered, taken, times, values)

    def facts(_: Timeline) -> Facts:
        found = Facts(transfer_semantics=semantics, engine="simpy" if taken is None else "fast")
        if problem.time_unit != "ns":  # steps of abstract units have no words for what they are made of
            return found
        graph = EventGraph(lowered, times(), semantics, problem.machine.shared_cores)
        return replace(found, terms_ns=terms(problem, graph, overlap))

    return later(timeline, facts=facts)


def _times(lowered: Lowered, marks: Marks) -> Times:
    starts = (marks.ends - np.array(lowered.duration, dtype=np.int64)).tolist()
    return Times(starts, marks.ends.tolist(), marks.sent.tolist(), marks.arrived.tolist())


@collector_paused()
def _timeline(problem: Problem, lowered: Lowered, times: Times, values: Mapping[str, Any]) -> Timeline:
    units = values["units"]
    spans, transfers = _spans(problem, lowered, times, units), _transfers(problem, lowered, times, units)
    timeline = Timeline(spans=spans, transfers=transfers, **values)
    return replace(timeline, memory=_memory(problem, lowered, timeline))


def _deferred(
    problem: Problem, lowered: Lowered, marks: Marks, times: Callable[[], Times], values: Mapping[str, Any]
) -> Timeline:
    """Spans, transfers and memory points are made when somebody looks at them."""
    units = values["units"]

    duration = np.array(lowered.duration, dtype=np.int64)
    lanes = (np.array(lane, dtype=np.int64) for lane in lowered.lanes)
    return deferred(
        occupancy_of(
            len(problem.tasks.tasks), ((marks.ends[lane] - duration[lane], marks.ends[lane]) for lane in lanes)
        ),
        collector_paused()(lambda _: _spans(problem, lowered, times(), units)),
        collector_paused()(lambda _: _transfers(problem, lowered, times(), units)),
        lambda timeline: _memory(problem, lowered, timeline),
        **values,
    )


@collector_paused()
def _memory(problem: Problem, lowered: Lowered, timeline: Timeline) -> tuple[MemPoint, ...]:
    return memory_points(problem.tasks, timeline, [timeline.units[home] for home in lowered.home])


def _spans(problem: Problem, lowered: Lowered, times: Times, units: tuple[str, ...]) -> tuple[Span, ...]:
    # Items are numbered unit by unit in lane order, so a stable sort keeps the lane order of tasks without duration.
    order = sorted(range(len(times.starts)), key=lambda i: (times.starts[i], lowered.unit[i], times.ends[i]))
    tasks = problem.tasks.tasks
    return tuple(
        Span(tasks[member].id, units[lowered.unit[item]], times.starts[item], times.ends[item])
        for item in order
        for member in lowered.tasks[item]
    )


def _transfers(problem: Problem, lowered: Lowered, times: Times, units: tuple[str, ...]) -> tuple[TransferSpan, ...]:
    buffers = problem.tasks.buffers
    order = sorted(range(len(lowered.messages)), key=lambda index: (times.sent[index], index))
    found = []
    for index in order:
        message = lowered.messages[index]
        buffer = buffers[message.buffer]
        source, target = units[message.source_unit], units[message.target_unit]
        found.append(TransferSpan(buffer.name, source, target, times.sent[index], times.arrived[index], buffer.bytes))
    return tuple(found)


def _layer_units(problem: Problem, lowered: Lowered) -> tuple[str, ...]:
    tasks, layers = problem.tasks.tasks, problem.tasks.stages
    busy = {
        lowered.unit[item]
        for item, members in enumerate(lowered.tasks)
        if any(tasks[member].id.stage < layers for member in members)
    }
    return tuple(problem.machine.units[unit].name for unit in sorted(busy))
