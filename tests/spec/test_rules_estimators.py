"""Noise on parameters, noise at points inside a stage, and copies of every stage's own: counts and bytes."""

from dataclasses import replace

import pytest

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import OptionError
from alrsim.frontend.torch_export import export_model
from alrsim.graph.stages import MODEL_INPUT, Edge, Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.models import build
from alrsim.rules import RULES, RuleOptions
from alrsim.rules.segmentation import segmentation_of
from alrsim.tasks.taskgraph import Category, Task, TaskGraph
from alrsim.tasks.token import parse_token

FORWARD = Work(macs=1000, param_reads=10, activation_reads=100, activation_writes=100, launches=2, products=1)
GAUSS = 63


def graph_of(stages: int, **changes: object) -> StageGraph:
    """A chain of equal stages of 10 parameters and 100 elements between them; ``changes`` are for stage 1."""
    body = [
        Stage(
            i,
            f"s{i}",
            forward=FORWARD,
            weight_gradient=Work(macs=300),
            parameters=10,
            saved=50,
            lr_saved=100,
            linear=True,
        )
        for i in range(stages)
    ]
    if changes:
        body[1] = replace(body[1], **changes)  # type: ignore[arg-type]
    edges = tuple(Edge(i - 1, i, f"x{i}", 100) for i in range(stages + 1))
    return StageGraph("chain", tuple(body), edges, Stage(stages, "loss", forward=Work(elementwise=5)), batch=4)


def task_of(tasks: TaskGraph, token: str) -> Task:
    return tasks.tasks[tasks.index[parse_token(token)]]


def tokens(tasks: TaskGraph) -> list[str]:
    return [str(task.id) for task in tasks.tasks]


def waits(tasks: TaskGraph, token: str) -> set[str]:
    return {str(tasks.tasks[other].id) for other, _ in tasks.dependencies(tasks.index[parse_token(token)])}


def bytes_of(tasks: TaskGraph, name: str) -> int:
    return sum(buffer.bytes for buffer in tasks.buffers if buffer.name == name)


@pytest.mark.parametrize(("baseline", "rows"), [("clean", 3), ("antithetic", 6)])
def test_copies_with_parameters_of_their_own_share_nothing_in_the_forward(baseline: str, rows: int) -> None:
    options = RuleOptions(copies=3, baseline=baseline, weight_noise=(1,))  # type: ignore[arg-type]
    tasks = RULES["lr"](graph_of(3), options)
    group = ".1" if baseline == "clean" else ""
    stacked, own = task_of(tasks, f"0F0{group}").work, task_of(tasks, f"1F0{group}").work
    assert (stacked.launches, stacked.param_reads) == (2 + 1, 10)
    assert own.macs == stacked.macs == 1000 * rows
    assert own.launches == 2 * rows + 1  # and one that draws
    assert own.param_reads == 10 * rows + 10 * rows  # the forward, and adding the noise
    assert own.param_writes == 10 * rows
    assert own.products == rows
    assert own.elementwise == GAUSS * 10 * 3 + 2 * 10 * rows


@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
@pytest.mark.parametrize("scope", ["joint", "layerwise"])
def test_a_gradient_of_noise_on_parameters_reads_losses_and_noise_only_in_both_reductions(
    reduction: str, scope: str
) -> None:
    options = RuleOptions(copies=4, group=2, weight_noise=(0,), reduction=reduction, scope=scope)  # type: ignore[arg-type]
    tasks = RULES["lr"](graph_of(2), options)
    gradient = task_of(tasks, "0G0.2")
    read = {tasks.buffers[buffer].name for buffer in gradient.reads}
    assert read == {"2L0.2:losses", "2L0.0:losses", "0F0.2:noise"}
    assert gradient.work.elementwise == 2 * 10 * 2
    assert bytes_of(tasks, "0F0.2:noise") == 2 * 10 * 4
    assert not [token for token in tokens(tasks) if token.startswith("0C")]
    assert not [b for b in tasks.buffers if b.name.startswith("0F") and b.name.endswith(("code", "saved"))]
    terms = [b.name for b in sorted(tasks.buffers, key=lambda b: b.rank) if b.accumulator == "0:grad"]
    assert terms == ["0G0.1:partial", "0G0.2:partial"]


def test_noise_on_parameters_that_is_drawn_again_costs_its_drawing_and_no_memory() -> None:
    plan = PrecisionPlan(noise=Precision.REGENERATED)
    tasks = RULES["lr"](graph_of(1), RuleOptions(copies=4, weight_noise=(0,), precision=plan, microbatches=2))
    assert task_of(tasks, "0G1.1").work.elementwise == GAUSS * 10 * 4 + 2 * 10 * 4
    assert not [buffer for buffer in tasks.buffers if buffer.category is Category.NOISE]
    assert not any("stored for each" in note for note in tasks.notes)
    stored = RULES["lr"](graph_of(1), RuleOptions(copies=4, weight_noise=(0,), microbatches=2))
    assert any("stored for each" in note for note in stored.notes)


def test_layer_wise_noise_on_parameters_runs_its_own_stage_and_all_behind_it() -> None:
    options = RuleOptions(copies=2, scope="layerwise", weight_noise=(1,))
    tasks = RULES["lr"](graph_of(3), options)
    noisy = [token for token in tokens(tasks) if "F" in token and not token.endswith(".0")]
    assert noisy == ["1F0.1", "2F0.1", "1F0.2", "2F0.2"]  # segment 0's noise, then segment 1's; 2's is at the loss
    assert task_of(tasks, "1F0.1").work.launches == 2 + 1  # another segment's noise passes; the reader draws it
    assert task_of(tasks, "1F0.2").work.launches == 2 * 2 + 1
    assert waits(tasks, "1F0.2") == {"0F0.0"}
    assert tasks.forwards_per_step == pytest.approx(1 + 2 * (2 + 2) / 3)


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
def test_hybrids_keep_lr_as_it_is_behind_noise_on_parameters(scope: str) -> None:
    options = RuleOptions(copies=2, scope=scope, weight_noise=(0,), reduction="accumulate")  # type: ignore[arg-type]
    tasks = RULES["lr"](graph_of(3), options)
    kinds = {token[:2] for token in tokens(tasks) if token[1] in "GC"}
    assert kinds == {"0G", "1G", "2G", "1C", "2C"}
    assert {"1G0", "2G0"} <= set(tokens(tasks))
    assert any(token.startswith("0G0.") for token in tokens(tasks))


def test_updates_wait_for_all_forwards_of_parameters_with_noise() -> None:
    options = RuleOptions(copies=2, group=1, baseline="antithetic", reduction="accumulate", weight_noise=(0,))
    tasks = RULES["lr"](graph_of(2), options)
    assert {"0F0.0", "0F0.1", "0F0.2"} <= waits(tasks, "0U")
    assert not {"1F0.1", "1F0.2"} & waits(tasks, "1U")


def test_noise_on_parameters_alone_needs_no_clean_forward_to_accumulate() -> None:
    options = RuleOptions(copies=2, baseline="antithetic", reduction="accumulate", weight_noise=(0, 1))
    tasks = RULES["lr"](graph_of(2), options)
    assert tokens(tasks) == ["0F0", "1F0", "2L0", "1G0", "0G0", "0U", "1U"]
    assert tasks.forwards_per_step == 4.0
    assert tasks.notes == ()


@pytest.mark.parametrize(
    ("weight_noise", "segments", "message"),
    [
        ((1,), (1, 3), "stage 1: it shares its segment with others"),
        ((3,), (1, 3), "stage 3: it is in the segment with the exact gradient"),
        ((4,), (1, 3), "stage 4: it does not exist"),
    ],
)
def test_noise_on_parameters_needs_a_segment_of_its_own(
    weight_noise: tuple[int, ...], segments: tuple[int, ...], message: str
) -> None:
    options = RuleOptions(segments=segments, weight_noise=weight_noise)
    with pytest.raises(OptionError, match=message):
        RULES["segments"](graph_of(4), options)
    assert "0G0.1" in tokens(RULES["segments"](graph_of(4), replace(options, weight_noise=(0,))))


def test_noise_on_parameters_needs_parameters_and_bp_has_none() -> None:
    with pytest.raises(OptionError, match="stage 1: it has no parameters"):
        RULES["lr"](graph_of(2, parameters=0), RuleOptions(weight_noise=(1,)))
    plain, ignored = (RULES["bp"](graph_of(2), RuleOptions(weight_noise=which)) for which in ((), (0,)))
    assert plain.tasks == ignored.tasks


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
def test_noise_at_points_is_drawn_and_added_by_their_stage_and_its_gradient_repeats_it(scope: str) -> None:
    options = RuleOptions(copies=3, scope=scope)  # type: ignore[arg-type]
    graph = graph_of(3, points=(("h1", 30), ("h2", 30)))
    tasks = RULES["lr"](graph, options)
    own = ".1" if scope == "joint" else ".2"
    forward = task_of(tasks, f"1F0{own}").work
    assert forward.elementwise == GAUSS * 60 * 3 + 2 * 60 * 3
    assert bytes_of(tasks, f"1F0{own}:noise") == 60 * 3 * 4
    assert f"2F0{own}:noise" not in {b.name for b in tasks.buffers} or scope == "joint"
    gradient = task_of(tasks, f"1G0{own}")
    assert gradient.encoded == Work()
    states = 3 if scope == "joint" else 1
    assert gradient.work.macs == (1000 + 300) * states
    assert "1:param" in {tasks.buffers[buffer].name for buffer in gradient.reads}
    if scope == "layerwise":  # the reader of an ordinary stage adds its noise, this one adds its own
        assert waits(tasks, "1F0.2") == {"0F0.0"}
        assert waits(tasks, "2F0.2") == {"1F0.2"}
        assert task_of(tasks, "2F0.2").work.elementwise == 0


def test_points_are_for_stages_that_are_segments_of_their_own() -> None:
    graph = graph_of(3, points=(("h", 30),), uncut="parameter 'w' reaches 'y'")
    joined = RuleOptions(segments=(1,), exact_head=False)
    segmentation = segmentation_of("segments", graph, joined)
    assert not segmentation.inside(1)
    assert segmentation.noised[2] == (("x3", 100),)
    ended = RuleOptions(segments=(2,), exact_head=False)
    assert segmentation_of("segments", graph, ended).noised[1] == (("x2", 100),)
    assert any("its marked places get no noise" in note for note in RULES["segments"](graph, ended).notes)


def test_points_that_do_not_cut_a_stage_are_refused_with_the_path() -> None:
    graph = graph_of(2, points=(("h", 30),), uncut="parameter 'w' reaches 'y' through 'c'")
    with pytest.raises(OptionError, match=r"s1: the marked places of stage 1(.|\n)*parameter 'w' reaches 'y' through"):
        RULES["lr"](graph, RuleOptions())
    assert RULES["lr"](graph, RuleOptions(weight_noise=(1,)))  # noise on its parameters needs no points
    assert RULES["bp"](graph, RuleOptions())


def test_every_stage_may_have_copies_of_its_own() -> None:
    options = RuleOptions(group=2, scope="layerwise", stage_copies=(6, 2, 4))
    tasks = RULES["lr"](graph_of(3), options)
    gradients = [token for token in tokens(tasks) if token[1] == "G"]
    assert gradients == ["0G0.1", "0G0.2", "0G0.3", "1G0.4", "2G0.5", "2G0.6"]
    assert tasks.forwards_per_step == pytest.approx(1 + (6 * 2 + 2 * 1) / 3)
    whole = RULES["lr"](graph_of(3), replace(options, group=None))
    assert [task.copies for task in whole.tasks if task.id.kind == "G"] == [6, 2, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scope": "joint"}, "with joint noise every copy carries the noise of all stages"),
        ({"group": 2, "stage_copies": (2, 3)}, "copy groups of 2 do not divide 3 copies"),
        ({"baseline": "copy-mean", "stage_copies": (2, 1)}, "at least 2 copies"),
        ({"stage_copies": (0, 1)}, "copies is 0"),
    ],
)
def test_copies_of_stages_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RuleOptions(**{"scope": "layerwise", "stage_copies": (2, 2), **changes})  # type: ignore[arg-type]


def test_copies_are_given_for_all_stages_and_agree_inside_a_segment() -> None:
    with pytest.raises(OptionError, match="copies are given for 2 stages, but there is a stage 2"):
        RULES["lr"](graph_of(3), RuleOptions(scope="layerwise", stage_copies=(2, 2)))
    graph = graph_of(2)
    split = replace(graph, edges=(*graph.edges, Edge(0, 2, "x1", 100)))
    options = RuleOptions(scope="layerwise", stage_copies=(2, 4), segments=(), exact_head=False)
    with pytest.raises(OptionError, match="2 for stage 0 and 4 for stage 1"):
        RULES["segments"](split, options)


@pytest.mark.parametrize(
    ("kind", "each", "once"),
    [("rademacher", 4, 0), ("hadamard", 5, 0), ("gauss", 63, 0), ("laplace", 62, 0), ("sobol", 66, 678)],
)
def test_noise_costs_what_its_generator_computes(kind: str, each: int, once: int) -> None:
    tasks = RULES["lr"](graph_of(1), RuleOptions(copies=8, baseline="none", noise=kind))  # type: ignore[arg-type]
    assert task_of(tasks, "0F0").work.elementwise == 100 * (8 * each + once) + 2 * 100 * 8


@pytest.mark.parametrize(
    ("unsigned", "noisy", "bits"), [(False, False, 2), (True, False, 2), (True, True, 1), (False, True, 1)]
)
def test_a_threshold_code_takes_two_bits_where_copies_may_be_negative(unsigned: bool, noisy: bool, bits: int) -> None:
    plan = PrecisionPlan(saved=Precision.SIGN1)
    options = RuleOptions(copies=8, baseline="none", input_code="threshold", precision=plan)
    graph = graph_of(2, lr_unsigned=unsigned, lr_unsigned_noisy=noisy)
    assert bytes_of(RULES["lr"](graph, options), "1F0:code") == 8 * 100 * bits // 8
    shared = RULES["lr"](graph, replace(options, reduction="accumulate", baseline="clean"))
    assert bytes_of(shared, "1F0.0:code") == -(-100 * (1 if unsigned else 2) // 8)


def test_a_scaled_sign_keeps_a_scale_per_sample_and_channel() -> None:
    plan = PrecisionPlan(saved=Precision.SIGN1)
    options = RuleOptions(copies=8, baseline="none", input_code="sign-scaled", precision=plan)
    tasks = RULES["lr"](graph_of(2, lr_scales=12), options)
    assert bytes_of(tasks, "1F0:code") == 8 * 100 // 8 + 8 * 12 * 4


@pytest.mark.parametrize(
    ("code", "direct", "kept"), [("sign", True, 100), ("threshold", True, 0), ("threshold", False, 400)]
)
def test_the_models_input_is_kept_as_it_is_once_for_all_copies_except_by_sign(
    code: str, direct: bool, kept: int
) -> None:
    graph = graph_of(1)
    graph = replace(graph, stages=(replace(graph.stages[0], direct=direct),))
    plan = PrecisionPlan(saved=Precision.SIGN1)
    options = RuleOptions(copies=8, baseline="none", input_code=code, precision=plan)  # type: ignore[arg-type]
    tasks = RULES["lr"](graph, options)
    assert bytes_of(tasks, "0F0:code") == kept
    read = {tasks.buffers[buffer].name for buffer in task_of(tasks, "0G0").reads}
    assert ("input0:x0" in read) == (kept == 0)
    assert graph.edges[0].source == MODEL_INPUT


def test_whole_numbers_have_no_code() -> None:
    options = RuleOptions(copies=8, baseline="none", input_code="sign", precision=PrecisionPlan(saved=Precision.INT8))
    assert bytes_of(RULES["lr"](graph_of(2), options), "1F0:code") == 800
    assert bytes_of(RULES["lr"](graph_of(2, lr_whole=True), options), "1F0:code") == 0
    embedding = export_model(build("rnn", vocabulary=20, embedding=4, hidden=4, sequence=3), 2).graph
    first, second, *_ = build_stages(embedding, cut_graph(embedding, "layer")).stages
    assert (first.lr_whole, second.lr_whole) == (True, False)
