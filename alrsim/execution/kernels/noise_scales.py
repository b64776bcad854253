"""Noise scales from data: relative to what the noise is added to, or such that every stage moves the loss alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.execution.executor import Batch, sequential
from alrsim.execution.job import Settings, build_job
from alrsim.execution.programs.program import Program
from alrsim.graph.stages import StageGraph
from alrsim.rules.instances import CLEAN
from alrsim.rules.options import RuleOptions
from alrsim.tasks.taskgraph import TaskGraph


def relative_sigmas(
    program: Program,
    parameters: Mapping[str, Tensor],
    batch: Batch,
    scale: float | Sequence[float],
    *,
    weight_noise: Sequence[int] = (),
) -> tuple[float, ...]:
    """``scale`` times the standard deviation of what each stage's noise is added to, on the first micro-batch.

    That is its clean leaving values, or its marked values, or its parameters (``weight_noise``). A stage whose values
    do not vary gets ``scale`` itself.

    Args:
        scale: One number, or one per stage; 0.01 to 0.05 is usual.
    """
    spreads = value_spreads(program, parameters, batch, weight_noise=weight_noise)
    scales = [scale] * len(spreads) if isinstance(scale, float | int) else list(scale)
    return tuple(factor * (spread or 1.0) for factor, spread in zip(scales, spreads, strict=True))


def value_spreads(
    program: Program, parameters: Mapping[str, Tensor], batch: Batch, *, weight_noise: Sequence[int] = ()
) -> tuple[float, ...]:
    """Standard deviation of what each stage's noise is added to; 0 where nothing varies."""
    values = dict(zip(program.inputs, (value[: program.batch] for value in batch.inputs), strict=True))
    found = []
    for code in program.at(1):
        inputs = [values[name] for name in code.inputs]
        weights = [parameters[name].detach() for name in code.parameters]
        buffers = [program.buffers[name] for name in code.buffers]
        with torch.no_grad():
            outputs, _, _ = code.run(inputs, weights, buffers)
            noised: Sequence[Tensor] = outputs
            if code.index in weight_noise:
                noised = weights
            elif code.points is not None:
                held = [torch.zeros((), device=program.device)] * len(code.points.shapes)
                noised = code.points.cut(*inputs, *weights, *buffers, *held)
        values.update(zip(code.outputs, outputs, strict=True))
        flat = [value.flatten().to(torch.float64) for value in noised if value.is_floating_point()]
        found.append(float(torch.cat(flat).std()) if flat else 0.0)
    return tuple(found)


Rule = Callable[[StageGraph, RuleOptions], TaskGraph]


def balanced_sigmas(
    program: Program, batch: Batch, options: RuleOptions, settings: Settings, rule: Rule, *, copies: int = 8
) -> tuple[float, ...]:
    """Scales such that every stage's noise moves the loss alike: ``sigma_l`` proportional to ``1 / |dL/dv_l|``.

    Measured without backpropagation: noise on one stage at a time, at the settings' scales, spreads the per-sample
    losses by ``sigma_l |dL/dv_l|``. The geometric mean over the stages that inject noise stays what it was.

    Args:
        options: Of the step; noise, segments and noise on parameters are taken from it.
        rule: Of the step.
    """
    apart = replace(
        options, copies=copies, group=None, stage_copies=None, scope="layerwise", reduction="stack", baseline="clean",
        update=False, noise_code="plain", input_code="plain",
    )  # fmt: skip
    graph = rule(program.stages, apart)
    job = build_job(program, graph, apart, settings)
    done = sequential(program, graph, batch, apart, settings)
    injecting = {one.source: one.group for one in job.instances.noisy}
    effects = {
        segment: _effect(done.losses, job.loss_stage, group, apart.microbatches) for segment, group in injecting.items()
    }
    known = {segment: effect for segment, effect in effects.items() if effect > 0}
    if not known:
        raise ExecutionError("no stage's noise moves the loss", field="sigma_rule", fix="raise sigma")
    middle = exp(sum(map(log, known.values())) / len(known))
    sigmas = [settings.sigma_of(stage) for stage in range(len(program.stages.stages))]
    return tuple(
        sigma * middle / known[segment] if (segment := job.segmentation.segment[stage]) in known else sigma
        for stage, sigma in enumerate(sigmas)
    )


def _effect(losses: Mapping[str, Tensor], loss_stage: int, group: int, microbatches: int) -> float:
    """Root mean square by which noise moves a sample's loss."""
    squares = [
        (losses[f"{loss_stage}L{index}.{group}"] - losses[f"{loss_stage}L{index}.{CLEAN}"]).square().mean()
        for index in range(microbatches)
    ]
    return float(torch.stack(squares).mean().sqrt())
