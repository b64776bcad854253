"""Random models, rules, options and machines under every scheduler: the simulator agrees with the longest path."""

from dataclasses import dataclass

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import OptionError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.topology import Listed
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import lower
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem, price
from alrsim.tasks.taskgraph import Task

PAIRS = [(name, rule) for name, entry in SCHEDULERS.items() for rule in entry.rules]


@dataclass(frozen=True)
class Case:
    scheduler: str
    problem: Problem


@st.composite
def models(draw: st.DrawFn, stages: int) -> StageGraph:
    """A chain with random skips: any later stage, or the loss, may read any earlier value too."""
    body = tuple(
        Stage(i, f"s{i}", parameters=draw(st.integers(1 if i == 0 else 0, 4)), saved=draw(st.integers(0, 3)))
        for i in range(stages)
    )
    edges = [Edge(i - 1, i, f"x{i}", draw(st.integers(0, 3))) for i in range(stages + 1)]
    for source in range(stages - 1):
        if draw(st.booleans()):
            target = draw(st.integers(source + 2, stages))
            edges.append(Edge(source, target, f"x{source + 1}", edges[source + 1].elements))
    return StageGraph("random", body, tuple(edges), Stage(stages, "loss"))


@st.composite
def options(draw: st.DrawFn, rule: str, stages: int) -> RuleOptions:
    copies, group = draw(st.sampled_from([(1, None), (2, 1), (4, 2), (4, None)]))
    try:
        return RuleOptions(
            microbatches=draw(st.integers(1, 5)),
            copies=copies,
            group=group,
            baseline=draw(st.sampled_from(["clean", "copy-mean", "antithetic", "none"])),
            scope=draw(st.sampled_from(["joint", "layerwise"])),
            reduction=draw(st.sampled_from(["stack", "accumulate"])),
            update=draw(st.booleans()),
            first_input_gradient=draw(st.booleans()),
            segments=(draw(st.integers(1, stages - 1)),) if rule == "segments" and stages > 1 else (),
            weight_noise=draw(st.sampled_from([(), (0,)])) if rule == "lr" else (),
        )
    except OptionError:
        assume(False)
        raise


@st.composite
def cases(draw: st.DrawFn) -> Case:
    scheduler, rule = draw(st.sampled_from(PAIRS))
    units = draw(st.integers(1, 3))
    chunks = SCHEDULERS[scheduler].chunks
    stages = units * chunks if chunks else draw(st.integers(1, 5))
    links = tuple(
        Link(s, t, occupancy_ns=draw(st.integers(0, 3)), latency_ns=draw(st.integers(0, 2)))
        for s in range(units)
        for t in range(units)
        if s != t
    )
    machine = Machine("random", tuple(Unit(f"u{i}") for i in range(units)), Listed(links))
    times = {key: draw(st.integers(0, 6)) for key in "FLBIWGCU"}

    def cost(task: Task, unit: Unit, _plan: PrecisionPlan) -> int:
        return times[task.id.kind] + (task.id.stage + int(unit.name[1:])) % 2

    try:
        tasks = RULES[rule](draw(models(stages)), draw(options(rule, stages)))
    except OptionError:
        assume(False)
        raise
    return Case(scheduler, price(tasks, machine, PrecisionPlan(), cost, name="random"))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cases())
def test_the_simulator_agrees_with_the_longest_path_on_random_models(case: Case) -> None:
    order = schedule(case.problem, case.scheduler)
    timeline = simulate(case.problem, order, semantics="latency")
    lowered = lower(case.problem, order)
    starts, ends = evaluate(lowered)
    tasks = case.problem.tasks.tasks
    expected = {tasks[one[0]].id: (int(starts[i]), int(ends[i])) for i, one in enumerate(lowered.tasks)}
    assert {span.task: (span.start, span.end) for span in timeline.spans} == expected
    assert timeline.makespan >= makespan_bound(case.problem)
    assert simulate(case.problem, order).makespan >= timeline.makespan
    residents = sum(buffer.bytes for buffer in case.problem.tasks.buffers if buffer.resident)
    assert sum({point.unit: point.total for point in timeline.memory}.values()) == residents
