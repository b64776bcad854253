"""What a model does, counted: its operators, its stages, and the file that it was exported to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from alrsim.cost.operators import OpCost
from alrsim.documents import Document, Live
from alrsim.errors import OptionError
from alrsim.files import save_value
from alrsim.graph.graph import Graph, Op
from alrsim.graph.stages import Stage
from alrsim.graph.work import Work
from alrsim.reports.parts import Parts, no_files, no_picture
from alrsim.reports.tables import plain_table, to_text
from alrsim.units import Bytes, format_count

Shapes = Mapping[str, tuple[int, ...]]
"""By name of a value."""


@dataclass(frozen=True)
class WorkCounts:
    """Counts of elements and operations, and the FLOPs they add up to."""

    macs: int
    elementwise_flops: int
    flops: int
    parameter_reads: int
    parameter_writes: int
    activation_reads: int
    activation_writes: int
    launches: int

    @classmethod
    def of(cls, work: Work) -> Self:
        """The counts of some work."""
        reads, writes = work.activation_reads, work.activation_writes
        params = work.param_reads, work.param_writes
        return cls(work.macs, work.elementwise, work.flops, *params, reads, writes, work.launches)


@dataclass(frozen=True)
class OperatorCounts:
    """An operator, for the whole batch.

    Attributes:
        module, fx_nodes: Where it comes from in the torch model.
        parameters: Trainable elements that it is the first operator to read.
        saved: Activations of the forward pass that its gradients read again.
        kept_elements: Further elements that its gradients need.
    """

    name: str
    kind: str
    module: str
    fx_nodes: tuple[str, ...]
    forward: WorkCounts
    input_gradient: WorkCounts
    weight_gradient: WorkCounts
    parameters: int
    output_elements: int
    saved: tuple[str, ...]
    kept_elements: int

    @classmethod
    def of(cls, op: Op, cost: OpCost) -> Self:
        """An operator with its cost."""
        return cls(
            name=op.name,
            kind=op.kind,
            module=op.module,
            fx_nodes=tuple(op.fx_nodes),
            forward=WorkCounts.of(cost.forward),
            input_gradient=WorkCounts.of(cost.input_gradient),
            weight_gradient=WorkCounts.of(cost.weight_gradient),
            parameters=cost.parameters,
            output_elements=cost.output_elements,
            saved=cost.saved,
            kept_elements=cost.kept,
        )


@dataclass(frozen=True)
class TotalCounts:
    """All operators together."""

    forward: WorkCounts
    input_gradient: WorkCounts
    weight_gradient: WorkCounts
    flops_forward_backward: int


@dataclass(frozen=True)
class GraphResult(Document):
    """A model's operators with what each of them costs.

    Attributes:
        graph: Live: the graph.
        each: Live: the table shows every operator, not totals by kind.
    """

    kind: ClassVar[str] = "graph-counts"

    model: str
    batch: int
    parameters: int
    inputs: Shapes
    outputs: Shapes
    warnings: tuple[str, ...]
    total: TotalCounts
    operators: tuple[OperatorCounts, ...]
    graph: Live = field(default=None, repr=False, compare=False)
    each: Live = field(default=False, repr=False, compare=False)

    def write(self, path: str | Path) -> None:
        """Write the graph, which stands for the model from then on.

        Raises:
            OptionError: the result was read from a file.
        """
        _write("graph", self.graph, self.model, path)


@dataclass(frozen=True)
class StageCounts:
    """A stage, for one micro-batch and one copy.

    Attributes:
        saved_elements: What its gradients need of the forward pass.
    """

    index: int
    name: str
    operators: tuple[str, ...]
    parameters: int
    saved_elements: int
    forward: WorkCounts
    input_gradient: WorkCounts
    weight_gradient: WorkCounts
    recompute: WorkCounts

    @classmethod
    def of(cls, stage: Stage) -> Self:
        """The counts of a stage."""
        return cls(
            index=stage.index,
            name=stage.name,
            operators=tuple(stage.ops),
            parameters=stage.parameters,
            saved_elements=stage.saved,
            forward=WorkCounts.of(stage.forward),
            input_gradient=WorkCounts.of(stage.input_gradient),
            weight_gradient=WorkCounts.of(stage.weight_gradient),
            recompute=WorkCounts.of(stage.recompute),
        )


@dataclass(frozen=True)
class EdgeCounts:
    """A value that one stage hands to another."""

    source: int
    target: int
    value: str
    elements: int


@dataclass(frozen=True)
class StagesResult(Document):
    """A model cut into stages.

    Attributes:
        batch: Samples of one micro-batch.
        graph: Live: the stages.
    """

    kind: ClassVar[str] = "stage-counts"

    model: str
    cut: str
    batch: int
    stages: tuple[StageCounts, ...]
    loss: StageCounts
    edges: tuple[EdgeCounts, ...]
    graph: Live = field(default=None, repr=False, compare=False)

    def write(self, path: str | Path) -> None:
        """Write the stages.

        Raises:
            OptionError: the result was read from a file.
        """
        _write("stages", self.graph, self.model, path)


@dataclass(frozen=True)
class ExportResult(Document):
    """An ONNX file that was written."""

    kind: ClassVar[str] = "export"

    model: str
    file: str
    bytes: Bytes
    batch: int
    operators: int
    parameters: int
    inputs: Shapes
    outputs: Shapes
    warnings: tuple[str, ...]


def shapes_of(graph: Graph, names: Sequence[str]) -> Shapes:
    """Shapes of some of a graph's values."""
    return {name: tuple(graph.tensors[name].shape) for name in names}


def _write(kind: str, value: Any, model: str, path: str | Path) -> None:
    if value is None:
        raise OptionError(f"was read from a file, which does not hold the {kind}", where=model)
    save_value(kind, value, Path(path))


def graph_text(result: GraphResult) -> str:
    """Operators, or kinds of operators, and the totals."""
    kinds: dict[str, list[OperatorCounts]] = {}
    for op in result.operators:
        kinds.setdefault(op.kind, []).append(op)
    rows = [[kind, str(len(members)), *_cells(members)] for kind, members in kinds.items()]
    columns = ["kind", "count"]
    if result.each:
        rows, columns = [[op.name, op.kind, *_cells([op])] for op in result.operators], ["operator", "kind"]
    columns += ["MACs", "element-wise", "input grad MACs", "weight grad MACs", "parameters", "outputs"]
    table = plain_table(columns, rows, f"{result.model}, batch {result.batch}", 2 if result.each else 1)
    return to_text(table) + (
        f"{len(result.operators)} operators, {format_count(result.parameters)} parameters, "
        f"forward {format_count(result.total.forward.macs)} MACs, "
        f"forward and backward {format_count(result.total.flops_forward_backward)} FLOPs in matrix products"
    )


def _cells(ops: Sequence[OperatorCounts]) -> list[str]:
    return [
        format_count(sum(op.forward.macs for op in ops)),
        format_count(sum(op.forward.elementwise_flops for op in ops)),
        format_count(sum(op.input_gradient.macs for op in ops)),
        format_count(sum(op.weight_gradient.macs for op in ops)),
        format_count(sum(op.parameters for op in ops)),
        format_count(sum(op.output_elements for op in ops)),
    ]


def stages_text(result: StagesResult) -> str:
    """A row for each stage."""
    columns = ("stage", "name", "operators", "parameters", "forward MACs", "input grad", "weight grad", "saved", "to")
    rows = [_stage_row(stage, result) for stage in result.stages]
    return to_text(plain_table(columns, rows, f"{result.model}, cut {result.cut}", 2))


def _stage_row(stage: StageCounts, result: StagesResult) -> list[str]:
    targets = sorted({edge.target for edge in result.edges if edge.source == stage.index})
    names = ["loss" if target == len(result.stages) else str(target) for target in targets]
    passes = stage.forward.macs, stage.input_gradient.macs, stage.weight_gradient.macs
    counts = map(format_count, (stage.parameters, *passes, stage.saved_elements))
    return [str(stage.index), stage.name, str(len(stage.operators)), *counts, " ".join(names)]


def export_text(result: ExportResult) -> str:
    """One sentence."""
    return (
        f"{result.file}: {result.model}, {result.operators} operators, {result.parameters} parameters, "
        f"batch {result.batch}, {result.bytes} bytes"
    )


def _flat(counts: OperatorCounts | StageCounts) -> dict[str, Any]:
    return {
        f"{name}_{inner}" if isinstance(value, dict) else name: number
        for name, value in asdict(counts).items()
        if not isinstance(value, tuple)
        for inner, number in (value.items() if isinstance(value, dict) else [("", value)])
    }


GRAPH = Parts(graph_text, lambda result: [_flat(op) for op in result.operators], no_picture, no_files)
STAGES = Parts(stages_text, lambda result: [_flat(stage) for stage in result.stages], no_picture, no_files)
EXPORT = Parts(export_text, lambda result: [asdict(result)], no_picture, no_files)
