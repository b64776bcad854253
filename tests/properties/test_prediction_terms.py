"""What a prediction is made of adds up, and neighbours slow each other down as an independent calculation says."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import AlrsimError
from alrsim.hardware.topology import Listed
from alrsim.reports.explained import explain
from alrsim.rules.options import RuleOptions
from alrsim.schedule.proof import gap
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.textbook_problem import textbook_problem
from alrsim.tasks.problem import ContentionModel, Problem
from tests.linked import every_link
from tests.properties.test_simulator import Case, cases, times

QUICK = settings(derandomize=True, max_examples=50, deadline=None)
SEMANTICS = st.sampled_from(["latency", "link", "blocking"])


def with_loads(problem: Problem, slow: list[int], overhead: int, neighbours: int) -> Problem:
    """The durations are those of idle neighbours; busy ones add ``slow``."""
    busy = tuple(tuple(ticks + more for ticks in row) for row, more in zip(problem.durations, slow, strict=True))
    contention = ContentionModel(problem.durations, busy, overhead, neighbours)
    return replace(problem, contention=contention, durations=contention.durations())


@st.composite
def loaded(draw: st.DrawFn, *, private_links: bool = True) -> Case:
    case = draw(cases(private_links=private_links))
    tasks = len(case.problem.durations)
    slow = draw(st.lists(st.integers(0, 9), min_size=tasks, max_size=tasks))
    problem = with_loads(case.problem, slow, draw(st.integers(0, 3)), draw(st.integers(1, 3)))
    return Case(problem, case.schedule)


@QUICK
@given(loaded(private_links=False), SEMANTICS, st.sampled_from([None, 1, 2]), st.booleans())
def test_the_terms_add_up_to_the_makespan(case: Case, semantics: str, cores: int | None, plain: bool) -> None:
    machine = replace(case.problem.machine, shared_cores=cores)
    problem = replace(case.problem, machine=machine, contention=None if plain else case.problem.contention)
    timeline = simulate(problem, case.schedule, semantics=semantics)
    terms = timeline.facts.terms_ns
    assert terms is not None
    assert terms.total == timeline.makespan
    assert min(terms.named.values()) >= 0
    if plain:
        assert (terms.overhead, terms.contention) == (0, 0)


@settings(QUICK, max_examples=40)
@given(
    st.sampled_from(sorted(name for name, entry in SCHEDULERS.items() if (entry.chunks or 1) == 1 and name != "auto")),
    st.sampled_from(["bp-split", "bp", "lr"]),
    st.integers(1, 3),
    st.integers(1, 4),
    SEMANTICS,
)
def test_terms_of_real_schedules_add_up(name: str, rule: str, units: int, microbatches: int, semantics: str) -> None:
    options = RuleOptions(microbatches=microbatches, baseline="none", first_input_gradient=True)
    costs = {"f": 5, "b": 7, "w": 6, "g": 6, "u": 1, "transfer": 2}
    problem = replace(
        textbook_problem(rule, costs, stages=units, units=units, options=options), time_unit="ns", ticks_per_unit=1
    )
    problem = with_loads(problem, [3] * len(problem.durations), 1, 1)
    try:
        found = schedule(problem, name)
    except AlrsimError:
        assume(False)  # not every scheduler takes every rule; what it takes must add up
    timeline = simulate(problem, found, semantics=semantics)
    terms = timeline.facts.terms_ns
    assert terms is not None
    assert terms.total == timeline.makespan


@QUICK
@given(loaded(), SEMANTICS)
def test_neighbours_that_do_not_matter_change_nothing(case: Case, semantics: str) -> None:
    contention = case.problem.contention
    assert contention is not None
    free = ContentionModel(contention.alone, contention.alone, contention.overhead, contention.neighbours)
    problem = replace(case.problem, contention=free, durations=free.durations())
    plain = replace(problem, contention=None)
    assert times(problem, simulate(problem, case.schedule, semantics=semantics)) == times(
        plain, simulate(plain, case.schedule, semantics=semantics)
    )


@QUICK
@given(loaded())
def test_a_contended_step_lies_between_idle_and_busy_neighbours(case: Case) -> None:
    problem, contention = case.problem, case.problem.contention
    assert contention is not None
    fast, slow = (
        simulate(replace(problem, contention=None, durations=rows), case.schedule, semantics="latency").makespan
        for rows in (problem.shortest, contention.durations())
    )
    assert fast <= simulate(problem, case.schedule, semantics="latency").makespan <= slow


@QUICK
@given(loaded(), SEMANTICS)
def test_no_bound_is_above_a_contended_step(case: Case, semantics: str) -> None:
    makespan = simulate(case.problem, case.schedule, semantics=semantics).makespan
    found = gap(case.problem, makespan, case.schedule)
    assert found is not None
    assert found.any_bound <= found.bound <= makespan


@QUICK
@given(loaded(), SEMANTICS)
def test_a_contended_step_can_be_explained(case: Case, semantics: str) -> None:
    timeline = simulate(case.problem, case.schedule, semantics=semantics)
    found = explain(case.problem, case.schedule, timeline)
    assert sum(step.end - step.start for step in found.path) == timeline.makespan


def by_fractions(problem: Problem, order: Schedule) -> dict[str, Fraction]:
    """Ends of tasks that slow each other down, links free: exact rational time, one event after the other."""
    contention, index, tasks = problem.contention, problem.tasks.index, problem.tasks.tasks
    assert contention is not None
    lanes = [[index[task] for task in lane.tasks] for lane in order.lanes]
    now, left, ends = Fraction(0), {}, {}
    while any(lanes) or left:
        for unit, lane in enumerate(lanes):
            if lane and unit not in left and all(d in ends for d, _ in problem.tasks.dependencies(lane[0])):
                left[unit] = (lane.pop(0), Fraction(1))
        pace = {}
        running = sum(contention.busy[task][unit] + contention.overhead > 0 for unit, (task, _) in left.items())
        for unit, (task, _) in left.items():
            share = Fraction(min(running - 1, contention.neighbours), contention.neighbours)
            alone, busy = contention.alone[task][unit], contention.busy[task][unit]
            pace[unit] = alone + (busy - alone) * share + contention.overhead
        step = min(pace[unit] * rest for unit, (_, rest) in left.items())
        now += step
        for unit, (task, rest) in list(left.items()):
            rest = rest - step / pace[unit] if pace[unit] else Fraction(0)
            left[unit] = (task, rest)
            if rest == 0:
                ends[task] = now
                del left[unit]
    return {str(tasks[task].id): end for task, end in ends.items()}


@settings(QUICK, max_examples=60)
@given(loaded())
def test_contention_agrees_with_rational_arithmetic(case: Case) -> None:
    scale = 10**9  # rounding to a tick must not decide anything
    contention = case.problem.contention
    assert contention is not None
    # Who meets whom is not decided for tasks that take no time alone and some time beside others: they get a tick.
    alone = tuple(
        tuple(max(a, min(b, 1)) for a, b in zip(*pair, strict=True))
        for pair in zip(contention.alone, contention.busy, strict=True)
    )
    rows = [tuple(tuple(ticks * scale for ticks in row) for row in table) for table in (alone, contention.busy)]
    big = ContentionModel(rows[0], rows[1], contention.overhead * scale, contention.neighbours)
    links = tuple(
        replace(link, bandwidth=None, occupancy_ns=0, latency_ns=0) for link in every_link(case.problem.machine)
    )
    machine = replace(case.problem.machine, topology=Listed(links))
    problem = replace(case.problem, machine=machine, contention=big, durations=big.durations())
    expected = by_fractions(problem, case.schedule)
    for span in simulate(problem, case.schedule).spans:
        assert abs(span.end - expected[str(span.task)]) <= 2 * len(expected)


def two_lanes(first: list[int], second: list[int], slow: int) -> int:
    """Independent tasks on two units; neighbours make each ``slow`` times as long."""
    from alrsim.hardware.machine import abstract_machine
    from alrsim.tasks.taskgraph import Task, TaskGraph
    from alrsim.tasks.token import TaskId

    ticks = (*first, *second)
    tasks = tuple(Task(TaskId(0, "F", index)) for index in range(len(ticks)))
    alone = tuple((t, t) for t in ticks)
    contention = ContentionModel(alone, tuple((t * slow, t * slow) for t in ticks))
    graph = TaskGraph(tasks, (), "two lanes", 1, len(ticks))
    problem = Problem(graph, abstract_machine(2), contention.durations(), "typed", contention=contention)
    ids = [task.id for task in tasks]
    lanes = (Lane("u0", tuple(ids[: len(first)])), Lane("u1", tuple(ids[len(first) :])))
    return simulate(problem, Schedule(lanes, "two lanes")).makespan


def test_closed_forms_of_two_units() -> None:
    assert two_lanes([100], [], 2) == 100  # nobody beside it
    assert two_lanes([100], [100], 2) == 200  # beside each other from start to end
    assert two_lanes([100, 100], [200], 2) == 400  # an end and a start of one instant change nothing
    # The short one ends at 80; by then the long one has 60 of its 100 to go, alone.
    assert two_lanes([100], [40], 2) == 140
    assert two_lanes([100], [10, 10, 10, 10], 2) == 140
