"""``alrsim stages``: a model cut into stages, with what each of them does."""

import json as json_module
from typing import Any

from alrsim.cli.common import load_with_warnings
from alrsim.cli.model import request
from alrsim.cli.options import (
    Batch,
    Bind,
    Cut,
    JsonTarget,
    Microbatches,
    ModelArgument,
    ModelOptions,
    OutputFile,
    Units,
)
from alrsim.cli.output import check_targets, publish, show
from alrsim.cli.parse import require_positive
from alrsim.cli.pipeline import cut_stages
from alrsim.graph.stages import Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.units import format_count


def run(
    model: ModelArgument,
    cut: Cut = None,
    units: Units = None,
    option: ModelOptions = None,
    batch: Batch = None,
    microbatches: Microbatches = 1,
    bind: Bind = None,
    json: JsonTarget = None,
    output: OutputFile = None,
) -> None:
    """Cut a model into stages. Counts are for one micro-batch and one copy."""
    from alrsim.files import to_json, write_atomically
    from alrsim.reports.tables import plain_table

    check_targets(json, file=output)
    require_positive({"--units": units})
    asked = request(model, option, bind, batch, microbatches)
    loaded = load_with_warnings(asked)
    spec = cut or f"balanced:{units or 2}"
    stages = cut_stages(loaded.graph, spec)
    document = stages_document(stages, spec)
    columns = ("stage", "name", "operators", "parameters", "forward MACs", "input grad", "weight grad", "saved", "to")
    table = plain_table(columns, [_row(stage, stages) for stage in stages.stages], f"{stages.name}, cut {spec}", 2)
    if output is not None:
        write_atomically(output, (json_module.dumps(to_json("stages", stages)) + "\n").encode())
    publish(document, json_target=json, text=lambda: show(table))


def stages_document(stages: StageGraph, spec: str) -> dict[str, Any]:
    """The JSON of ``alrsim stages`` (schema ``stages.schema.json``)."""
    return {
        "model": stages.name,
        "cut": spec,
        "batch": stages.batch,
        "stages": [_stage_document(stage) for stage in stages.stages],
        "loss": _stage_document(stages.loss),
        "edges": [
            {"source": edge.source, "target": edge.target, "value": edge.value, "elements": edge.elements}
            for edge in stages.edges
        ],
    }


def _stage_document(stage: Stage) -> dict[str, Any]:
    return {
        "index": stage.index,
        "name": stage.name,
        "operators": list(stage.ops),
        "parameters": stage.parameters,
        "saved_elements": stage.saved,
        "forward": work_document(stage.forward),
        "input_gradient": work_document(stage.input_gradient),
        "weight_gradient": work_document(stage.weight_gradient),
        "recompute": work_document(stage.recompute),
    }


def work_document(work: Work) -> dict[str, int]:
    """Counts of elements and operations, and the FLOPs they add up to."""
    return {
        "macs": work.macs,
        "elementwise_flops": work.elementwise,
        "flops": work.flops,
        "parameter_reads": work.param_reads,
        "parameter_writes": work.param_writes,
        "activation_reads": work.activation_reads,
        "activation_writes": work.activation_writes,
        "launches": work.launches,
    }


def _row(stage: Stage, graph: StageGraph) -> list[str]:
    targets = sorted({edge.target for edge in graph.outgoing(stage.index)})
    names = ["loss" if target == len(graph.stages) else str(target) for target in targets]
    counts = (stage.forward.macs, stage.input_gradient.macs, stage.weight_gradient.macs, stage.saved)
    return [
        str(stage.index),
        stage.name,
        str(len(stage.ops)),
        format_count(stage.parameters),
        *map(format_count, counts),
        " ".join(names),
    ]
