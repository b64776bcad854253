"""The simulator against the pure evaluator and against what no schedule may do, on random problems."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.errors import DeadlockError
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.hardware.topology import Listed
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import lower
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId
from alrsim.timeline.memory import lifetimes
from alrsim.timeline.metrics import busy, named_shares
from alrsim.timeline.timeline import Timeline
from tests.linked import every_link, link_table

QUICK = settings(derandomize=True, max_examples=60, deadline=None)


@dataclass(frozen=True)
class Case:
    problem: Problem
    schedule: Schedule


def _graph(draw: st.DrawFn, count: int, stages: int) -> TaskGraph:
    """Random tasks; each may read buffers of earlier ones, or of nobody, and wait for some without reading."""
    readers: dict[int, list[int]] = {}
    buffers: list[Buffer] = []
    tasks = []
    for index in range(count):
        reads = draw(st.lists(st.integers(0, len(buffers) - 1), max_size=3, unique=True)) if buffers else []
        after = draw(st.lists(st.integers(0, index - 1), max_size=1)) if index else []
        for buffer in reads:
            readers.setdefault(buffer, []).append(index)
        stage = draw(st.integers(0, stages - 1))
        tasks.append(Task(TaskId(stage, "F", index), tuple(reads), tuple(after)))
        for _ in range(draw(st.integers(0, 2))):
            producer = index if draw(st.booleans()) or draw(st.booleans()) else NONE
            size, resident = draw(st.integers(0, 5)), producer == NONE and draw(st.booleans())
            term = producer != NONE and draw(st.integers(0, 3)) == 0
            buffers.append(
                Buffer(
                    f"b{len(buffers)}",
                    Category.TEMP if term else Category.ACTIVATION,
                    size,
                    stage,
                    producer,
                    resident=resident,
                    accumulator=f"sum{stage}" if term else "",
                    rank=len(buffers),
                )
            )
    final = tuple(replace(b, readers=tuple(readers.get(i, ()))) for i, b in enumerate(buffers))
    return TaskGraph(tuple(tasks), final, "random", stages, count)


@st.composite
def cases(draw: st.DrawFn, *, private_links: bool = True) -> Case:
    """A random problem with a random placement; the reference order restricted to each unit never deadlocks."""
    units, stages = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    graph = _graph(draw, draw(st.integers(1, 14)), stages)
    shared = () if private_links else ("bus",)
    links = tuple(
        Link(
            s,
            t,
            bandwidth=1e9,
            latency_ns=draw(st.integers(0, 3)),
            occupancy_ns=draw(st.integers(0, 3)),
            channels=shared,
        )
        for s in range(units)
        for t in range(units)
        if s != t
    )
    machine = Machine("random", tuple(Unit(f"u{i}") for i in range(units)), Listed(links))
    rows = tuple(tuple(draw(st.integers(0, 6)) for _ in range(units)) for _ in graph.tasks)
    placed = [draw(st.integers(0, units - 1)) for _ in graph.tasks]
    lanes = tuple(
        Lane(unit.name, tuple(task.id for task, at in zip(graph.tasks, placed, strict=True) if at == index))
        for index, unit in enumerate(machine.units)
    )
    return Case(Problem(graph, machine, rows, "random"), Schedule(lanes, "random"))


def times(problem: Problem, timeline: Timeline) -> tuple[list[int], list[int]]:
    """Starts and ends in the order of the problem's tasks."""
    spans = {span.task: span for span in timeline.spans}
    return [spans[t.id].start for t in problem.tasks.tasks], [spans[t.id].end for t in problem.tasks.tasks]


def evaluated(case: Case) -> tuple[list[int], list[int]]:
    lowered = lower(case.problem, case.schedule)
    starts, ends = evaluate(lowered)
    at = {members[0]: item for item, members in enumerate(lowered.tasks)}
    order = range(len(at))
    return [int(starts[at[i]]) for i in order], [int(ends[at[i]]) for i in order]


@QUICK
@given(cases())
def test_the_simulator_agrees_with_the_longest_path(case: Case) -> None:
    assert times(case.problem, simulate(case.problem, case.schedule, semantics="latency")) == evaluated(case)


@QUICK
@given(cases())
def test_links_of_unlimited_speed_make_all_semantics_the_longest_path(case: Case) -> None:
    free = tuple(replace(link, bandwidth=None, occupancy_ns=0) for link in every_link(case.problem.machine))
    problem = replace(case.problem, machine=replace(case.problem.machine, topology=Listed(free)))
    expected = evaluated(Case(problem, case.schedule))
    for semantics in ("latency", "link", "blocking"):
        assert times(problem, simulate(problem, case.schedule, semantics=semantics)) == expected


def contended(case: Case, timeline: Timeline) -> bool:
    """Whether two messages would want one link at the same moment."""
    links, index = link_table(case.problem.machine), case.problem.machine.unit_index()
    windows: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for t in timeline.transfers:
        hold = links[index[t.source], index[t.target]].hold_ns(t.bytes)
        windows.setdefault((t.source, t.target), []).append((t.start, t.start + hold))
    return any(before[1] > after[0] for held in windows.values() for before, after in pairwise(sorted(held)))


@settings(QUICK, max_examples=150)
@given(cases())
def test_links_without_contention_agree_with_the_longest_path(case: Case) -> None:
    if not contended(case, simulate(case.problem, case.schedule, semantics="latency")):
        assert times(case.problem, simulate(case.problem, case.schedule, semantics="link")) == evaluated(case)


@QUICK
@given(cases(private_links=False))
def test_a_shared_link_only_delays_and_a_blocked_sender_changes_no_duration(case: Case) -> None:
    _, ideal = evaluated(case)
    for semantics in ("link", "blocking"):
        starts, ends = times(case.problem, simulate(case.problem, case.schedule, semantics=semantics))
        assert all(end >= best for end, best in zip(ends, ideal, strict=True))
        unit_of = case.schedule.unit_of
        for task, row, start, end in zip(case.problem.tasks.tasks, case.problem.durations, starts, ends, strict=True):
            assert end - start == row[unit_of[task.id]]


@QUICK
@given(cases(private_links=False), st.sampled_from(["latency", "link", "blocking"]))
def test_no_unit_and_no_link_does_two_things_at_once_and_nothing_starts_early(case: Case, semantics: str) -> None:
    timeline = simulate(case.problem, case.schedule, semantics=semantics)  # type: ignore[arg-type]
    for lane in case.schedule.lanes:
        spans = {span.task: span for span in timeline.spans if span.unit == lane.unit}
        in_order = [spans[task] for task in lane.tasks]
        assert all(before.end <= after.start for before, after in pairwise(in_order))
    starts, ends = times(case.problem, timeline)
    unit_of = case.schedule.unit_of
    tasks, buffers = case.problem.tasks.tasks, case.problem.tasks.buffers
    arrival = {(t.buffer, t.target): t.end for t in timeline.transfers}
    for index, task in enumerate(tasks):
        here = unit_of[task.id]
        for other, buffer in case.problem.tasks.dependencies(index):
            ready = ends[other]
            if buffer != NONE and unit_of[tasks[other].id] != here:
                ready = arrival[buffers[buffer].name, timeline.units[here]]
                assert ready >= ends[other]
            assert starts[index] >= ready
    if semantics != "latency":
        links = link_table(case.problem.machine)
        index_of = case.problem.machine.unit_index()
        held = sorted(
            (t.start, t.start + links[index_of[t.source], index_of[t.target]].hold_ns(t.bytes))
            for t in timeline.transfers
        )
        assert all(before[1] <= after[0] for before, after in pairwise(held))


@QUICK
@given(cases(), st.data())
def test_a_longer_task_never_shortens_a_fixed_order(case: Case, data: st.DataObject) -> None:
    before = simulate(case.problem, case.schedule, semantics="latency").makespan
    longer = data.draw(st.integers(0, len(case.problem.durations) - 1))
    extra = data.draw(st.integers(1, 9))
    rows = tuple(
        tuple(d + extra for d in row) if index == longer else row for index, row in enumerate(case.problem.durations)
    )
    problem = replace(case.problem, durations=rows)
    assert simulate(problem, case.schedule, semantics="latency").makespan >= before


@QUICK
@given(cases(private_links=False), st.sampled_from([1, 2, None]))
def test_no_makespan_is_below_the_bounds_and_every_share_is_a_share(case: Case, cores: int | None) -> None:
    problem = replace(case.problem, machine=replace(case.problem.machine, shared_cores=cores))
    timeline = simulate(problem, case.schedule)
    assert timeline.makespan >= makespan_bound(problem)
    assert timeline.makespan >= max(busy(timeline).values())
    shares = named_shares(timeline)
    shares.pop("overhead_ratio")  # a ratio to the ideal, may be above 1
    assert all(0 <= share <= 1 for share in shares.values())


@QUICK
@given(cases(private_links=False), st.integers(1, 3))
def test_no_more_tasks_run_at_once_than_there_are_cores(case: Case, cores: int) -> None:
    problem = replace(case.problem, machine=replace(case.problem.machine, shared_cores=cores))
    timeline = simulate(problem, case.schedule)
    changes = sorted(
        (time, step) for s in timeline.spans if s.end > s.start for time, step in ((s.start, 1), (s.end, -1))
    )
    running = 0
    for _, step in changes:  # at one instant ends (-1) come before starts
        running += step
        assert running <= cores
    assert timeline == simulate(problem, case.schedule)


@QUICK
@given(cases(), st.randoms(use_true_random=False))
def test_renaming_and_reordering_the_units_changes_no_time(case: Case, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(case.schedule.lanes)))
    random.shuffle(order)
    new = {old: position for position, old in enumerate(order)}
    machine = case.problem.machine
    links = tuple(replace(link, source=new[link.source], target=new[link.target]) for link in every_link(machine))
    units = tuple(replace(machine.units[old], name=f"v{old}") for old in order)
    problem = replace(
        case.problem,
        machine=replace(machine, units=units, topology=Listed(links)),
        durations=tuple(tuple(row[old] for old in order) for row in case.problem.durations),
    )
    schedule = Schedule(tuple(Lane(f"v{old}", case.schedule.lanes[old].tasks) for old in order))
    one, other = (
        simulate(case.problem, case.schedule, semantics="latency"),
        simulate(problem, schedule, semantics="latency"),
    )
    assert times(case.problem, one) == times(problem, other)


@QUICK
@given(cases(private_links=False))
def test_memory_equals_a_plain_count_at_every_instant_and_ends_with_the_residents(case: Case) -> None:
    timeline = simulate(case.problem, case.schedule)
    homes = [timeline.units[home] for home in lower(case.problem, case.schedule).home]
    intervals = list(lifetimes(case.problem.tasks, timeline, homes))
    residents = dict.fromkeys(timeline.units, 0)
    for buffer in case.problem.tasks.buffers:
        residents[homes[buffer.stage]] += buffer.bytes if buffer.resident else 0
    for unit in timeline.units:
        points = [point for point in timeline.memory if point.unit == unit]
        assert points[0].time == 0
        assert points[-1].total == residents[unit]
        for point in points:
            alive = [
                one.bytes
                for one in intervals
                if one.unit == unit and one.start <= point.time and (one.end is None or point.time < one.end)
            ]
            assert point.total == sum(alive)
            assert min(point.live.values(), default=0) >= 0


@QUICK
@given(cases(private_links=False))
def test_a_running_task_has_all_that_it_reads_and_nothing_outlives_its_last_use(case: Case) -> None:
    timeline = simulate(case.problem, case.schedule)
    graph = case.problem.tasks
    homes = [timeline.units[home] for home in lower(case.problem, case.schedule).home]
    held = {(one.buffer, one.unit): one for one in lifetimes(graph, timeline, homes)}
    spans = {span.task: span for span in timeline.spans}
    for task in graph.tasks:
        span = spans[task.id]
        for index in task.reads:
            one = held[index, span.unit]
            assert one.start <= span.start
            if not graph.buffers[index].accumulator:  # a term of a sum is in the sum by then
                assert one.end is None or one.end >= span.end
    for one in held.values():
        buffer = graph.buffers[one.buffer]
        if one.end is not None:
            uses = [spans[graph.tasks[reader].id].end for reader in buffer.readers]
            uses += [t.end for t in timeline.transfers if t.buffer == buffer.name]
            uses += [0 if buffer.producer == NONE else spans[graph.tasks[buffer.producer].id].end]
            if not buffer.accumulator:
                assert one.end <= max(uses)


@QUICK
@given(cases(), st.fractions(0, 1))
def test_a_fused_pair_ends_together_after_its_share_of_the_sum(case: Case, overlap: Fraction) -> None:
    tasks = case.problem.tasks
    unit, lane = next((index, lane) for index, lane in enumerate(case.schedule.lanes) if lane.tasks)
    if len(lane.tasks) < 2:
        return
    first, second = lane.tasks[:2]
    if any(other == tasks.index[first] for other, _ in tasks.dependencies(tasks.index[second])):
        return
    schedule = replace(case.schedule, overlaps=((first, second),))
    try:
        timeline = simulate(case.problem, schedule, overlap=overlap)
    except DeadlockError:  # a fused pair may wait for itself through another unit
        return
    spans = {span.task: span for span in timeline.spans}
    one, other = spans[first], spans[second]
    assert (one.start, one.end) == (other.start, other.end)
    total = sum(case.problem.durations[tasks.index[task]][unit] for task in (first, second))
    assert one.end - one.start == round(overlap * total)
