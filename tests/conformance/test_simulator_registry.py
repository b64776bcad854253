"""Every scheduler on every rule that it accepts: the simulator against the evaluator, bounds and memory."""

import pytest

from alrsim.errors import ScheduleError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.hardware.machine import Machine, abstract_machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import lower
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem, price
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.timeline import Timeline

OPTIONS = {
    "plain": RuleOptions(microbatches=4),
    "loss row": RuleOptions(microbatches=4, loss_gradient=True, loss_update=True, first_input_gradient=True),
    "groups": RuleOptions(microbatches=3, copies=4, group=2),
    "accumulated": RuleOptions(microbatches=3, copies=4, group=1, reduction="accumulate"),
    "layerwise": RuleOptions(microbatches=2, copies=2, scope="layerwise"),
    "antithetic, adam": RuleOptions(microbatches=2, copies=2, baseline="antithetic", optimizer="adam"),
    "copy-mean": RuleOptions(microbatches=2, copies=4, group=2, baseline="copy-mean"),
    "no update": RuleOptions(microbatches=3, update=False),
}


def model(stages: int) -> StageGraph:
    """Uneven stages with a residual edge that jumps over one of them."""
    body = tuple(
        Stage(
            i,
            f"s{i}",
            forward=Work(macs=3 + i),
            input_gradient=Work(macs=2 + i),
            weight_gradient=Work(macs=2),
            parameters=5 + i,
            saved=2,
        )
        for i in range(stages)
    )
    edges = [Edge(i - 1, i, f"x{i}", 4) for i in range(stages + 1)]
    if stages > 2:
        edges.append(Edge(0, 2, "x1", 4))
    return StageGraph("uneven", body, tuple(edges), Stage(stages, "loss", forward=Work(macs=1)))


def problem(rule: str, options: RuleOptions, stages: int, machine: Machine) -> Problem:
    if rule == "segments":
        options = RuleOptions(**{**_plain(options), "segments": (max(1, stages // 2),)})
    tasks = RULES[rule](model(stages), options)
    return price(tasks, machine, PrecisionPlan(), lambda task, *_: 1 + task.work.macs // 2, name="macs")


def _plain(options: RuleOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def times(timeline: Timeline) -> dict[str, tuple[int, int]]:
    return {str(span.task): (span.start, span.end) for span in timeline.spans}


def evaluated(case: Problem, order: Schedule) -> dict[str, tuple[int, int]]:
    lowered = lower(case, order)
    starts, ends = evaluate(lowered)
    tasks = case.tasks.tasks
    return {
        str(tasks[members[0]].id): (int(starts[item]), int(ends[item])) for item, members in enumerate(lowered.tasks)
    }


CASES = [
    (name, rule, what)
    for name, entry in SCHEDULERS.items()
    for rule in entry.rules
    for what in OPTIONS
    if rule in ("lr", "segments") or what in ("plain", "loss row", "no update")
]


@pytest.mark.parametrize(("name", "rule", "what"), CASES)
def test_the_simulator_agrees_with_the_longest_path_under_every_scheduler_and_rule(
    name: str, rule: str, what: str
) -> None:
    stages = 3 * (SCHEDULERS[name].chunks or 1)
    case = problem(rule, OPTIONS[what], stages, abstract_machine(3, 2))
    try:
        order = schedule(case, name)
    except ScheduleError as error:
        pytest.fail(f"{name} refuses {rule} ({what}): {error}")
    timeline = simulate(case, order, semantics="latency")
    assert times(timeline) == evaluated(case, order)
    for semantics in ("link", "blocking"):
        contended = simulate(case, order, semantics=semantics)
        assert contended.makespan >= timeline.makespan
        assert contended.schedule_digest == order.digest
    assert timeline.makespan >= makespan_bound(case)
    residents = sum(buffer.bytes for buffer in case.tasks.buffers if buffer.resident)
    last = {point.unit: point.total for point in timeline.memory}
    assert sum(last.values()) == residents
    assert sum(peak_memory(timeline).values()) > residents
