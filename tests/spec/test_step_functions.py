"""Which stages' noise passes a step function before the loss."""

import pytest

from alrsim.cost.cut import cut_graph
from alrsim.cost.smooth import discontinuous_stages
from alrsim.frontend.torch_export import export_model
from alrsim.graph.graph import DIFFERENTIABLE, Graph, Op, Tensor
from alrsim.models import build

CUT = (("a",), ("b",), ("c",))


def chain(kind: str, *, domain: str = "", dtype: str = "float32", attributes: dict | None = None) -> Graph:
    """``x -> Gemm(W) a -> kind b -> Gemm(V) c``."""
    floats = {name: Tensor(name, (2, 2)) for name in ("x", "W", "V", "u", "w")}
    ops = (
        Op("a", "Gemm", ("x", "W"), ("u",)),
        Op("b", kind, ("u",), ("v",), domain, attributes or {}),
        Op("c", "Gemm", ("v", "V"), ("w",)),
    )
    return Graph("chain", ops, {**floats, "v": Tensor("v", (2, 2), dtype)}, ("x",), ("w",), ("W", "V"))


@pytest.mark.parametrize("kind", ["Greater", "GreaterOrEqual", "Less", "Round", "Sign", "ArgMax", "Floor", "Ceil"])
def test_noise_in_front_of_a_step_passes_it_and_noise_behind_it_does_not(kind: str) -> None:
    assert discontinuous_stages(chain(kind), CUT) == (0,)


@pytest.mark.parametrize("kind", ["Relu", "Tanh", "Softmax", "Identity"])
def test_smooth_and_kinked_operators_are_no_steps(kind: str) -> None:
    assert discontinuous_stages(chain(kind), CUT) == ()


def test_a_cast_to_whole_numbers_is_a_step_and_one_to_real_numbers_is_none() -> None:
    assert discontinuous_stages(chain("Cast", dtype="int64"), CUT) == (0,)
    assert discontinuous_stages(chain("Cast"), CUT) == ()


def test_a_black_box_counts_as_a_step_unless_it_has_a_derivative() -> None:
    assert discontinuous_stages(chain("box", domain="user", attributes={DIFFERENTIABLE: 0}), CUT) == (0,)
    assert discontinuous_stages(chain("box", domain="user", attributes={DIFFERENTIABLE: 1}), CUT) == ()
    assert discontinuous_stages(chain("Magic", domain="acme"), CUT) == (0,)


def test_noise_behind_the_step_of_its_own_stage_is_smooth_unless_it_lies_on_the_parameters() -> None:
    joined = (("a", "b"), ("c",))
    assert discontinuous_stages(chain("Round"), joined) == ()
    assert discontinuous_stages(chain("Round"), joined, weight_noise=(0, 1)) == (0,)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("snn", {"image_size": 6, "hidden": 8, "steps": 2}, (0, 1)),
        ("gat", {"nodes": 6, "features": 4, "hidden": 2, "heads": 2}, ()),
        ("gru", {"vocabulary": 20, "embedding": 4, "hidden": 4, "sequence": 2, "noise": "gates"}, ()),
    ],
)
def test_of_the_zoo_only_spiking_layers_have_steps(model: str, options: dict, expected: tuple[int, ...]) -> None:
    graph = export_model(build(model, **options), 2).graph
    assert discontinuous_stages(graph, cut_graph(graph, "layer")) == expected
