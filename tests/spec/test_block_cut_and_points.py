"""Where noise can go: behind a layer's activation and pooling, or on marked values inside a stage that cut it."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.injection_points import uncut_path
from alrsim.cost.signs import nonnegative
from alrsim.cost.stages import build_stages
from alrsim.errors import OptionError
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.graph import Graph, Op
from alrsim.graph.graph import Tensor as Value
from alrsim.graph.stages import StageGraph
from alrsim.models import build, recurrent
from alrsim.models.recurrent import LSTMLayer, Marks
from alrsim.rules import RULES, RuleOptions

SMALL = {"vocabulary": 50, "embedding": 6, "hidden": 8, "sequence": 4}


@cache
def exported(name: str, **options: object) -> Graph:
    return export_model(build(name, **options), 2).graph


def staged(name: str, cut: str, **options: object) -> tuple[Graph, StageGraph]:
    graph = exported(name, **options)
    return graph, build_stages(graph, cut_graph(graph, cut))


def leaving(graph: Graph, stages: StageGraph) -> list[list[tuple[int, ...]]]:
    """Shapes of what leaves every stage, without the batch."""
    return [
        [graph.tensors[value].shape[1:] for value in dict.fromkeys(edge.value for edge in stages.outgoing(stage.index))]
        for stage in stages.stages
    ]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet5", [(8, 32, 32), (16, 16, 16), (32, 16, 16), (512,), (10,)]),
        (
            "vgg8",
            [(64, 32, 32), (128, 16, 16), (128, 16, 16), (256, 8, 8), (256, 4, 4), (1024,), (512,), (10,)],
        ),
        ("mlp", [(128,), (128,), (10,)]),
        ("snn", [(4, 256), (256,), (10,)]),
    ],
)
def test_a_block_ends_behind_activation_pooling_and_residual_sum(name: str, shapes: list[tuple[int, ...]]) -> None:
    graph, stages = staged(name, "block")
    assert leaving(graph, stages) == [[shape] for shape in shapes]
    starts = {op.name: op.kind for op in graph.ops}
    assert all(stage.parameters for stage in stages.stages)
    assert {starts[stage.ops[0]] for stage in stages.stages[1:]} <= {"Conv", "Gemm", "MatMul", "Transpose"}


def test_nothing_before_the_first_layer_is_lost() -> None:
    graph, stages = staged("snn", "block")
    assert [op for stage in stages.stages for op in stage.ops] == [op.name for op in graph.ops]
    assert stages.stages[0].ops[0] == graph.ops[0].name  # a reshape of the input
    assert graph.ops[0].kind == "Reshape"


def test_noise_behind_a_step_tells_nothing_about_the_weights_before_it() -> None:
    _, stages = staged("snn", "block")
    assert any("behind operators without a derivative" in note for note in RULES["lr"](stages, RuleOptions()).notes)
    _, layers = staged("snn", "layer")
    assert RULES["lr"](layers, RuleOptions()).notes == ()


def marked(*ops: Op) -> tuple[Op, ...]:
    return ops


def mark(value: str, to: str) -> Op:
    return Op(f"mark_{to}", "Inject", (value,), (to,), domain="alrsim")


CELL = marked(
    Op("gates", "Gemm", ("x", "w"), ("g1",)),
    Op("keep", "Mul", ("g1", "c0"), ("c1",)),
    Op("show", "Tanh", ("c1",), ("s1",)),
    mark("s1", "h1"),
    Op("again", "Gemm", ("h1", "w"), ("g2",)),
    Op("kept", "Mul", ("g2", "c1"), ("c2",)),
    Op("shown", "Tanh", ("c2",), ("s2",)),
    mark("s2", "h2"),
)
"""Two steps of a cell with a state h that is marked and a memory c that is not."""


def test_every_path_to_what_leaves_must_meet_a_mark() -> None:
    assert uncut_path(CELL, ["w"], ["h1", "h2"], ["h2"]) == ""
    assert uncut_path(CELL, ["w"], ["h1", "h2"], ["h1", "h2"]) == ""
    assert uncut_path(CELL, ["w"], ["h1"], ["h2"]) == "parameter 'w' reaches 'h2' through 'c2'"
    assert "parameter 'w' reaches 'c2'" in uncut_path(CELL, ["w"], ["h1", "h2"], ["h2", "c2"])
    assert uncut_path(CELL, ["v"], [], ["h2"]) == ""


def test_a_path_goes_through_steps_but_not_through_shapes() -> None:
    step = (Op("a", "Gemm", ("x", "w"), ("v",)), Op("b", "GreaterOrEqual", ("v", "one"), ("y",)))
    shape = (Op("a", "Gemm", ("x", "w"), ("v",)), Op("b", "Shape", ("v",), ("y",)))
    assert uncut_path(step, ["w"], [], ["y"]) == "parameter 'w' reaches 'y' through 'v'"
    assert uncut_path(shape, ["w"], [], ["y"]) == ""


def test_marks_that_know_nothing_of_the_stages_parameters_are_no_points() -> None:
    ops = (mark("x", "m"), Op("fc", "Gemm", ("m", "w"), ("a",)), mark("a", "p"), Op("relu", "Relu", ("p",), ("y",)))
    tensors = {name: Value(name, (2, 4)) for name in "xmapy"} | {"w": Value("w", (4, 4))}
    graph = Graph("marks", ops, tensors, ("x",), ("y",), ("w",))
    (stage,) = build_stages(graph, [[op.name for op in ops]]).stages
    assert stage.points == (("p", 8),)
    assert stage.uncut == ""


@pytest.mark.parametrize("cut", ["layer", "block"])
@pytest.mark.parametrize(("model", "noise", "marks"), [("rnn", "state", 4), ("gru", "gates", 12), ("lstm", "state", 7)])
def test_recurrent_stages_have_their_marks_inside_and_are_cut_by_them(
    cut: str, model: str, noise: str, marks: int
) -> None:
    _, stages = staged(model, cut, **SMALL, noise=noise)
    (points,) = [stage.points for stage in stages.stages if stage.points]
    assert len(points) == marks
    assert {elements for _, elements in points} == {2 * 8}
    assert {stage.uncut for stage in stages.stages} == {""}
    assert RULES["lr"](stages, RuleOptions(copies=2))


class FromMemory(nn.Module):
    """An LSTM whose classifier reads the memory c instead of the state h."""

    def __init__(self, noise: str) -> None:
        super().__init__()
        self.layer = LSTMLayer(3, 4, Marks(noise))
        self.linear = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        drive = self.layer.from_input(inputs)
        state = self.layer.initial(inputs)
        for time in range(inputs.shape[1]):
            state = self.layer.marks.state(self.layer.step(drive[:, time], state), time, inputs.shape[1])
        result: Tensor = self.linear(state[1])
        return result


@pytest.mark.parametrize("cut", ["layer", "block"])
@pytest.mark.parametrize(("noise", "complete"), [("hidden", False), ("state", True)])
def test_marks_on_h_alone_leave_the_memory_open_where_the_memory_leaves(cut: str, noise: str, complete: bool) -> None:
    model = TorchModel("memory", FromMemory(noise), lambda batch: (torch.ones(batch, 3, 3),), 2)
    graph = export_model(model, 2).graph
    stages = build_stages(graph, cut_graph(graph, cut))
    if complete:
        assert RULES["lr"](stages, RuleOptions())
    else:
        with pytest.raises(OptionError, match="do not cut every path"):
            RULES["lr"](stages, RuleOptions())


def _record(leaves: bool) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """A marker that keeps what it hands on; with ``leaves`` what it gets, and cuts there, as an LR gradient does."""
    met: list[Tensor] = []

    def meet(value: Tensor) -> Tensor:
        if leaves:
            met.append(value)
            return value.detach()
        met.append(value.clone())
        met[-1].retain_grad()
        return met[-1]

    return met, meet


@pytest.mark.parametrize("noise", ["hidden", "state", "gates"])
def test_a_complete_cut_gives_the_whole_gradient_by_the_chain_rule(noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks on h alone are complete where only h leaves: the local gradient follows c."""
    model = build("lstm", **SMALL, noise=noise)
    module = model.module.double()
    weights = list(module.layers[0].from_state.parameters())
    met, meet = _record(leaves=False)
    monkeypatch.setattr(recurrent, "inject", meet)
    module(*model.example(3)).square().sum().backward()
    true = [weight.grad for weight in weights]
    effects = [value.grad for value in met]  # of each marked value, on the loss in every way
    met, meet = _record(leaves=True)
    monkeypatch.setattr(recurrent, "inject", meet)
    module(*model.example(3))
    used = [(value, effect) for value, effect in zip(met, effects, strict=True) if effect is not None]
    local = torch.autograd.grad([v for v, _ in used], weights, [e for _, e in used])
    for ours, theirs in zip(local, true, strict=True):
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_values_behind_a_rectifier_are_known_to_be_nonnegative_until_something_changes_it() -> None:
    ops = (
        Op("relu", "Relu", ("x",), ("r",)),
        Op("pool", "MaxPool", ("r",), ("p",)),
        Op("sum", "Add", ("p", "r"), ("s",)),
        Op("mixed", "Add", ("p", "x"), ("m",)),
        Op("minus", "Sub", ("p", "r"), ("d",)),
        Op("spike", "GreaterOrEqual", ("x", "one"), ("b",)),
        Op("cast", "Cast", ("b",), ("f",)),
        mark("f", "marked"),
    )
    assert nonnegative(ops) == {"r", "p", "s", "b", "f", "marked"}


@pytest.mark.parametrize(("cut", "under_noise"), [("layer", True), ("block", False)])
def test_a_layers_input_stays_unsigned_under_noise_only_where_it_is_rectified_behind_it(
    cut: str, under_noise: bool
) -> None:
    _, stages = staged("resnet5", cut)
    trained = [stage for stage in stages.stages if stage.parameters]
    assert [stage.lr_unsigned for stage in trained] == [False, True, True, True, True]
    assert [stage.lr_unsigned_noisy for stage in trained] == [False] + [under_noise] * 4
