"""Rules on random stage graphs and options."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.rules.instances import forward_instances, noisy_groups
from alrsim.rules.segmentation import segmentation_of
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import NONE


@st.composite
def stage_graphs(draw: st.DrawFn) -> StageGraph:
    """A connected DAG of up to 6 stages with skips, some without parameters, some with marked places inside."""
    count = draw(st.integers(1, 6))
    trained = [draw(st.booleans()) for _ in range(count)]
    if not any(trained):
        trained[draw(st.integers(0, count - 1))] = True
    stages = tuple(
        Stage(
            i,
            f"s{i}",
            forward=Work(macs=10 + i),
            parameters=5 * trained[i],
            saved=3,
            lr_saved=4,
            linear=draw(st.booleans()),
            points=((f"p{i}", 7),) if trained[i] and draw(st.booleans()) else (),
        )
        for i in range(count)
    )
    edges = [Edge(i - 1, i, f"x{i - 1}", 8) for i in range(count + 1)]
    for source in range(count):
        for target in range(source + 2, count + 1):
            if draw(st.integers(0, 3)) == 0:
                edges.append(Edge(source, target, f"x{source}", 8))
    return StageGraph("random", stages, tuple(edges), Stage(count, "loss"))


@st.composite
def options(draw: st.DrawFn) -> RuleOptions:
    copies = draw(st.sampled_from([1, 2, 4]))
    group = draw(st.sampled_from([g for g in (1, 2, 4) if copies % g == 0]))
    baselines = ["clean", "antithetic", "none"] + (["copy-mean"] if copies > 1 else [])
    return RuleOptions(
        microbatches=draw(st.integers(1, 3)),
        copies=copies,
        group=group,
        baseline=draw(st.sampled_from(baselines)),  # type: ignore[arg-type]
        scope=draw(st.sampled_from(["joint", "layerwise"])),  # type: ignore[arg-type]
        reduction=draw(st.sampled_from(["stack", "accumulate"])),  # type: ignore[arg-type]
        update=draw(st.booleans()),
        loss_gradient=draw(st.booleans()),
        first_input_gradient=draw(st.booleans()),
        precision=PrecisionPlan(noise=draw(st.sampled_from([Precision.FP32, Precision.SIGN1, Precision.REGENERATED]))),
        segments=(),
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[StageGraph, RuleOptions, str]:
    """A graph with options that fit it: noise on some stages' parameters, and copies of every stage's own."""
    graph, chosen, rule = draw(stage_graphs()), draw(options()), draw(st.sampled_from(sorted(RULES)))
    if rule == "segments":
        count = len(graph.stages)
        starts = draw(st.lists(st.integers(1, count - 1), unique=True).map(sorted)) if count > 1 else []
        return graph, replace(chosen, segments=tuple(starts), exact_head=draw(st.booleans())), rule
    trained = [stage.index for stage in graph.stages if stage.parameters]
    chosen = replace(chosen, weight_noise=tuple(draw(st.lists(st.sampled_from(trained), unique=True))))
    if chosen.scope == "layerwise" and draw(st.booleans()):
        times = draw(st.lists(st.integers(1, 3), min_size=len(graph.stages), max_size=len(graph.stages)))
        chosen = replace(chosen, stage_copies=tuple(chosen.copies * each for each in times))
    return graph, chosen, rule


@settings(derandomize=True, max_examples=150, deadline=None)
@given(problems())
def test_every_rule_gives_every_parameter_a_gradient_from_every_microbatch(
    problem: tuple[StageGraph, RuleOptions, str],
) -> None:
    graph, chosen, rule = problem
    tasks = RULES[rule](graph, chosen)
    for stage in graph.stages:
        mine = [task.id for task in tasks.tasks if task.id.stage == stage.index and task.id.kind in "BGW"]
        if stage.parameters:
            assert {id_.microbatch for id_ in mine} == set(range(chosen.microbatches))
            ranks = sorted(b.rank for b in tasks.buffers if b.accumulator == f"{stage.index}:grad")
            assert ranks == list(range(len(ranks)))
            assert len(ranks) == len(mine)
        updates = [task for task in tasks.tasks if task.id == (stage.index, "U", NONE, NONE)]
        assert len(updates) == (chosen.update and stage.parameters > 0)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(problems())
def test_readers_and_reads_mirror_each_other_and_nothing_useful_is_lost(
    problem: tuple[StageGraph, RuleOptions, str],
) -> None:
    graph, chosen, rule = problem
    tasks = RULES[rule](graph, chosen)
    for index, buffer in enumerate(tasks.buffers):
        assert list(buffer.readers) == sorted(buffer.readers)
        assert all(index in tasks.tasks[reader].reads for reader in buffer.readers)
        assert all(reader > buffer.producer for reader in buffer.readers)
    for position, task in enumerate(tasks.tasks):
        for read in task.reads:
            assert position in tasks.buffers[read].readers


@settings(derandomize=True, max_examples=100, deadline=None)
@given(problems())
def test_no_update_overtakes_a_task_that_reads_the_parameters(problem: tuple[StageGraph, RuleOptions, str]) -> None:
    graph, chosen, rule = problem
    tasks = RULES[rule](graph, replace(chosen, update=True))
    before: list[int] = []
    for index in range(len(tasks.tasks)):
        found = 0
        for other, _ in tasks.dependencies(index):
            found |= before[other] | 1 << other
        before.append(found)
    for index, task in enumerate(tasks.tasks):
        for buffer in task.reads if task.id.kind == "U" else ():
            if tasks.buffers[buffer].category is Category.PARAM:
                others = [reader for reader in tasks.buffers[buffer].readers if reader != index]
                assert all(before[index] >> reader & 1 for reader in others)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(problems())
def test_copies_are_counted_from_zero_in_every_segment_and_groups_over_all(
    problem: tuple[StageGraph, RuleOptions, str],
) -> None:
    graph, chosen, rule = problem
    segmentation = segmentation_of(rule, graph, chosen)
    noisy = forward_instances(graph, segmentation, chosen).noisy
    if len(noisy) > 1:
        assert [one.group for one in noisy] == list(range(1, len(noisy) + 1))
    for source in {one.source for one in noisy}:
        draws = [d for one in noisy if one.source == source for d in range(one.first, one.first + one.draws)]
        mine = [
            s.index for s in graph.stages if segmentation.segment[s.index] == source and segmentation.injects(s.index)
        ]
        own = chosen.stage_copies[mine[0]] if chosen.stage_copies and source is not None else chosen.copies
        assert draws == list(range(own))
    assert len(noisy) == noisy_groups(segmentation, chosen)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(stage_graphs(), options())
def test_a_finer_grouping_of_copies_does_the_same_number_of_forwards(graph: StageGraph, chosen: RuleOptions) -> None:
    fine = RuleOptions(**{**vars(chosen), "group": 1})
    whole = RuleOptions(**{**vars(chosen), "group": None})
    assert RULES["lr"](graph, fine).forwards_per_step == RULES["lr"](graph, whole).forwards_per_step
