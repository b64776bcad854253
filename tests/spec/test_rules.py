"""The one family of rules, in sentences."""

from dataclasses import replace

import pytest

from alrsim.errors import OptionError
from alrsim.graph.stages import Edge, Stage, StageGraph, chain
from alrsim.graph.work import Work
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import TaskId, parse_token


def tokens(tasks: TaskGraph) -> list[str]:
    return [str(task.id) for task in tasks.tasks]


def ancestors(tasks: TaskGraph, token: str) -> set[str]:
    """Every task that must be finished before, by data or by order."""
    seen: set[int] = set()
    todo = [tasks.index[parse_token(token)]]
    while todo:
        for other, _ in tasks.dependencies(todo.pop()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return {str(tasks.tasks[index].id) for index in seen}


def waits(tasks: TaskGraph, token: str) -> set[str]:
    """Direct dependencies."""
    return {str(tasks.tasks[other].id) for other, _ in tasks.dependencies(tasks.index[parse_token(token)])}


def priced_chain(stages: int, *, elements: int = 100, parameters: int = 10, linear: bool = True) -> StageGraph:
    """A chain whose stages have distinguishable work."""
    body = tuple(
        Stage(
            index,
            f"s{index}",
            forward=Work(macs=1000 * (index + 1), launches=1),
            input_gradient=Work(macs=700, launches=1),
            weight_gradient=Work(macs=300, launches=1),
            parameters=parameters,
            saved=50,
            lr_saved=elements,
            linear=linear,
            recompute=Work() if linear else Work(macs=11),
        )
        for index in range(stages)
    )
    edges = tuple(Edge(index - 1, index, f"x{index}", elements) for index in range(stages + 1))
    return StageGraph("priced", body, edges, Stage(stages, "loss", forward=Work(elementwise=5)), batch=4)


def residual() -> StageGraph:
    """0 -> 1 -> 2 with a skip from 0 to 2."""
    graph = priced_chain(3)
    return replace(graph, edges=(*graph.edges, Edge(0, 2, "x1", 100)))


@pytest.mark.parametrize("stages", [1, 2, 5])
@pytest.mark.parametrize("options", [RuleOptions(microbatches=3), RuleOptions(microbatches=2, copies=4, group=2)])
def test_one_segment_is_backprop_and_singletons_are_lr(stages: int, options: RuleOptions) -> None:
    graph = priced_chain(stages)
    one = RULES["segments"](graph, replace(options, segments=()))
    assert (one.tasks, one.buffers) == (RULES["bp"](graph, options).tasks, RULES["bp"](graph, options).buffers)
    every = replace(options, segments=tuple(range(1, stages)), exact_head=False)
    single = RULES["segments"](graph, every)
    assert (single.tasks, single.buffers) == (RULES["lr"](graph, options).tasks, RULES["lr"](graph, options).buffers)


def test_lr_gradients_wait_for_the_loss_and_for_nothing_downstream() -> None:
    for graph in (chain(4), residual()):
        tasks = RULES["lr"](graph, RuleOptions(microbatches=2, baseline="none"))
        count = len(graph.stages)
        for stage in range(count):
            direct = waits(tasks, f"{stage}G1")
            assert {f"{stage}F1", f"{count}L1"} <= direct
            assert {int(token[0]) for token in direct if "F" in token} <= set(range(stage + 1))  # its own input
            assert {token[1] for token in ancestors(tasks, f"{stage}G1")} == {"F", "L"}


def test_bp_gradients_wait_for_the_gradients_of_all_their_consumers() -> None:
    tasks = RULES["bp"](residual(), RuleOptions())
    assert waits(tasks, "0B0") == {"0F0", "1B0", "2B0"}
    assert waits(tasks, "2B0") == {"2F0", "3L0", "1F0", "0F0"}  # the two inputs it saved, and the loss
    assert ancestors(tasks, "0B0") == {"0F0", "1F0", "2F0", "3L0", "2B0", "1B0"}


def test_the_first_stage_of_a_model_has_no_input_gradient_unless_asked_for() -> None:
    plain = RULES["bp-split"](priced_chain(2), RuleOptions())
    assert tokens(plain) == ["0F0", "1F0", "2L0", "1I0", "1W0", "0W0", "0U", "1U"]
    textbook = RULES["bp-split"](priced_chain(2), RuleOptions(first_input_gradient=True, loss=False, update=False))
    assert tokens(textbook) == ["0F0", "1F0", "1I0", "1W0", "0I0", "0W0"]
    work = {str(task.id): task.work.macs for task in textbook.tasks}
    assert work["0I0"] == 700  # priced as real work
    assert work["0W0"] == 300
    assert {str(t.id): t.work.macs for t in plain.tasks}["0W0"] == 300


def test_weight_gradients_wait_for_their_own_input_gradient_only() -> None:
    tasks = RULES["bp-split"](chain(3), RuleOptions(first_input_gradient=True))
    assert waits(tasks, "1W0") == {"1I0", "0F0"}  # the cotangents, and the input that the stage before it made
    assert waits(tasks, "1I0") == {"1F0", "2I0", "0F0"}


def test_a_stage_without_parameters_has_a_gradient_only_to_pass_one_up() -> None:
    graph = chain(3)
    middle = replace(graph, stages=(graph.stages[0], replace(graph.stages[1], parameters=0), graph.stages[2]))
    assert "1B0" in tokens(RULES["bp"](middle, RuleOptions()))
    assert "1U" not in tokens(RULES["bp"](middle, RuleOptions()))
    assert "1G0" not in tokens(RULES["lr"](middle, RuleOptions(baseline="none")))
    first = replace(graph, stages=(replace(graph.stages[0], parameters=0), *graph.stages[1:]))
    assert "0B0" not in tokens(RULES["bp"](first, RuleOptions()))


def test_the_clean_baseline_adds_a_clean_forward_and_every_gradient_waits_for_its_loss() -> None:
    tasks = RULES["lr"](priced_chain(2), RuleOptions(copies=4, group=2))
    assert {"0F0.0", "1F0.0", "2L0.0"} <= set(tokens(tasks))
    for token in ("0G0.1", "1G0.1", "0G0.2", "1G0.2"):
        assert "2L0.0" in waits(tasks, token)
    assert tasks.forwards_per_step == 5.0
    assert RULES["lr"](priced_chain(2), RuleOptions(copies=4, baseline="none")).forwards_per_step == 4.0


def test_the_copy_mean_makes_gradients_wait_for_all_copies_of_their_microbatch() -> None:
    tasks = RULES["lr"](priced_chain(2), RuleOptions(microbatches=2, copies=3, group=1, baseline="copy-mean"))
    for group in (1, 2, 3):
        waited = {token for token in waits(tasks, f"0G1.{group}") if "L" in token}
        assert waited == {"2L1.1", "2L1.2", "2L1.3"}


def test_antithetic_counts_pairs() -> None:
    tasks = RULES["lr"](priced_chain(2), RuleOptions(copies=3, baseline="antithetic"))
    assert tasks.forwards_per_step == 6.0
    forward = tasks.tasks[tasks.index[TaskId(0, "F", 0)]]
    assert forward.copies == 6
    noise = next(buffer for buffer in tasks.buffers if buffer.category is Category.NOISE and buffer.stage == 0)
    assert noise.bytes == 3 * 100 * 4  # one draw serves both signs


def test_without_a_loss_task_gradients_wait_for_forwards_alone() -> None:
    assert waits(RULES["bp"](chain(2), RuleOptions(loss=False)), "1B0") == {"0F0", "1F0"}


def test_accumulation_makes_memory_independent_of_the_number_of_copies() -> None:
    plan = PrecisionPlan(noise=Precision.REGENERATED)

    def kept(copies: int) -> int:
        options = RuleOptions(copies=copies, group=1, reduction="accumulate", precision=plan)
        tasks = RULES["lr"](priced_chain(2), options)
        gradient = tasks.index[TaskId(0, "G", 0)]
        read = [tasks.buffers[index] for index in tasks.tasks[gradient].reads]
        assert waits(tasks, "0C0.2") == {"2L0.2", "2L0.0"}
        return sum(buffer.bytes for buffer in read if buffer.category is Category.ACTIVATION)

    assert kept(2) == kept(8) == 100 * 4 + 100 * 4  # the clean input and one cotangent


def test_layer_wise_noise_shares_the_clean_prefix() -> None:
    graph = priced_chain(3)  # forward MACs 1000, 2000, 3000
    tasks = RULES["lr"](graph, RuleOptions(copies=2, scope="layerwise"))
    noisy = [token for token in tokens(tasks) if "F" in token and not token.endswith(".0")]
    assert noisy == ["1F0.1", "2F0.1", "2F0.2"]
    assert tasks.forwards_per_step == pytest.approx(1 + 2 * (5000 + 3000) / 6000)
    assert waits(tasks, "1F0.1") == {"0F0.0"}
    assert {"3L0.1", "3L0.0"} <= waits(tasks, "0G0.1")
    assert waits(tasks, "3L0.3") == {"2F0.0"}


def test_layer_wise_copy_mean_runs_over_one_segments_copies() -> None:
    options = RuleOptions(copies=2, group=1, scope="layerwise", baseline="copy-mean")
    tasks = RULES["lr"](priced_chain(2), options)
    losses = {token for token in waits(tasks, "0G0.1") if "L" in token}
    assert losses == {"2L0.1", "2L0.2"}


def test_segments_mix_an_exact_head_with_estimated_stages_above() -> None:
    tasks = RULES["segments"](priced_chain(4), RuleOptions(copies=2, segments=(2,)))
    assert {"3B0.0", "2B0.0", "1G0.1", "0B0.1"} <= set(tokens(tasks))
    assert waits(tasks, "1G0.1") == {"0F0.1", "1F0.1", "4L0.1", "4L0.0"}  # it repeats its stage from its input
    assert waits(tasks, "0B0.1") == {"0F0.1", "1G0.1"}
    assert "G" not in "".join(ancestors(tasks, "2B0.0"))


@pytest.mark.parametrize(
    ("precision", "bits"), [(Precision.FP32, 32), (Precision.BF16, 16), (Precision.INT8, 8), (Precision.SIGN1, 1)]
)
def test_codes_and_noise_take_the_bits_of_their_precision(precision: Precision, bits: int) -> None:
    plan = PrecisionPlan(saved=precision, noise=precision)
    tasks = RULES["lr"](priced_chain(1), RuleOptions(copies=8, baseline="none", precision=plan))
    by_name = {buffer.name: buffer.bytes for buffer in tasks.buffers}
    assert by_name["0F0:code"] == by_name["0F0:noise"] == 8 * 100 * bits // 8


def test_regenerated_noise_takes_no_memory_and_costs_time_again() -> None:
    stored = RULES["lr"](priced_chain(1), RuleOptions(copies=8, baseline="none"))
    again = RULES["lr"](
        priced_chain(1), RuleOptions(copies=8, baseline="none", precision=PrecisionPlan(noise=Precision.REGENERATED))
    )
    assert not [buffer for buffer in again.buffers if buffer.category is Category.NOISE]
    gradient = TaskId(0, "G", 0)
    extra = again.tasks[again.index[gradient]].work.elementwise - stored.tasks[stored.index[gradient]].work.elementwise
    assert extra == 63 * 100 * 8  # Gaussian noise


def test_products_of_codes_are_priced_apart_and_only_for_linear_maps() -> None:
    plan = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
    options = RuleOptions(copies=8, baseline="none", precision=plan)
    gradient = RULES["lr"](priced_chain(1), options).tasks[-2]
    assert (gradient.encoded.macs, gradient.work.macs) == (8 * 300, 0)
    gradient = RULES["lr"](priced_chain(1, linear=False), options).tasks[-2]
    assert (gradient.encoded.macs, gradient.work.macs) == (0, 8 * (300 + 1000))


def test_updates_wait_for_every_gradient_of_their_stage() -> None:
    tasks = RULES["lr"](chain(2), RuleOptions(microbatches=2, copies=2, group=1))
    assert waits(tasks, "0U") == {"0G0.1", "0G0.2", "0G1.1", "0G1.2"}
    assert not [token for token in tokens(RULES["bp"](chain(2), RuleOptions(update=False))) if "U" in token]


@pytest.mark.parametrize(("optimizer", "states"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_optimizer_state_is_resident(optimizer: str, states: int) -> None:
    options = RuleOptions(optimizer=optimizer)  # type: ignore[arg-type]
    tasks = RULES["bp"](priced_chain(1), options)
    held = sum(buffer.bytes for buffer in tasks.buffers if buffer.category is Category.OPTIMIZER)
    assert held == states * 10 * 4


def test_sums_are_ordered_by_microbatch_and_copy_group() -> None:
    tasks = RULES["lr"](chain(1), RuleOptions(microbatches=2, copies=2, group=1))
    terms = sorted((b.rank, b.name) for b in tasks.buffers if b.accumulator == "0:grad")
    assert [name.split(":")[0] for _, name in terms] == ["0G0.1", "0G0.2", "0G1.1", "0G1.2"]


def test_figure_two_has_a_loss_row_with_gradient_and_update_cells_under_bp_only() -> None:
    options = RuleOptions(loss_gradient=True, loss_update=True, baseline="none")
    bp = tokens(RULES["bp"](chain(2), options))
    assert bp == ["0F0", "1F0", "2L0", "2B0", "1B0", "0B0", "0U", "1U", "2U"]
    assert "2U" not in tokens(RULES["lr"](chain(2), options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"microbatches": 0}, "microbatches is 0"),
        ({"copies": 0}, "copies is 0"),
        ({"copies": 4, "group": 3}, "copy groups of 3 do not divide 4 copies"),
        ({"copies": 1, "baseline": "copy-mean"}, "needs at least 2 copies"),
        ({"precision": PrecisionPlan(parameters=Precision.SIGN1)}, "parameters cannot be sign1"),
        ({"precision": PrecisionPlan(saved=Precision.REGENERATED)}, "only noise can"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RuleOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("starts", [(0,), (2, 1), (1, 1), (9,)])
def test_segment_starts_must_be_ascending_stages(starts: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="not ascending stages"):
        RULES["segments"](chain(3), RuleOptions(segments=starts))
    with pytest.raises(OptionError, match="needs the first stage"):
        RULES["segments"](chain(3), RuleOptions())


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(OptionError, match="nothing to train"):
        RULES["bp"](chain(2, parameters=0), RuleOptions())


def test_a_direct_linear_map_keeps_its_input_and_no_second_copy_of_it() -> None:
    graph = priced_chain(2)
    direct = replace(graph, stages=tuple(replace(stage, direct=True) for stage in graph.stages))
    names = {buffer.name for buffer in RULES["lr"](direct, RuleOptions(copies=2, baseline="none")).buffers}
    assert "1F0:code" not in names
    assert "0F0:code" in names  # the model's input is stacked afresh for every copy
    signs = RuleOptions(copies=2, baseline="none", input_code="sign", noise_code="sign")
    assert "1F0:code" in {buffer.name for buffer in RULES["lr"](direct, signs).buffers}


def test_updates_do_not_overtake_forwards_that_pass_through_with_another_segments_noise() -> None:
    tasks = RULES["lr"](priced_chain(2), RuleOptions(copies=1, scope="layerwise"))
    assert "1F0.1" in waits(tasks, "1U")
    head = RULES["segments"](priced_chain(2), RuleOptions(copies=1, segments=(1,)))
    assert "1F0.1" in waits(head, "1U")


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
@pytest.mark.parametrize("baseline", ["clean", "copy-mean", "antithetic", "none"])
def test_a_loss_that_is_no_task_is_there_when_the_outputs_are(scope: str, reduction: str, baseline: str) -> None:
    common = {"copies": 4, "group": 2, "scope": scope, "reduction": reduction, "baseline": baseline}
    with_loss = RULES["lr"](priced_chain(3), RuleOptions(**common))  # type: ignore[arg-type]
    without = RULES["lr"](priced_chain(3), RuleOptions(**common, loss=False))  # type: ignore[arg-type]
    assert [t for t in tokens(with_loss) if "L" not in t] == tokens(without)
    for token in tokens(without):
        if token[1] in "GC":
            behind = {other for other in ancestors(with_loss, token) if "L" not in other}
            assert behind == ancestors(without, token)


def test_parameters_that_no_gradient_reaches_are_named() -> None:
    graph = priced_chain(2)
    first = replace(graph.stages[0], weight_gradient=Work())
    blocked = replace(graph, stages=(first, graph.stages[1]))
    assert "stage 0 (s0): no gradient reaches" in RULES["bp"](blocked, RuleOptions()).notes[0]
    assert (
        "stage 0 (s0): its noise lies behind operators without a derivative"
        in RULES["lr"](blocked, RuleOptions()).notes[0]
    )
    assert RULES["lr"](blocked, RuleOptions(weight_noise=(0,))).notes == ()
