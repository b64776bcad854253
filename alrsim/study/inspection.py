"""What a model is made of: operators, stages, and an ONNX file of it, as results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alrsim.cost.operators import OpCost, cost_graph
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.graph.work import NO_WORK
from alrsim.options import keyword
from alrsim.reports.model_counts import (
    EdgeCounts,
    ExportResult,
    GraphResult,
    OperatorCounts,
    StageCounts,
    StagesResult,
    TotalCounts,
    WorkCounts,
    shapes_of,
)
from alrsim.steps.model import SizedModel, cut_stages, load_model
from alrsim.steps.options import CutOptions, MachineOptions, ModelOptions
from alrsim.verbs import verb


@dataclass(frozen=True, kw_only=True)
class GraphOptions(ModelOptions):
    """Options of :func:`graph`."""

    operators: bool = keyword("List every operator, not totals by kind.", default=False)


@verb(GraphOptions)
def graph(model: Any, *, asked: GraphOptions) -> GraphResult:
    """Load a model as an operator graph and count what every operator does, for the whole batch.

    Args:
        model: As :func:`alrsim.load_model` takes it.

    >>> graph("mlp").parameters
    26122
    """
    sized = load_model(model, option=asked.option, bind=asked.bind).at(asked.batch)
    return counts_of(sized, each=asked.operators)


def counts_of(sized: SizedModel, *, each: bool = False) -> GraphResult:
    """The operators of a model, counted."""
    found = sized.graph
    costs = cost_graph(found)
    return GraphResult(
        model=sized.name,
        batch=sized.samples,
        parameters=found.parameter_elements,
        inputs=shapes_of(found, found.inputs),
        outputs=shapes_of(found, found.outputs),
        warnings=tuple(found.warnings),
        total=_total(list(costs.values())),
        operators=tuple(OperatorCounts.of(op, costs[op.name]) for op in found.ops),
        graph=found,
        each=each,
    )


def _total(costs: Sequence[OpCost]) -> TotalCounts:
    forward = sum((cost.forward for cost in costs), NO_WORK)
    inputs = sum((cost.input_gradient for cost in costs), NO_WORK)
    weights = sum((cost.weight_gradient for cost in costs), NO_WORK)
    flops = 2 * (forward.macs + inputs.macs + weights.macs)
    return TotalCounts(WorkCounts.of(forward), WorkCounts.of(inputs), WorkCounts.of(weights), flops)


@dataclass(frozen=True, kw_only=True)
class StagesOptions(CutOptions, MachineOptions, ModelOptions):
    """Options of :func:`stages`."""


@verb(StagesOptions)
def stages(model: Any, *, asked: StagesOptions) -> StagesResult:
    """Cut a model into stages. Counts are for one micro-batch and one copy.

    Args:
        model: As :func:`alrsim.load_model` takes it.

    >>> len(stages("mlp", cut="balanced:3").stages)
    3
    """
    loaded = load_model(model, option=asked.option, bind=asked.bind)
    spec = asked.cut or f"balanced:{asked.units or 2}"
    return stages_result(cut_stages(loaded.at(asked.batch, asked.microbatches).graph, spec), spec)


def stages_result(found: StageGraph, spec: str) -> StagesResult:
    """Stages, counted."""
    return StagesResult(
        model=found.name,
        cut=spec,
        batch=found.batch,
        stages=tuple(map(StageCounts.of, found.stages)),
        loss=StageCounts.of(found.loss),
        edges=tuple(EdgeCounts(edge.source, edge.target, edge.value, edge.elements) for edge in found.edges),
        graph=found,
    )


@verb(ModelOptions)
def export(model: Any, path: str | Path, *, asked: ModelOptions) -> ExportResult:
    """Export a torch model to ONNX, unoptimised and in training mode.

    Args:
        model: A torch model as :func:`alrsim.load_model` takes it.
        path: The ``.onnx`` file to write.

    Raises:
        OptionError: another suffix, or a model without torch code.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise OptionError(f"{target.name!r} does not end in .onnx", field="path")
    loaded = load_model(model, option=asked.option, bind=asked.bind)
    if not loaded.runs:
        raise OptionError(f"{loaded.name} is a file already; only torch models are exported", field="model")
    loaded.export(target, asked.batch)
    sized = loaded.at(asked.batch)
    found = sized.graph
    return ExportResult(
        model=sized.name,
        file=str(target),
        bytes=target.stat().st_size,
        batch=sized.samples,
        operators=len(found.ops),
        parameters=found.parameter_elements,
        inputs=shapes_of(found, found.inputs),
        outputs=shapes_of(found, found.outputs),
        warnings=tuple(found.warnings),
    )
