"""Feedback alignment: BP with fixed random matrices where the transposed weights would be.

Direct (``fa``): the loss gradient at the logits is projected by a fixed random matrix onto every stage's output
(Nokland 2016, arXiv 1609.01596). Sequential (``fa-sequential``): it travels backward stage by stage, through fixed
random weights (Lillicrap et al. 2016, arXiv 1411.0247).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.noise import mix
from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program
from alrsim.execution.programs.stage_function import StageCode
from alrsim.experiments.staged import Forward, LocalRule, pull, require_local
from alrsim.graph.stages import MODEL_INPUT


@dataclass(frozen=True)
class DirectFeedback(LocalRule):
    """The learner ``fa``.

    Attributes:
        matrices: ``(elements of the error, elements of the value)`` per sample, by value.
    """

    matrices: Mapping[str, Tensor]

    def gradients(self, done: Forward, batch: Batch) -> dict[str, Tensor]:
        error = done.error.flatten(1)
        return self.pulled(done, lambda name: (error @ self.matrices[name]).view(done.values[name].shape))


def direct_feedback(program: Program, microbatches: int, seed: int) -> DirectFeedback:
    """Draw the feedback: normal, with standard deviation 1/sqrt(elements of the value).

    Raises:
        ExecutionError: a model that local rules cannot train.
    """
    require_local(program, "fa")
    error = prod(program.shapes[program.output][1:])
    matrices = {}
    for code in program.at(1):
        for position, name in enumerate(code.outputs if code.parameters else ()):
            if name != program.output:
                size = prod(program.shapes[name][1:])
                matrices[name] = _normal((error, size), seed, code.index, position) / sqrt(size)
    return DirectFeedback(program, microbatches, matrices)


@dataclass(frozen=True)
class SequentialFeedback(LocalRule):
    """The learner ``fa-sequential``.

    Every stage ends in its linear map, so that the gradient of its inputs with the feedback in place of the weights
    still has the derivatives of the activations before that map: ``f'(x) * (B' delta)``.

    Attributes:
        weights: Feedback in the shape of each parameter, by name.
    """

    weights: Mapping[str, Tensor]

    def gradients(self, done: Forward, batch: Batch) -> dict[str, Tensor]:
        signals: dict[str, Tensor] = {self.program.output: done.error}
        gradients: dict[str, Tensor] = {}
        for code in reversed(done.codes):
            given = [signals.get(name, torch.zeros_like(done.values[name])) for name in code.outputs]
            if code.parameters:
                gradients.update(pull(done, code, given)[0])
            self._pass_on(done, code, given, signals)
        return gradients

    def _pass_on(self, done: Forward, code: StageCode, given: list[Tensor], signals: dict[str, Tensor]) -> None:
        """Add the stage's part to the signal at each of its inputs."""
        wanted = [self._needed(code.index, name) for name in code.inputs]
        if not any(wanted):
            return
        _, inward = pull(done, code, given, wanted, [self.weights[name] for name in code.parameters])
        for name, part in zip(code.inputs, inward, strict=True):
            if part is not None:
                signals[name] = signals[name] + part if name in signals else part

    def _needed(self, stage: int, name: str) -> bool:
        edges = self.program.stages.incoming(stage)
        return any(edge.value == name and edge.source != MODEL_INPUT for edge in edges)


def sequential_feedback(program: Program, microbatches: int, seed: int) -> SequentialFeedback:
    """Draw feedback weights: normal, with the spread of the parameter that they stand for.

    Raises:
        ExecutionError: a model that local rules cannot train, or a stage with parameters that does not end in one
            linear map.
    """
    require_local(program, "fa-sequential")
    weights = {}
    for code in program.at(1):
        if code.parameters and code.direct is None:
            raise ExecutionError(
                f"stage {code.index} does not end in one linear map, so there is no single matrix to replace",
                where=program.name,
                fix="use `cut=layer` and a model of convolutions and linear maps, or `method=fa`",
            )
        for position, name in enumerate(code.parameters):
            like = program.parameters[name]
            spread = float(like.detach().std()) if like.numel() > 1 else 1.0
            weights[name] = _normal(tuple(like.shape), seed, code.index, position) * spread
    return SequentialFeedback(program, microbatches, weights)


def _normal(shape: tuple[int, ...], seed: int, stage: int, position: int) -> Tensor:
    generator = torch.Generator().manual_seed(mix((seed, stage, position)) >> 1)
    return torch.randn(shape, generator=generator)
