"""Forward under autograd: what B, I and W will need, held without keeping more than that alive."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from alrsim.execution.job import Run
from alrsim.execution.kernels.inputs import Input
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.programs.stage_function import StageCode, edge_of
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


@dataclass(slots=True)
class Saved:
    """What autograd keeps of a stage's forward, held by edges of its graph: an edge keeps no tensor alive, so that
    only what the graph itself saved stays in memory.

    Attributes:
        inputs: Edge of every input whose gradient is wanted, ``None`` for the others.
        outputs: Edge of every output, ``None`` for one that depends on nothing trained.
        products: Edges of the parametrised operators' results by name.
        holds: Buffers of other keys that the graph keeps alive.
    """

    inputs: list[GradientEdge | None]
    outputs: list[GradientEdge | None]
    products: dict[str, GradientEdge]
    holds: tuple[Key, ...] = ()


@cache
def _anchor(device: torch.device) -> Tensor:
    """What entered values depend on, so that autograd records them; one for all, because its graph keeps it alive."""
    return torch.zeros((), requires_grad=True, device=device)


class _Enter(torch.autograd.Function):
    """The identity, whose edge stands for an input without being the input: a leaf would keep its tensor alive."""

    @staticmethod
    def forward(_context: Any, _anchor: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def forward_saving(
    run: Run,
    task: int,
    id_: TaskId,
    code: StageCode,
    inputs: Sequence[Input],
    parameters: Sequence[Tensor],
    buffers: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Run with autograd and keep its graph for B, I or W."""
    job, store = run.job, run.store
    edges = job.program.stages.incoming(id_.stage)
    anchor = _anchor(inputs[0].tensor.device)
    wanted = [job.wanted(id_.stage, edge.source) for edge in edges]
    with torch.enable_grad():
        leaves = [
            _enter(anchor, value.tensor) if flag else value.tensor for value, flag in zip(inputs, wanted, strict=True)
        ]
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    hooks = torch.autograd.graph.saved_tensors_hooks
    with torch.enable_grad(), hooks(pack, lambda tensor: tensor) if store.recording else nullcontext():
        outputs, interior, terms = code.run(leaves, parameters, buffers)
    names = {name for product in code.products for name in product.values}
    saved = Saved(
        [edge_of(leaf) if flag else None for leaf, flag in zip(leaves, wanted, strict=True)],
        [edge_of(output) for output in outputs],
        {name: interior[name] for name in sorted(names)},
    )
    if store.recording:  # later runs have what the ledger says
        made = zip(code.outputs, outputs, strict=True)
        known: list[tuple[Key | None, Tensor]] = [(value.key, value.tensor) for value in inputs]
        known += [(("value", name, id_.microbatch, id_.group), output) for name, output in made]
        saved.holds = _held(sizes, (*parameters, *run.buffers.values()), known)
    place = id_.stage, id_.microbatch, id_.group
    store.put(task, ("saved", *place), saved, Category.ACTIVATION, sum(sizes.values()), id_.stage)
    return outputs, [term.detach() for term in terms]


def _held(
    sizes: dict[int, int], residents: Sequence[Tensor], known: Sequence[tuple[Key | None, Tensor]]
) -> tuple[Key, ...]:
    """Buffers that the graph keeps alive; takes them, and what is resident, out of the bytes that it saved itself."""
    for resident in residents:
        sizes.pop(resident.untyped_storage().data_ptr(), None)
    return tuple(
        key
        for key, tensor in known
        if key is not None and sizes.pop(tensor.untyped_storage().data_ptr(), None) is not None
    )


def _enter(anchor: Tensor, value: Tensor) -> Tensor:
    entered: Tensor = _Enter.apply(anchor, value)  # type: ignore[no-untyped-call]
    return entered
