"""The papers' step as their public code makes it: the yardstick of the step benchmark, in tasks of the same executor.

All copies are stacked in one batch; each layer adds ``sigma * torch.randn`` to its output and keeps input and noise, in
fp32 (LR) or their signs as int8 (ALR). A gradient weighs each copy's noise with its losses and takes torch's own weight
gradient (LR), or an int8 product (ALR, which the paper says it computes in int8). Forwards, losses and baseline are the
executor's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.kernels.product import PRODUCTS
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape
from alrsim.estimators.kernels.state import State
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.forward import forward
from alrsim.execution.kernels.inputs import read_inputs, stage_buffers
from alrsim.execution.kernels.losses import loss
from alrsim.execution.kernels.registry import KERNELS, Kernel
from alrsim.execution.kernels.signals import estimate_factor, weights_of
from alrsim.execution.kernels.sums import add_weights
from alrsim.execution.programs.operators import LinearMap
from alrsim.execution.programs.pooling import max_pool2d
from alrsim.execution.programs.stage_function import StageCode
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import Kind, TaskId


def paper_kernels(*, signs: bool, threads: int = 1) -> Mapping[Kind, Kernel]:
    """Forward, loss and gradient tasks.

    Args:
        signs: ALR, else LR.
        threads: Of torch; more than one needs a worker that is not pinned.
    """

    def on_threads(kernel: Kernel) -> Kernel:
        def run(run: Run, task: int, id_: TaskId) -> None:
            with intra_op(threads):
                kernel(run, task, id_)

        return run

    def noisy_forward(run: Run, task: int, id_: TaskId) -> None:
        _forward(run, task, id_, signs)

    def gradient(run: Run, task: int, id_: TaskId) -> None:
        _gradient(run, task, id_, "int8" if signs else "paper", threads)

    return {**KERNELS, "F": on_threads(noisy_forward), "L": on_threads(loss), "G": on_threads(gradient)}


def _forward(run: Run, task: int, id_: TaskId, signs: bool) -> None:
    job, stage = run.job, id_.stage
    one = job.by_group[id_.group]
    direct = job.direct_map(stage)
    if not one.noisy or direct is None:
        forward(run, task, id_)
        return
    code = job.program.at(one.copies)[stage]
    inputs = [value.tensor for value in read_inputs(run, task, id_, one)]
    parameters = [run.parameters[name].detach() for name in code.parameters]
    with torch.no_grad():
        (output,), interior, _ = _plain(code).run(inputs, parameters, stage_buffers(run, code))
        noise = torch.randn(output.shape)
        kept = dict(zip(code.inputs, inputs, strict=True)).get(direct.value, interior.get(direct.value))
        assert kept is not None
        value = output + job.settings.sigma_of(stage) * noise
        state = [kept.sign().to(torch.int8), noise.sign().to(torch.int8)] if signs else [kept, noise]
    size = sum(item.nbytes for item in state)
    run.store.put(task, ("code", stage, id_.microbatch, id_.group), state, Category.ACTIVATION, size, stage)
    key = ("value", code.outputs[0], id_.microbatch, id_.group)
    run.store.put(task, key, value, Category.ACTIVATION, value.nbytes, stage)


def _plain(code: StageCode) -> StageCode:
    """The stage with torch's own max pooling, as modules call it."""
    if id(code) not in _PLAIN:
        graph = Graph()
        graph.output(graph.graph_copy(code.function.__self__.graph, {}))  # type: ignore[attr-defined]
        for node in graph.nodes:
            if node.target is max_pool2d:
                node.target = torch.ops.aten.max_pool2d.default
        # The stage is kept, too, so that no other one gets its id.
        _PLAIN[id(code)] = code, replace(code, function=GraphModule(torch.nn.Module(), graph).forward)
    return _PLAIN[id(code)][1]


_PLAIN: dict[int, tuple[StageCode, StageCode]] = {}


def _gradient(run: Run, task: int, id_: TaskId, kernel: str, threads: int) -> None:
    job, one, direct = run.job, run.job.by_group[id_.group], run.job.direct_map(id_.stage)
    assert direct is not None, "paper-style tasks are for stages that end in a convolution or a linear map"
    x, noise = run.store.get(task, ("code", id_.stage, id_.microbatch, id_.group))
    weights = weights_of(run, task, id_.microbatch, one) * estimate_factor(job, id_.stage)
    shape = shape_of(job, direct, x)
    product = PRODUCTS[kernel]
    kept = State(x, "real" if kernel == "paper" else "ternary", len(x))
    added = State(noise, "real" if kernel == "paper" else "sign", len(noise))
    gradients: dict[str, Tensor | None] = {direct.weight: product.multiply(kept, added, weights, shape, threads)}
    if direct.bias is not None:
        rows = weights.reshape(-1, *(1,) * (noise.dim() - 1)) * noise
        gradients[direct.bias] = rows.sum([dim for dim in range(noise.dim()) if dim != 1])
    add_weights(run, task, id_, gradients)


def shape_of(job: Job, direct: LinearMap, x: Tensor) -> Shape:
    """The product's shape; a linear map's inputs must be ``(samples, features)``."""
    weight = job.program.parameters[direct.weight]
    if direct.convolution is None:
        outputs, inputs = weight.shape
        return LinearShape(inputs, outputs)
    stride, padding, dilation, groups = direct.convolution
    size: Sequence[int] = x.shape[2:]
    return ConvShape(
        x.shape[1], weight.shape[0], tuple(size), tuple(weight.shape[2:]), stride, padding, dilation, groups
    )
