"""Rules on random stage graphs and options."""

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.token import NONE


@st.composite
def stage_graphs(draw: st.DrawFn) -> StageGraph:
    """A connected DAG of up to 6 stages with skips, some stages without parameters."""
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


@settings(derandomize=True, max_examples=150, deadline=None)
@given(stage_graphs(), options(), st.sampled_from(sorted(RULES)), st.data())
def test_every_rule_gives_every_parameter_a_gradient_from_every_microbatch(
    graph: StageGraph, chosen: RuleOptions, rule: str, data: st.DataObject
) -> None:
    count = len(graph.stages)
    starts = data.draw(st.lists(st.integers(1, count - 1), unique=True).map(sorted)) if count > 1 else []
    chosen = RuleOptions(**{**vars(chosen), "segments": tuple(starts), "exact_head": data.draw(st.booleans())})
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
@given(stage_graphs(), options(), st.sampled_from(["bp", "bp-split", "lr"]))
def test_readers_and_reads_mirror_each_other_and_nothing_useful_is_lost(
    graph: StageGraph, chosen: RuleOptions, rule: str
) -> None:
    tasks = RULES[rule](graph, chosen)
    for index, buffer in enumerate(tasks.buffers):
        assert list(buffer.readers) == sorted(buffer.readers)
        assert all(index in tasks.tasks[reader].reads for reader in buffer.readers)
        assert all(reader > buffer.producer for reader in buffer.readers)
    for position, task in enumerate(tasks.tasks):
        for read in task.reads:
            assert position in tasks.buffers[read].readers


@settings(derandomize=True, max_examples=60, deadline=None)
@given(stage_graphs(), options())
def test_a_finer_grouping_of_copies_does_the_same_number_of_forwards(graph: StageGraph, chosen: RuleOptions) -> None:
    fine = RuleOptions(**{**vars(chosen), "group": 1})
    whole = RuleOptions(**{**vars(chosen), "group": None})
    assert RULES["lr"](graph, fine).forwards_per_step == RULES["lr"](graph, whole).forwards_per_step
