"""Critical path, slack and idle time of random schedules: sums that come out, delays that do (not) matter."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.schedule.critical import critical_path, slack
from alrsim.schedule.event_graph import EventGraph
from alrsim.schedule.idle import Cause, Limit, idle_by_cause, idle_stretches
from alrsim.schedule.lower import Lowered, lower
from alrsim.schedulers import schedule
from alrsim.simulation.run import run
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE
from tests.properties.test_fast_engine import networks
from tests.properties.test_simulator import Case
from tests.properties.test_simulator import cases as dags
from tests.properties.test_simulator_rules import Case as Ruled
from tests.properties.test_simulator_rules import cases as rules

SEMANTICS = st.sampled_from(["latency", "link", "blocking"])
CORES = st.sampled_from([None, 1, 2])
QUICK = settings(derandomize=True, max_examples=80, deadline=None)


Stretch = list[tuple[int, ...]] | None


def simulated(lowered: Lowered, semantics: Semantics, cores: int | None = None, stretch: Stretch = None) -> EventGraph:
    return EventGraph(lowered, run(lowered, semantics=semantics, cores=cores, stretch=stretch), semantics, cores)


def holds(lowered: Lowered, semantics: Semantics, cores: int | None, stretch: Stretch = None) -> None:
    """Every moment is the latest of its reasons; the path has no gap; idle ticks add up; every reason is true."""
    graph = simulated(lowered, semantics, cores, stretch)
    times = graph.times
    for moment in range(len(graph)):
        latest = max((graph.time(one.moment) + one.ticks for one in graph.reasons(moment)), default=0)
        assert graph.time(moment) == latest
    path = critical_path(graph)
    assert path[0].start == 0
    assert path[-1].end == times.makespan
    assert all(before.end == after.start for before, after in pairwise(path))
    assert sum(step.end - step.start for step in path) == times.makespan
    free = slack(graph)
    assert min(free) == 0
    assert all(free[step.item] == 0 for step in path if step.item != NONE)
    stretches = idle_stretches(graph)
    assert all(one.start < one.end for one in stretches)
    assert all(a.end <= b.start for a, b in pairwise(stretches) if a.unit == b.unit)
    for unit, causes in enumerate(idle_by_cause(stretches, len(lowered.lanes))):
        assert sum(causes.values()) == times.makespan - sum(
            times.ends[item] - times.starts[item] for item in lowered.lanes[unit]
        )
    for one in stretches:
        if one.cause == Cause.CHOICE:
            needs = graph.inputs(one.other)
            assert times.starts[one.other] >= times.starts[one.item] >= one.end
            assert all(graph.time(reason.moment) <= one.start for reason in needs)
        elif one.cause in (Cause.LINK, Cause.TRANSFER):
            sent, arrived = times.sent[one.message], times.arrived[one.message]
            assert (one.end <= sent) if one.cause == Cause.LINK else (sent <= one.start < one.end <= arrived)
            assert one.item in lowered.messages[one.message].readers
        elif one.cause == Cause.INPUT:
            assert one.end <= times.ends[one.other] <= times.starts[one.item]
        elif one.cause == Cause.DONE:
            assert all(times.ends[item] <= one.start for item in lowered.lanes[one.unit])


@QUICK
@given(dags() | dags(private_links=False), SEMANTICS, CORES)
def test_path_and_idle_time_add_up_on_random_task_graphs(case: Case, semantics: Semantics, cores: int | None) -> None:
    holds(lower(case.problem, case.schedule), semantics, cores)


@settings(QUICK, max_examples=200)
@given(networks(), SEMANTICS, CORES)
def test_path_and_idle_time_add_up_over_routes_of_shared_channels(
    case: Lowered, semantics: Semantics, cores: int | None
) -> None:
    holds(case, semantics, cores)


@QUICK
@given(dags(), SEMANTICS, st.data())
def test_path_and_idle_time_add_up_where_neighbours_slow_each_other_down(
    case: Case, semantics: Semantics, data: st.DataObject
) -> None:
    lowered = lower(case.problem, case.schedule)
    slower = [data.draw(st.integers(0, 5)) for _ in lowered.duration]
    holds(lowered, semantics, None, [(t, t + more) for t, more in zip(lowered.duration, slower, strict=True)])


@settings(QUICK, max_examples=40)
@given(rules(), SEMANTICS)
def test_path_and_idle_time_add_up_under_every_rule_and_scheduler(case: Ruled, semantics: Semantics) -> None:
    assume(case.scheduler not in ("cpsat", "auto", "local-search"))
    holds(lower(case.problem, schedule(case.problem, case.scheduler)), semantics, None)


@settings(QUICK, max_examples=100)
@given(dags(), SEMANTICS, st.data())
def test_a_task_may_be_longer_by_its_slack_and_by_no_tick_more(
    case: Case, semantics: Semantics, data: st.DataObject
) -> None:
    lowered = lower(case.problem, case.schedule)
    graph = simulated(lowered, semantics)
    free = slack(graph)
    item = data.draw(st.integers(0, len(free) - 1))

    def makespan(more: int) -> int:
        longer = [ticks + (more if one == item else 0) for one, ticks in enumerate(lowered.duration)]
        return simulated(replace(lowered, duration=longer), semantics).times.makespan

    assert makespan(free[item]) == graph.times.makespan
    assert makespan(free[item] + 1) == graph.times.makespan + 1


@QUICK
@given(dags(), st.data())
def test_a_refused_task_would_not_fit_and_a_chosen_one_would(case: Case, data: st.DataObject) -> None:
    lowered = lower(case.problem, case.schedule)
    graph = simulated(lowered, "link")
    times = graph.times
    units = len(lowered.lanes)
    demand = [data.draw(st.integers(0, 3)) for _ in lowered.duration]
    capacity = tuple(data.draw(st.integers(1, 6)) for _ in range(units))
    changes, held = [], []
    for lane in lowered.lanes:  # what an item takes is held from its start to the end of the step
        marks = sorted({0, *(times.starts[item] for item in lane)})
        changes.append(marks)
        held.append([sum(demand[item] for item in lane if times.starts[item] <= mark) for mark in marks])
    limit = Limit(Cause.MEMORY, capacity, tuple(changes), tuple(held), demand)
    plain = idle_stretches(graph)
    capped = idle_stretches(graph, (limit,))

    def could(stretches: tuple[object, ...]) -> list[tuple[int, int]]:
        words = (Cause.CHOICE, Cause.MEMORY)
        return sorted({(o.unit, t) for o in stretches if o.cause in words for t in range(o.start, o.end)})  # type: ignore[attr-defined]

    assert could(plain) == could(capped)
    for one in capped:
        if one.cause in (Cause.CHOICE, Cause.MEMORY):
            before = [i for i in lowered.lanes[one.unit] if times.starts[i] < times.starts[one.other]]
            most = sum(demand[item] for item in before)
            fits = demand[one.other] == 0 or most + demand[one.other] <= capacity[one.unit]
            assert fits is (one.cause == Cause.CHOICE)
