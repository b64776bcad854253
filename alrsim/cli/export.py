"""``alrsim export``: a torch model as an ONNX file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alrsim.cli.model import LoadedModel, load, request
from alrsim.cli.options import Batch, Bind, JsonTarget, ModelArgument, ModelOptions
from alrsim.cli.output import check_targets, progress, publish, say, warn
from alrsim.errors import OptionError


def run(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file to write.")],
    option: ModelOptions = None,
    batch: Batch = None,
    bind: Bind = None,
    json: JsonTarget = None,
) -> None:
    """Export a zoo model or a factory's model to ONNX, unoptimised and in training mode."""
    from alrsim.frontend.torch_export import save_onnx

    check_targets(json, file=output)
    if output.suffix != ".onnx":
        raise OptionError(f"{output.name!r} does not end in .onnx", where="--output")
    asked = request(model, option, bind, batch)
    if asked.source in ("onnx", "graph"):
        raise OptionError("is a file already; only torch models are exported", where=f"MODEL {model}")
    with progress(1, "export") as step:
        step(model)
        loaded = load(asked)
    assert loaded.exported is not None
    save_onnx(loaded.exported, output)
    document = _document(loaded, output)
    for warning in loaded.graph.warnings:
        warn(warning)
    publish(document, json_target=json, text=lambda: say(_sentence(document)))


def _document(loaded: LoadedModel, output: Path) -> dict[str, Any]:
    graph = loaded.graph
    return {
        "model": loaded.name,
        "file": str(output),
        "bytes": output.stat().st_size,
        "batch": loaded.samples,
        "operators": len(graph.ops),
        "parameters": graph.parameter_elements,
        "inputs": {name: list(graph.tensors[name].shape) for name in graph.inputs},
        "outputs": {name: list(graph.tensors[name].shape) for name in graph.outputs},
        "warnings": list(graph.warnings),
    }


def _sentence(document: dict[str, Any]) -> str:
    return (
        f"{document['file']}: {document['model']}, {document['operators']} operators, "
        f"{document['parameters']} parameters, batch {document['batch']}, {document['bytes']} bytes"
    )
