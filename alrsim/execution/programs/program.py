"""A staged torch program: the exported graph, cut where the operator graph was cut, at any stacked batch size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.export import ExportedProgram

from alrsim.execution.programs.operators import BATCH_NORM, operator_name
from alrsim.execution.programs.stacking_check import check_stacking
from alrsim.execution.programs.stage_function import StageCode, compile_stages
from alrsim.execution.programs.staged_graph import Source
from alrsim.frontend.fx_map import module_path
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph


@dataclass(frozen=True)
class Program:
    """A model that the executor can run stage by stage.

    Attributes:
        name: The model.
        batch: Samples in one micro-batch (the exported batch size).
        stages: The stage graph, its edges named by torch nodes.
        inputs: Names of the model's inputs.
        output: Name of the logits.
        parameters: Trainable tensors by torch name.
        buffers: Running statistics and constants by name.
        batch_statistics: Modules whose samples depend on each other (batch norm in training mode).
        shapes: Shape of every value that crosses stages, at one micro-batch.
    """

    name: str
    batch: int
    stages: StageGraph
    inputs: tuple[str, ...]
    output: str
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    batch_statistics: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    source: Source = field(repr=False)
    cache: dict[int, tuple[StageCode, ...]] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        """Where its tensors are and its stages run."""
        return self.source.device

    def to(self, device: torch.device | str) -> "Program":
        """The same program on another device: tensors moved, stages compiled anew (exported graphs name devices)."""
        place = torch.device(device)
        if place == self.device:
            return self
        source = self.source.to(place)
        moved = replace(
            self,
            parameters={name: value.detach().to(place) for name, value in self.parameters.items()},
            buffers={name: value.to(place) for name, value in self.buffers.items()},
            source=source,
            cache={},
        )
        moved.at(1)
        return moved

    def at(self, copies: int) -> tuple[StageCode, ...]:
        """The stages for ``copies`` replicas of the micro-batch stacked in the batch dimension.

        Raises:
            ExecutionError: if an operator mixes the batch with other dimensions, so that it cannot be stacked.
        """
        if copies not in self.cache:
            codes = compile_stages(self.source, copies)
            if copies > 1 and len(self.cache) == 1:
                check_stacking(self.source, self.cache[1])
            self.cache[copies] = codes
        return self.cache[copies]


def build_program(graph: Graph, program: ExportedProgram, stages: StageGraph) -> Program:
    """Cut an exported torch program where its operator graph was cut.

    Args:
        graph: The operator graph; its operators name the torch nodes that they came from.
        program: The decomposed program of the same export (``Exported.program``).
        stages: The cut. ``stages.batch`` is the exported batch size.

    Raises:
        ExecutionError: an operator without a kernel, a parameter that two stages share, several outputs, or a cut
            that does not fit the torch graph.
    """
    source = Source.read(graph, program, stages)
    wired = replace(stages, edges=source.edges(stages))
    result = Program(
        name=graph.name,
        batch=stages.batch,
        stages=wired,
        inputs=tuple(node.name for node in source.inputs),
        output=source.output.name,
        parameters={name: source.tensors[name] for name in source.parameters.values()},
        buffers={name: source.tensors[name] for name in source.buffers.values()},
        batch_statistics=tuple(module_path(node) for node in source.body if operator_name(node) == BATCH_NORM),
        shapes={
            node.name: tuple(node.meta["val"].shape)
            for node in (*source.inputs, *(value for index in range(source.count) for value in source.crossing(index)))
        },
        source=source,
    )
    result.at(1)
    return result
