"""Every operator with a registered cost: what holds for all of them, and FLOPs counted by hand."""

import pytest

from alrsim.cost.elementwise import ELEMENTWISE, UNARY_FLOPS
from alrsim.cost.movement import MOVEMENT, VIEWS
from alrsim.cost.operators import OPERATORS, cost_graph
from alrsim.errors import ModelError
from alrsim.graph.graph import Graph, Op, Tensor
from alrsim.graph.work import NO_WORK

IMAGE = (2, 4, 6, 6)
SAMPLES: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[int, ...], dict]] = {
    # kind: shapes of the inputs (the first depends on a parameter), shape of the output, attributes
    "Conv": ((IMAGE, (8, 4, 3, 3), (8,)), (2, 8, 4, 4), {}),
    "ConvTranspose": ((IMAGE, (4, 8, 3, 3), (8,)), (2, 8, 8, 8), {}),
    "Gemm": (((2, 5), (5, 3), (3,)), (2, 3), {}),
    "MatMul": (((2, 4, 5), (5, 3)), (2, 4, 3), {}),
    "Einsum": (((2, 5), (5, 3)), (2, 3), {"equation": "ij,jk->ik"}),
    "LSTM": (((7, 2, 5), (1, 12, 5), (1, 12, 3), (1, 24)), (7, 1, 2, 3), {}),
    "GRU": (((7, 2, 5), (1, 9, 5), (1, 9, 3), (1, 18)), (7, 1, 2, 3), {}),
    "RNN": (((7, 2, 5), (1, 3, 5), (1, 3, 3), (1, 6)), (7, 1, 2, 3), {}),
    "MaxPool": ((IMAGE,), (2, 4, 3, 3), {"kernel_shape": (2, 2)}),
    "AveragePool": ((IMAGE,), (2, 4, 3, 3), {"kernel_shape": (2, 2)}),
    "LpPool": ((IMAGE,), (2, 4, 3, 3), {"kernel_shape": (2, 2)}),
    "Gather": (((10, 4), (3,)), (3, 4), {}),
    "Concat": ((IMAGE, IMAGE), (2, 8, 6, 6), {}),
    "Expand": (((2, 1),), (2, 9), {}),
    "Tile": (((2, 1),), (2, 9), {}),
    "Resize": ((IMAGE,), (2, 4, 12, 12), {"mode": "linear"}),
    "Upsample": ((IMAGE,), (2, 4, 12, 12), {}),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter"), ((IMAGE, (3,), (3,)), IMAGE, {})),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"), ((IMAGE, (4, 1, 1)), IMAGE, {})),
    **dict.fromkeys(("Sum", "Mean", "Where"), ((IMAGE, IMAGE, IMAGE), IMAGE, {})),
    "PRelu": ((IMAGE, (4, 1, 1)), IMAGE, {}),
    **dict.fromkeys(
        ("BatchNormalization", "GroupNormalization", "InstanceNormalization"), ((IMAGE, (4,), (4,)), IMAGE, {})
    ),
    "LayerNormalization": ((IMAGE, (6,), (6,)), IMAGE, {"axis": -1}),
}
WITHOUT_GRADIENT = {kind for kind, cost in ELEMENTWISE.items() if cost.__name__ == "without_gradient"}
SHAPES_ONLY = {"Shape", "Size", "ConstantOfShape"}


def sample(kind: str) -> Graph:
    """The operator behind a scale by a parameter, so that its first input needs a gradient."""
    shapes, out, attributes = SAMPLES.get(kind, ((IMAGE,), IMAGE, {}))
    names = [f"i{index}" for index in range(len(shapes))]
    indexed = kind.startswith(("Gather", "Scatter"))
    tensors = {name: Tensor(name, shape) for name, shape in zip(names, shapes, strict=True)}
    if indexed and len(names) > 1:
        tensors["i1"] = Tensor("i1", shapes[1], "int64")
    tensors |= {"x": Tensor("x", shapes[0]), "p": Tensor("p", (1,)), "y": Tensor("y", out)}
    others = tuple(names[1:])
    weights = () if indexed else others
    ops = (Op("scale", "Mul", ("x", "p"), ("i0",)), Op("op", kind, tuple(names), ("y",), attributes=attributes))
    inputs = ("x", *(name for name in others if name not in weights))
    return Graph(kind, ops, tensors, inputs, ("y",), ("p", *weights))


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_every_cost_is_complete_and_plausible(kind):
    graph = sample(kind)
    cost = cost_graph(graph)["op"]
    works = (cost.forward, cost.input_gradient, cost.weight_gradient)
    assert all(min(vars_of(work)) >= 0 for work in works)
    assert all(bool(work.macs) == bool(work.products) for work in works)
    if kind in VIEWS:
        assert works == (NO_WORK, NO_WORK, NO_WORK)
        return
    assert cost.forward.launches >= 1
    assert cost.forward.activation_writes == cost.output_elements
    assert set(cost.saved) <= set(graph.tensors)
    if kind in WITHOUT_GRADIENT or kind in SHAPES_ONLY:
        assert cost.input_gradient == NO_WORK or kind in SHAPES_ONLY
        return
    if kind == "Where":  # its first input is the condition
        assert cost.weight_gradient.param_writes == 2 * 288
        return
    passed_on = kind in ("Add", "Sub", "Sum")  # the gradient is the same tensor
    assert passed_on or cost.input_gradient.activation_writes >= graph.tensors["i0"].elements


def vars_of(work):
    return [getattr(work, name) for name in work.__slots__]


@pytest.mark.parametrize("kind", sorted(MOVEMENT))
def test_moving_data_computes_nothing(kind):
    cost = cost_graph(sample(kind))["op"]
    interpolates = SAMPLES.get(kind, ((), (), {}))[2].get("mode") == "linear"
    repeats = kind in ("Expand", "Tile", "Gather")
    assert cost.forward.macs == 0
    assert interpolates or repeats or cost.forward.elementwise == 0


@pytest.mark.parametrize(
    ("kind", "forward", "gradient"),
    [
        # by hand, for 2x4x6x6 = 288 elements
        ("Relu", 288, 288),
        ("Sigmoid", 4 * 288, 3 * 288),
        ("Tanh", 288, 3 * 288),
        ("Softmax", 5 * 288, 4 * 288),
        ("Add", 288, 0),
        ("Sum", 2 * 288, 0),
        ("Mul", 288, 288),
        ("BatchNormalization", 8 * 288, 11 * 288),
        ("MaxPool", 4 * 72, 72),
        ("AveragePool", 4 * 72, 4 * 72),
        ("GlobalAveragePool", 288, 288),
        ("ReduceMean", 288, 288),
    ],
)
def test_element_wise_flops_are_those_counted_by_hand(kind, forward, gradient):
    cost = cost_graph(sample(kind))["op"]
    assert (cost.forward.elementwise, cost.input_gradient.elementwise) == (forward, gradient)


def test_a_recurrent_layers_gradient_runs_back_one_step_less_than_it_has():
    cost = cost_graph(sample("LSTM"))["op"]
    steps, batch, gates, hidden, width = 7, 2, 4, 3, 5
    inward = steps * batch * gates * hidden * width
    assert cost.forward.macs == inward + steps * batch * gates * hidden * hidden
    assert cost.input_gradient.macs == inward + (steps - 1) * batch * gates * hidden * hidden
    assert cost.weight_gradient.macs == cost.forward.macs


def test_a_broadcast_operands_gradient_is_summed():
    # y = x (2x4x6x6) + b (4x1x1): 288 additions for b's gradient, none for x's
    cost = cost_graph(sample("Add"))["op"]
    assert cost.weight_gradient.elementwise == 288
    assert cost.weight_gradient.param_writes == 4


def test_an_embedding_reads_the_rows_it_takes_and_writes_a_dense_gradient():
    tensors = {"t": Tensor("t", (1000, 8)), "i": Tensor("i", (5,), "int64"), "y": Tensor("y", (5, 8))}
    graph = Graph("e", (Op("op", "Gather", ("t", "i"), ("y",)),), tensors, ("i",), ("y",), ("t",))
    cost = cost_graph(graph)["op"]
    assert cost.forward.param_reads == 40
    assert cost.weight_gradient.param_writes == 8000
    assert cost.parameters == 8000


def test_laying_out_weights_anew_costs_nothing_in_a_step():
    tensors = {"w": Tensor("w", (3, 5)), "x": Tensor("x", (2, 5)), "v": Tensor("v", (5, 3)), "y": Tensor("y", (2, 3))}
    ops = (Op("t", "Transpose", ("w",), ("v",)), Op("m", "MatMul", ("x", "v"), ("y",)))
    costs = cost_graph(Graph("t", ops, tensors, ("x",), ("y",), ("w",)))
    assert (costs["t"].forward, costs["t"].weight_gradient) == (NO_WORK, NO_WORK)
    assert costs["t"].parameters == 15
    assert costs["m"].weight_gradient.macs == 30


def test_an_operator_that_cannot_be_told_is_refused_with_its_name():
    tensors = {"x": Tensor("x", (2, 5)), "y": Tensor("y", (2, 5))}
    graph = Graph("bad", (Op("c", "Conv", ("x",), ("y",)),), tensors, ("x",), ("y",))
    with pytest.raises(ModelError, match=r"operator 'c' \(Conv\) has inputs or attributes"):
        cost_graph(graph)


@pytest.mark.parametrize("equation", ["ij,jk,kl->il", "...i,i->...", "ii->i"])
def test_an_einsum_that_is_no_product_of_two_is_refused(equation):
    names = [f"x{index}" for index in range(equation.count(",") + 1)]
    tensors = {name: Tensor(name, (3, 3)) for name in (*names, "y")}
    graph = Graph(
        "e",
        (Op("e", "Einsum", tuple(names), ("y",), attributes={"equation": equation}),),
        tensors,
        tuple(names),
        ("y",),
    )
    with pytest.raises(ModelError, match="not one or two operands"):
        cost_graph(graph)


def test_the_table_of_activations_is_within_the_registry():
    assert set(UNARY_FLOPS) <= set(OPERATORS)
