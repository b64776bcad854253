"""Recurrent models mark the values inside their cells where noise may go."""

import pytest
import torch

from alrsim.cost.operators import cost_graph
from alrsim.errors import OptionError
from alrsim.frontend.inject import inject
from alrsim.frontend.torch_export import export_model
from alrsim.graph.work import NO_WORK
from alrsim.models import build

SMALL = {"vocabulary": 50, "embedding": 6, "hidden": 8, "sequence": 5}


def test_the_marker_is_an_identity_with_the_identity_as_its_derivative() -> None:
    value = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(inject(value), value)
    assert torch.autograd.gradcheck(inject, (value,))


@pytest.mark.parametrize(
    ("model", "noise", "marked", "shape"),
    [
        ("rnn", "output", 0, ()),
        ("rnn", "state", 5, (2, 8)),
        ("rnn", "gates", 5, (2, 8)),
        ("gru", "state", 5, (2, 8)),
        ("gru", "gates", 15, (2, 8)),
        ("lstm", "state", 9, (2, 8)),  # nobody reads the last c
        ("lstm", "hidden", 5, (2, 8)),
        ("lstm", "gates", 5, (2, 32)),
    ],
)
def test_every_mark_is_an_operator_of_the_graph_that_costs_nothing(
    model: str, noise: str, marked: int, shape: tuple[int, ...]
) -> None:
    exported = export_model(build(model, **SMALL, noise=noise), 2)
    marks = [op for op in exported.graph.ops if op.kind == "Inject"]
    nodes = {node.name for node in exported.program.graph.nodes}
    costs = cost_graph(exported.graph)
    assert len(marks) == marked
    assert exported.graph.warnings == ()
    for op in marks:
        assert exported.graph.tensors[op.outputs[0]].shape == shape
        assert set(op.fx_nodes) <= nodes
        assert costs[op.name].forward == NO_WORK


def test_every_k_marks_segments_of_k_steps_and_the_last_step() -> None:
    graph = export_model(build("rnn", **SMALL, noise="state", every=2), 2).graph
    assert sum(op.kind == "Inject" for op in graph.ops) == 3  # after steps 2, 4 and 5


def test_marks_change_neither_logits_nor_gradients() -> None:
    results = []
    for noise in ("output", "state", "gates"):
        model = build("lstm", **SMALL, noise=noise)
        logits = model.module(*model.example(3))
        grads = torch.autograd.grad(logits.square().sum(), list(model.module.parameters()))
        results.append((logits, *grads))
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            assert torch.equal(ours, theirs)


def test_segments_without_marked_states_are_refused() -> None:
    with pytest.raises(OptionError, match="every=2 marks states, but noise=gates"):
        build("gru", **SMALL, noise="gates", every=2)
