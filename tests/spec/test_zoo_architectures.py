"""The zoo is what it says: the papers' shapes, torch's own cells, and equations worked out by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from alrsim.errors import OptionError
from alrsim.frontend.torch_export import export_model
from alrsim.models import ZOO, build
from alrsim.models.graphnets import GAT, GCN, random_graph
from alrsim.models.recurrent import TextClassifier
from alrsim.models.spiking import LIF

INPUT_SHAPES = {
    "resnet5": (3, 32, 32),
    "resnet9": (3, 32, 32),
    "resnet12": (3, 64, 64),
    "vgg8": (3, 32, 32),
    "mlp": (64,),
    "lstm": (16,),
    "gru": (16,),
    "rnn": (16,),
    "gat": (128, 1433),
    "gcn": (128, 1433),
    "snn": (1, 28, 28),
}
CONVOLUTIONS = {"resnet5": 4, "resnet9": 8, "resnet12": 12, "vgg8": 6}
LINEARS = {"resnet5": 1, "resnet9": 1, "resnet12": 1, "vgg8": 2}


def test_the_zoo_holds_the_papers_architectures_with_their_natural_inputs() -> None:
    assert {name: tuple(build(name).example(2)[0].shape[1:]) for name in ZOO} == INPUT_SHAPES


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_network_has_the_layers_that_its_number_counts(name: str) -> None:
    parts = list(build(name).module.modules())
    convolutions = [part for part in parts if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert len(convolutions) == CONVOLUTIONS[name]
    assert sum(isinstance(part, nn.Linear) for part in parts) == LINEARS[name]
    assert len(convolutions) + LINEARS[name] - (name == "resnet12") == int("".join(filter(str.isdigit, name)))
    assert not any(isinstance(part, nn.BatchNorm2d | nn.GroupNorm | nn.Dropout) for part in parts)


def test_resnet5_keeps_the_inputs_and_noise_per_sample_that_the_ulr_code_has() -> None:
    """24,064 input and 40,970 pre-activation elements per sample and copy (conv 3-8-16-32-32, linear 512-10)."""
    exported = export_model(build("resnet5"), 1)
    maps = [op for op in exported.graph.ops if op.kind in ("Conv", "Gemm")]
    shapes = exported.graph.tensors
    assert sum(shapes[op.inputs[0]].elements for op in maps) == 24_064
    assert sum(shapes[op.outputs[0]].elements for op in maps) == 40_970
    weights = 3 * 8 * 9 + 8 * 16 * 9 + 16 * 32 * 9 + 32 * 32 * 9 + 512 * 10
    assert exported.graph.parameter_elements == weights + 8 + 16 + 32 + 32 + 10


@pytest.mark.parametrize(("name", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_written_out_cells_compute_what_torchs_own_layers_compute(
    name: str, kind: type[nn.LSTM], layers: int
) -> None:
    model = build(name, hidden=5, embedding=7, layers=layers, sequence=6, vocabulary=11)
    assert isinstance(model.module, TextClassifier)
    fused = kind(7, 5, layers, batch_first=True)
    own = list(model.module.layers)
    for index, layer in enumerate(own):
        for source, target in (("from_input", "ih"), ("from_state", "hh")):
            linear = layer.get_submodule(source)
            assert isinstance(linear, nn.Linear)
            getattr(fused, f"weight_{target}_l{index}").data = linear.weight.data
            getattr(fused, f"bias_{target}_l{index}").data = linear.bias.data
    vectors = model.module.embedding(model.example(3)[0])
    torch.testing.assert_close(model.module.layers(vectors), fused(vectors)[0])


@pytest.mark.parametrize(("name", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
def test_the_written_out_cells_cost_what_torchs_own_layers_cost(name: str, kind: type[nn.LSTM]) -> None:
    model = build(name, hidden=5, embedding=7, sequence=6, vocabulary=11)
    assert isinstance(model.module, TextClassifier)
    vectors = torch.empty(3, 6, 7, device="meta")
    with FlopCounterMode(display=False) as own:
        model.module.layers.to("meta")(vectors)
    with FlopCounterMode(display=False) as fused:
        kind(7, 5, batch_first=True, device="meta")(vectors)
    assert own.get_total_flops() == fused.get_total_flops() > 0


def test_a_gcn_layer_is_the_normalised_adjacency_times_features_times_weights() -> None:
    adjacency = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    model = GCN(adjacency, features=2, hidden=4, classes=3)
    features = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    scale = torch.diag(torch.tensor([2.0, 3.0, 2.0]) ** -0.5)
    normalised = scale @ adjacency @ scale
    expected = torch.einsum("nm,bmf,of->bno", normalised, features, model.first.linear.weight) + model.first.bias
    torch.testing.assert_close(model.first(features), expected)
    assert model(features).shape == (2, 3, 3)


def test_a_gat_node_ignores_nodes_without_an_edge_and_its_attention_sums_to_one() -> None:
    adjacency = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    layer = GAT(adjacency, features=2, hidden=4, heads=3, classes=2).first
    features = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0))
    changed = features.clone()
    changed[0, 2] += 1
    torch.testing.assert_close(layer(features)[:, :2], layer(changed)[:, :2], rtol=0, atol=0)
    # a node whose only neighbour is itself attends to itself with weight 1
    torch.testing.assert_close(layer(features)[0, 2], layer.linear(features)[0, 2] + layer.bias)


def test_gat_attention_is_softmax_of_leaky_scores() -> None:
    layer = GAT(torch.ones(2, 2), features=2, hidden=3, heads=1, classes=2).first
    features = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(1))
    values = layer.linear(features)[0]
    scores = torch.empty(2, 2)
    for target in range(2):
        for source in range(2):
            score = values[target] @ layer.target[0, 0] + values[source] @ layer.source[0, 0]
            scores[target, source] = score if score > 0 else 0.2 * score
    torch.testing.assert_close(layer(features)[0], torch.softmax(scores, dim=1) @ values + layer.bias)


def test_the_random_graph_is_symmetric_with_self_loops_and_coras_degree() -> None:
    graph = random_graph(1000, 3)
    assert torch.equal(graph, graph.T)
    assert bool((graph.diagonal() == 1).all())
    assert 3.6 < (graph.sum() - 1000).item() / 1000 < 4.4
    assert set(graph.unique().tolist()) == {0.0, 1.0}


def test_a_neuron_leaks_integrates_fires_and_resets() -> None:
    currents = torch.tensor([0.8, 0.8, 0.8, 0.0]).reshape(1, 4, 1)
    # v: 0.8, then 0.4 + 0.8 = 1.2 fires and resets, then 0.8, then 0.4
    assert LIF()(currents).flatten().tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet6", {}, "'resnet6' is not a model of the zoo"),
        ("resnet5", {"depth": 3}, "has no option 'depth'"),
        ("resnet5", {"norm": "layer"}, "norm=layer: no such choice"),
        ("resnet5", {"width": 0}, "width=0: is too small"),
        ("resnet5", {"width": "wide"}, "width=wide: is not a whole number"),
        ("resnet5", {"width": 1.5}, "width=1.5: is not a whole number"),
        ("resnet5", {"width": True}, "width=True: is not a whole number"),
        ("resnet5", {"image_size": 20}, "image_size=20: is not a multiple of 8"),
        ("mlp", {"classes": 1}, "classes=1: is too small"),
        ("mlp", {"norm": "group"}, "has no option 'norm'"),
        ("mlp", {"name": "x"}, "has no option 'name'"),
        ("lstm", {"seed": -1}, "seed=-1: is too small"),
        ("gat", {"heads": None}, "heads=None: is not a whole number"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as error:
        build(name, **options)
    assert message in str(error.value)
    assert "try: " in str(error.value)


def test_what_exists_is_listed() -> None:
    with pytest.raises(OptionError, match="resnet5, resnet9, resnet12, vgg8, mlp, lstm, gru, rnn, gat, gcn, snn"):
        build("alexnet")
    with pytest.raises(OptionError, match="width=8, classes=10, in_channels=3, image_size=32, norm=none, seed=0"):
        build("resnet5", pool=3)


def test_numbers_may_be_text_as_on_a_command_line() -> None:
    assert build("mlp", hidden="32", classes="3").parameter_count == (64 + 1) * 32 + 33 * 32 + 33 * 3
