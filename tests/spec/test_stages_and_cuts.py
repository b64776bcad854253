"""Cuts and stages: what may be apart, what a stage keeps, and that the parts add up to the whole."""

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.operators import cost_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import ModelError, OptionError
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.graph import Graph, Op, Tensor
from alrsim.graph.work import NO_WORK, Work
from alrsim.models import build

CASES = [("mlp", {}), ("resnet5", {"norm": "none"}), ("resnet5", {"norm": "batch"}), ("lstm", {}), ("gcn", {})]


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    return {
        f"{name} {options.get('norm', '')}": export_model(build(name, **options), 2).graph for name, options in CASES
    }


def diamond(*, parameters=("w1", "w2"), outputs=("y",), **second) -> Graph:
    """x -> fc1 -> relu -> fc2 -> add(fc2, relu): a residual network of 2x4 values."""
    ops = (
        Op("fc1", "Gemm", ("x", "w1"), ("a",), module="one", fx_nodes=("n1",)),
        Op("relu", "Relu", ("a",), ("r",), module="one", fx_nodes=("n2",)),
        Op(
            "fc2", "Gemm", ("r", second.get("weight", "w2")), ("b",), module="two", fx_nodes=(second.get("node", "n3"),)
        ),
        Op("add", "Add", ("b", "r"), ("y",), fx_nodes=("n4",)),
    )
    names = ("x", "a", "r", "b", "y")
    tensors = {name: Tensor(name, (2, 4)) for name in names} | {name: Tensor(name, (4, 4)) for name in parameters}
    return Graph("diamond", ops, tensors, ("x",), outputs, parameters)


def total(works) -> Work:
    return sum(works, NO_WORK)


@pytest.mark.parametrize("spec", ["balanced:1", "balanced:3", "module", "layer", "block", "operator"])
def test_stages_of_any_cut_add_up_to_the_whole_graph(graphs, spec):
    for graph in graphs.values():
        stages = build_stages(graph, cut_graph(graph, spec))
        costs = cost_graph(graph).values()
        fed = {edge.target for edge in stages.edges if edge.source >= 0 and _trained_above(stages, edge.source)}
        inward = total(s.input_gradient if s.index in fed else s.interior_gradient for s in stages.stages)
        assert total(s.forward for s in stages.stages) == total(c.forward for c in costs)
        assert total(s.weight_gradient for s in stages.stages) == total(c.weight_gradient for c in costs)
        assert inward == total(c.input_gradient for c in costs)
        assert sum(s.parameters for s in stages.stages) == graph.parameter_elements


def _trained_above(stages, index) -> bool:
    return stages.stages[index].parameters > 0 or any(
        edge.source >= 0 and _trained_above(stages, edge.source) for edge in stages.incoming(index)
    )


@pytest.mark.parametrize(
    ("name", "options", "constants"),
    [
        ("mlp", {}, 0),
        ("resnet9", {"norm": "none"}, 0),
        ("resnet5", {"norm": "group"}, 0),
        ("vgg8", {"norm": "batch"}, 0),
        ("gcn", {}, 0),
        ("rnn", {}, 2 * 64),
        ("lstm", {}, 2 * 64),
    ],
)
def test_the_kept_activations_are_those_that_torch_saves(name, options, constants):
    # constants: the recurrent nets' initial zeros, which torch makes anew for every batch and we count as constants
    model = build(name, **options)
    graph = export_model(model, 2).graph
    stages = build_stages(graph, cut_graph(graph, "balanced:1"))
    ours = stages.stages[0].saved + sum(e.elements for e in stages.edges if e.saved_by_target or e.saved_by_source)
    resident = {t.untyped_storage().data_ptr() for t in (*model.module.parameters(), *model.module.buffers())}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in resident:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.module(*model.example(2))
    assert output.requires_grad
    assert 4 * (ours + constants) == sum(storage.nbytes() for storage in kept.values())


def test_the_first_stage_prices_an_input_gradient_that_only_textbooks_ask_for():
    stages = build_stages(diamond(), (("fc1",), ("relu", "fc2", "add"))).stages
    assert stages[0].input_gradient.macs == 2 * 4 * 4
    assert stages[0].interior_gradient == NO_WORK
    assert stages[0].weight_gradient.macs == 2 * 4 * 4
    assert stages[1].interior_gradient == Work()  # the shortcut's gradient is passed on as it is
    assert stages[1].input_gradient.macs == 2 * 4 * 4


def test_a_residual_edge_is_an_ordinary_edge_and_its_gradients_are_summed_where_the_value_is_written():
    graph = diamond()
    stages = build_stages(graph, (("fc1", "relu"), ("fc2",), ("add",)))
    assert [(e.source, e.target, e.value) for e in stages.edges] == [
        (-1, 0, "x"),
        (0, 1, "r"),
        (0, 2, "r"),
        (1, 2, "b"),
        (2, 3, "y"),
    ]
    sums = stages.stages[0].interior_gradient.elementwise
    assert sums == 2 * 4 + 2 * 4  # the relu's own gradient, and r's two gradients added


def test_a_value_kept_by_both_sides_of_an_edge_is_flagged_on_both_and_counted_in_neither():
    stages = build_stages(diamond(), (("fc1", "relu"), ("fc2", "add")))
    edge = next(e for e in stages.edges if e.source == 0)
    assert (edge.saved_by_source, edge.saved_by_target) == (True, True)
    assert [s.saved for s in stages.stages] == [0, 0]


def test_a_linear_map_behind_cheap_operators_keeps_its_own_input_and_recomputes_nothing(graphs):
    for stage in build_stages(graphs["resnet5 none"], cut_graph(graphs["resnet5 none"], "layer")).stages:
        assert stage.linear == (stage.parameters > 0)
        assert (stage.recompute == NO_WORK) == stage.linear
    pooled = build_stages(graphs["resnet5 none"], cut_graph(graphs["resnet5 none"], "layer")).stages[2]
    assert pooled.ops == ("node_relu_1", "node_max_pool2d", "node_conv2d_2")
    assert pooled.lr_saved == 2 * 16 * 16 * 16


def test_normalisations_stay_with_the_layer_before_them(graphs):
    stages = build_stages(graphs["resnet5 batch"], cut_graph(graphs["resnet5 batch"], "layer")).stages
    kinds = {op.name: op.kind for op in graphs["resnet5 batch"].ops}
    assert [kinds[name] for name in stages[0].ops] == ["Conv", "BatchNormalization"]
    assert not stages[0].linear
    assert stages[0].recompute == stages[0].forward


def test_modules_names_and_operators_cut_as_they_say():
    graph = diamond()
    assert cut_graph(graph, "module") == (("fc1", "relu"), ("fc2", "add"))
    assert cut_graph(graph, "names:add,relu") == (("fc1",), ("relu", "fc2"), ("add",))
    assert cut_graph(graph, "names:n3") == (("fc1", "relu"), ("fc2", "add"))
    assert cut_graph(graph, "operator") == (("fc1",), ("relu",), ("fc2",), ("add",))
    # r is read behind fc2, too: the relu is a stage of its own, so that fc2 keeps one output
    assert cut_graph(graph, "layer") == (("fc1",), ("relu",), ("fc2", "add"))


def test_operators_of_one_torch_node_are_never_apart():
    graph = diamond(node="n2")
    assert cut_graph(graph, "operator") == (("fc1",), ("relu", "fc2"), ("add",))
    with pytest.raises(ModelError, match="come from one torch node, 'n2'"):
        build_stages(graph, (("fc1", "relu"), ("fc2", "add")))


def test_readers_of_one_parameter_are_never_apart():
    graph = diamond(parameters=("w1",), weight="w1")
    assert cut_graph(graph, "operator") == (("fc1", "relu", "fc2"), ("add",))
    with pytest.raises(OptionError, match=r"2 pieces that can be apart \(operators that share w1"):
        cut_graph(graph, "balanced:3")
    with pytest.raises(ModelError, match=r"parameter 'w1' is read in stages 0 \(fc1\) and 1 \(fc2\)"):
        build_stages(graph, (("fc1", "relu"), ("fc2", "add")))
    assert build_stages(graph, cut_graph(graph, "balanced:1")).stages[0].parameters == 16


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))


def test_a_module_called_twice_is_one_stage():
    graph = export_model(TorchModel("tied", Tied(), lambda batch: (torch.ones(batch, 6),), 3), 2).graph
    stages = build_stages(graph, cut_graph(graph, "layer")).stages
    assert [stage.parameters for stage in stages] == [42, 21]
    assert not stages[0].linear
    assert stages[1].linear


BAD_SPECS = {
    "halves": "unknown cut 'halves'",
    "": "unknown cut ''",
    "layer:2": "unknown cut",
    "balanced:": "needs a positive whole number",
    "balanced:0": "needs a positive whole number",
    "balanced:-1": "needs a positive whole number",
    "balanced:two": "needs a positive whole number",
    "balanced:²": "needs a positive whole number",
    "balanced:9": "cannot cut into 9 stages: the model has 4 pieces",
    "module:0": "needs a positive whole number",
    "module:x": "needs a positive whole number",
    "names:": "needs at least one operator",
    "names:fc3": "no operator 'fc3'\n  try: close names: fc2, fc1",
    "names:relu,relu": "'relu' cannot start a stage of its own",
}


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_a_bad_cut_is_refused_with_its_reason(spec):
    with pytest.raises(OptionError) as caught:
        cut_graph(diamond(), spec)
    assert BAD_SPECS[spec] in str(caught.value)


def test_a_plain_file_without_modules_cannot_be_cut_by_module():
    plain = Graph("plain", (Op("r", "Relu", ("x",), ("y",)),), {n: Tensor(n, (1,)) for n in "xy"}, ("x",), ("y",))
    with pytest.raises(OptionError, match="does not say which module"):
        cut_graph(plain, "module")


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ((("fc1", "relu"), ("fc2",)), "leaves out operators add"),
        ((("fc1", "relu", "fc2", "add"), ()), "stage 1 of the cut is empty"),
        ((("fc1", "relu"), ("fc2", "add", "relu")), "'relu' of the cut is in two stages"),
        ((("fc1", "relu", "fc9"), ("fc2", "add")), "'fc9' of the cut does not exist"),
        ((("fc2", "add"), ("fc1", "relu")), "reads 'r' of the later stage 1"),
    ],
)
def test_a_bad_list_of_stages_is_refused(cut, message):
    with pytest.raises(ModelError, match=message):
        build_stages(diamond(), cut)


def test_every_operator_without_a_cost_is_listed():
    ops = (Op("a", "Magic", ("x",), ("h",)), Op("b", "Relu", ("h",), ("i",)), Op("c", "Wand", ("i",), ("y",), "acme"))
    graph = Graph("odd", ops, {name: Tensor(name, (2,)) for name in "xhiy"}, ("x",), ("y",))
    with pytest.raises(ModelError, match=r"Magic \(1 times\), acme::Wand \(1 times\); the first is 'a'"):
        cost_graph(graph)
