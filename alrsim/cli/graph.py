"""``alrsim graph``: a model's operators with what each of them costs."""

import json as json_module
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alrsim.cli.common import load_with_warnings
from alrsim.cli.model import LoadedModel, request
from alrsim.cli.options import Batch, Bind, JsonTarget, ModelArgument, ModelOptions, OutputFile
from alrsim.cli.output import check_targets, publish, say, show
from alrsim.cli.stages import work_document
from alrsim.graph.graph import Op
from alrsim.graph.work import NO_WORK, Work
from alrsim.units import format_count

if TYPE_CHECKING:
    from alrsim.cost.operators import OpCost


def run(
    model: ModelArgument,
    option: ModelOptions = None,
    batch: Batch = None,
    bind: Bind = None,
    operators: Annotated[bool, typer.Option("--operators", help="List every operator, not totals by kind.")] = False,
    json: JsonTarget = None,
    output: OutputFile = None,
) -> None:
    """Load a model as an operator graph and count what every operator does, for the whole batch."""
    from alrsim.cost.operators import cost_graph
    from alrsim.files import to_json, write_atomically
    from alrsim.reports.tables import plain_table

    check_targets(json, file=output)
    loaded = load_with_warnings(request(model, option, bind, batch))
    costs = cost_graph(loaded.graph)
    document = graph_document(loaded, costs)
    rows = _operator_rows(loaded, costs) if operators else _kind_rows(loaded, costs)
    columns = ["operator", "kind"] if operators else ["kind", "count"]
    columns += ["MACs", "element-wise", "input grad MACs", "weight grad MACs", "parameters", "outputs"]
    table = plain_table(columns, rows, f"{loaded.name}, batch {loaded.samples}", 2 if operators else 1)
    if output is not None:
        write_atomically(output, (json_module.dumps(to_json("graph", loaded.graph)) + "\n").encode())

    def text() -> None:
        show(table)
        total = document["total"]
        say(
            f"{len(loaded.graph.ops)} operators, {format_count(document['parameters'])} parameters, "
            f"forward {format_count(total['forward']['macs'])} MACs, "
            f"forward and backward {format_count(total['flops_forward_backward'])} FLOPs in matrix products"
        )
        if output is not None:
            say(f"wrote {output}")

    publish(document, json_target=json, text=text)


def graph_document(loaded: LoadedModel, costs: "Mapping[str, OpCost]") -> dict[str, Any]:
    """The JSON of ``alrsim graph`` (schema ``graph.schema.json``)."""
    graph = loaded.graph
    forward = _sum([cost.forward for cost in costs.values()])
    inputs = _sum([cost.input_gradient for cost in costs.values()])
    weights = _sum([cost.weight_gradient for cost in costs.values()])
    return {
        "model": loaded.name,
        "batch": loaded.samples,
        "parameters": graph.parameter_elements,
        "inputs": {name: list(graph.tensors[name].shape) for name in graph.inputs},
        "outputs": {name: list(graph.tensors[name].shape) for name in graph.outputs},
        "warnings": list(graph.warnings),
        "total": {
            "forward": work_document(forward),
            "input_gradient": work_document(inputs),
            "weight_gradient": work_document(weights),
            "flops_forward_backward": 2 * (forward.macs + inputs.macs + weights.macs),
        },
        "operators": [_operator_document(op, costs[op.name]) for op in graph.ops],
    }


def _operator_document(op: Op, cost: "OpCost") -> dict[str, Any]:
    return {
        "name": op.name,
        "kind": op.kind,
        "module": op.module,
        "fx_nodes": list(op.fx_nodes),
        "forward": work_document(cost.forward),
        "input_gradient": work_document(cost.input_gradient),
        "weight_gradient": work_document(cost.weight_gradient),
        "parameters": cost.parameters,
        "output_elements": cost.output_elements,
        "saved": list(cost.saved),
        "kept_elements": cost.kept,
    }


def _sum(parts: list[Work]) -> Work:
    total = NO_WORK
    for part in parts:
        total += part
    return total


def _cells(cost: "list[OpCost]") -> list[str]:
    return [
        format_count(sum(c.forward.macs for c in cost)),
        format_count(sum(c.forward.elementwise for c in cost)),
        format_count(sum(c.input_gradient.macs for c in cost)),
        format_count(sum(c.weight_gradient.macs for c in cost)),
        format_count(sum(c.parameters for c in cost)),
        format_count(sum(c.output_elements for c in cost)),
    ]


def _operator_rows(loaded: LoadedModel, costs: "Mapping[str, OpCost]") -> list[list[str]]:
    return [[op.name, op.kind, *_cells([costs[op.name]])] for op in loaded.graph.ops]


def _kind_rows(loaded: LoadedModel, costs: "Mapping[str, OpCost]") -> list[list[str]]:
    kinds: dict[str, list[OpCost]] = {}
    for op in loaded.graph.ops:
        kinds.setdefault(op.kind, []).append(costs[op.name])
    return [[kind, str(len(members)), *_cells(members)] for kind, members in kinds.items()]
