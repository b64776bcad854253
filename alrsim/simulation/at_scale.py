"""Steps of millions of tasks: simulated as one micro-batch, repeated, without writing tasks and lanes out.

Small steps, and those of schedulers whose order depends on the clock, are left to
:func:`alrsim.simulation.engine.simulate`; both ways give the same times, bubbles and peaks.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from alrsim.compiled import available
from alrsim.errors import OptionError, ScheduleError
from alrsim.schedule.column_lanes import NAMES, column_lanes
from alrsim.schedule.lane_columns import Ticks
from alrsim.schedule.lowered_columns import LaneColumns, crossings, lower_columns, row_of
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.simulation.column_memory import peak_bytes
from alrsim.simulation.engine import simulate
from alrsim.simulation.fast import clock_refusal, complete, run_columns
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.tasks.taskgraph import Category, Summary
from alrsim.tasks.token import NONE
from alrsim.timeline.facts import Facts
from alrsim.timeline.timeline import MANY_SPANS, Timeline, deferred, occupancy_of
from alrsim.units import Bytes

AT_SCALE = MANY_SPANS
"""Tasks from which a step is kept as one micro-batch and a number."""
MAX_OBJECTS = 4_000_000
"""Tasks that are written out where somebody needs them; a few GB and a minute."""

Make = Callable[[int], Problem]
"""The problem of a step of so many micro-batches, all else equal."""


@dataclass(frozen=True)
class StepAtScale:
    """A scheduled step that is not written out.

    Attributes:
        repeated: One micro-batch, and how many there are.
        lanes: Their order on every unit.
        make: Gives the whole problem, where somebody needs it.
        notes: Of the rule.
    """

    repeated: RepeatedProblem
    lanes: LaneColumns
    make: Make
    notes: tuple[str, ...] = ()

    @property
    def tasks(self) -> int:
        """How many tasks the step has."""
        return len(self.repeated)

    @property
    def summary(self) -> Summary:
        """The step in a few numbers."""
        one = self.repeated.graph.summary
        return replace(one, microbatches=self.repeated.microbatches, tasks=self.tasks, notes=self.notes)

    @cached_property
    def written_out(self) -> tuple[Problem, Schedule]:
        """The same problem and schedule as objects.

        Raises:
            OptionError: too many of them; says how many.
        """
        repeated, lanes = self.repeated, self.lanes
        if self.tasks > MAX_OBJECTS:
            raise OptionError(
                f"{self.tasks:,} tasks are too many to write out one by one (at most {MAX_OBJECTS:,})",
                field="microbatches",
                fix="use makespan, bubbles and peaks, which need no spans; or fewer `microbatches` or `units`",
            )
        ids = [tuple(map(repeated.task_id, lane.tolist())) for lane in np.split(lanes.items, lanes.first[1:-1])]
        units = repeated.one.machine.units
        order = Schedule(tuple(Lane(unit.name, lane) for unit, lane in zip(units, ids, strict=True)), lanes.name)
        return self.make(repeated.microbatches), order

    @cached_property
    def digest(self) -> str:
        """Hash of the lanes: equal digests are the same lanes of the same tasks, both kept as columns."""
        found = hashlib.sha256(" ".join(str(task.id) for task in self.repeated.graph.tasks).encode())
        found.update(str(self.repeated.microbatches).encode())
        found.update(np.ascontiguousarray(self.lanes.first).data)
        found.update(np.ascontiguousarray(self.lanes.items).data)
        return f"columns-{found.hexdigest()[:16]}"

    def simulate(self, semantics: Semantics = "link") -> Timeline:
        """Carry out the lanes in simulated time, as :func:`alrsim.simulation.engine.simulate` does.

        Makespan, bubbles and peaks of memory are those of all tasks. Spans, transfers and memory points are made when
        they are asked for, up to :data:`MAX_OBJECTS` tasks.

        Raises:
            ScheduleError: data must move where no link is.
            DeadlockError: the lanes wait for each other.
        """
        repeated, one = self.repeated, self.repeated.one
        columns = lower_columns(repeated, self.lanes, semantics)
        ends = run_columns(columns, semantics, keep_sent=False).ends
        names = tuple(unit.name for unit in one.machine.units)

        @cache
        def whole() -> Timeline:
            return simulate(*self.written_out, semantics=semantics, engine="fast")

        return deferred(
            occupancy_of(self.tasks, self._busy_lanes(ends)),
            lambda _: whole().spans,
            lambda _: whole().transfers,
            lambda _: whole().memory,
            peaks=lambda: self._peaks(semantics),
            source="simulated",
            schedule_digest=self.digest,
            units=names,
            cost_model=one.cost_model,
            layer_units=tuple(names[unit] for unit in sorted(set(repeated.units[:-1]))),
            time_unit=one.time_unit,
            ticks_per_unit=one.ticks_per_unit,
            facts=Facts(transfer_semantics=semantics, engine="fast"),
        )

    def _peaks(self, semantics: Semantics) -> tuple[Mapping[Category, Bytes], ...]:
        # When messages leave and arrive is as much as all ends again, so it is computed when somebody asks.
        columns = lower_columns(self.repeated, self.lanes, semantics)
        return peak_bytes(self.repeated, complete(columns, run_columns(columns, semantics), semantics))

    def _busy_lanes(self, ends: Ticks) -> Iterator[tuple[Ticks, Ticks]]:
        """Starts and ends of every unit's items, one unit at a time."""
        for low, high in pairwise(self.lanes.first.tolist()):
            items = self.lanes.items[low:high]
            end = ends[items]
            yield end - self.repeated.duration[row_of(self.repeated, items)], end


def schedule_at_scale(make: Make, microbatches: int, scheduler: str, *, objects: str = "") -> StepAtScale | None:
    """Schedule a step that is too large to be written out; ``None`` where it is not.

    Args:
        make: Gives the problem of one micro-batch, of which the step is made.
        scheduler: Key of :data:`alrsim.schedulers.SCHEDULERS`.
        objects: Why the caller wants tasks and lanes as objects whatever their number (options of a search), if so.

    Returns:
        ``None`` for fewer than :data:`AT_SCALE` tasks, and for up to :data:`MAX_OBJECTS` where this way is closed.

    Raises:
        OptionError: more tasks than that, and a scheduler or a problem that needs them one by one; says how many.
    """
    one = make(1)
    once = sum(task.id.microbatch == NONE for task in one.tasks.tasks)
    count = (len(one.tasks.tasks) - once) * microbatches + once
    if count < AT_SCALE:
        return None
    why = objects or _refusal(one, microbatches, scheduler)
    if not why:
        try:
            repeated = RepeatedProblem(one, microbatches)
            crossings(repeated)
            return StepAtScale(repeated, column_lanes(repeated, scheduler), make, make(2).tasks.notes)
        except ScheduleError as error:
            why = error.what
    if count <= MAX_OBJECTS:
        return None
    raise OptionError(
        f"{count:,} tasks are too many to schedule one by one (at most {MAX_OBJECTS:,}), and {why}",
        field="microbatches",
        fix=f"use fewer `microbatches` or `units`, or scheduler {', '.join(NAMES)} with one stage on each unit",
    )


def _refusal(one: Problem, microbatches: int, scheduler: str) -> str:
    """Why a step cannot go this way, in words that follow "and"; empty if it can."""
    if scheduler not in NAMES:
        return f"the order of scheduler {scheduler} is not known before time starts"
    # No time is later than if everything ran one after the other.
    sent = Counter(buffer.bytes for buffer in one.tasks.buffers for _ in buffer.readers)
    sorts = one.machine.topology.sorts()
    ways = sum(max((speed.delay_ns(size, hops) for speed, hops in sorts), default=0) * sent[size] for size in sent)
    ticks = (sum(max(row) * count for row, count in one.rows.items()) + ways) * microbatches
    return clock_refusal(one, ticks) or (
        "" if available() else "numba, which compiles the loops for so many, is not installed"
    )
