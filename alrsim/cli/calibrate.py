"""``alrsim calibrate``: measure this host, and a model's tasks on it, into a hardware profile."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alrsim.cli.calibration_text import calibration_document, calibration_lines, calibration_tables
from alrsim.cli.common import typed_options
from alrsim.cli.model import request
from alrsim.cli.options import (
    Baseline,
    Cut,
    ExecutorName,
    Inject,
    InputCode,
    JsonTarget,
    Limit,
    Microbatches,
    ModelOptions,
    Noise,
    NoiseCode,
    Optimizer,
    Reduce,
    Seed,
    Units,
)
from alrsim.cli.output import check_targets, publish, say, show
from alrsim.cli.parse import parse_methods, require_positive
from alrsim.cli.pipeline import settings_from
from alrsim.cli.running import check_running
from alrsim.errors import OptionError
from alrsim.files import write_atomically
from alrsim.hardware.calibration import Calibration

METHODS = "bp:gpipe,bp-split:zb-h1,lr:lr-fixed,alr:lr-free"
SAMPLES, COPIES = "4,8,16", "1,2,4"


def run(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A zoo name or a factory: its tasks are measured.", show_default=False),
    ] = None,
    host: Annotated[bool, typer.Option("--host", help="No model: the host's kernels, links and overhead.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.yaml", help="The profile to write.")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="cpu | cuda.")] = "cpu",
    executor: ExecutorName = "processes",
    units: Units = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="LIST", help="Methods whose tasks are measured; the rule counts.")
    ] = METHODS,
    samples: Annotated[
        str, typer.Option("--samples", metavar="LIST", help="Micro-batch sizes; others are interpolated.")
    ] = SAMPLES,
    copies: Annotated[str, typer.Option("--copies", metavar="LIST", help="LR: copies in a task.")] = COPIES,
    microbatches: Microbatches = 4,
    option: ModelOptions = None,
    cut: Cut = None,
    baseline: Baseline = "clean",
    reduction: Reduce = "stack",
    noise: Noise = None,
    input_code: InputCode = None,
    noise_code: NoiseCode = None,
    inject: Inject = "pre",
    optimizer: Optimizer = "sgd",
    repeats: Annotated[int, typer.Option("--repeats", metavar="R", help="Measurements of everything.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Only the smallest generic kernels.")] = False,
    seed: Seed = 0,
    limit: Limit = None,
    json: JsonTarget = None,
) -> None:
    """Measure kernels, links, overhead and a model's tasks here; write them as a hardware profile.

    Predict with it by --hardware FILE.yaml: its task times where they fit (--cost measured), else its roofline.
    """
    from alrsim.cli.calibrating import Wanted, calibrate_host

    if (model is None) == (not host):
        raise OptionError("needs a MODEL, or --host, one of the two", where="calibrate", fix="alrsim calibrate --host")
    if output is None or output.suffix != ".yaml":
        raise OptionError("needs a file that ends in .yaml", where="--output", fix="-o this-host.yaml")
    check_targets(json, file=output)
    require_positive({"--repeats": repeats, "--units": units, "--microbatches": microbatches})
    params = {**context.params, "copies": 1}
    settings = settings_from(params, typed_options(context) - {"copies"})
    if device == "cuda" and "executor" not in typed_options(context):
        executor = "cuda"
    running = check_running(executor, limit)
    if model is not None and request(model, option, None, None).source not in ("zoo", "factory"):
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            where="MODEL",
            fix="give a zoo name or a factory file.py:make",
        )
    wanted = Wanted(
        model,
        option,
        parse_methods(methods),
        parse_counts(samples, "--samples"),
        parse_counts(copies, "--copies"),
        settings,
        _units(units, device),
        repeats,
        seed,
        running,
        device,
        output,
        quick,
    )
    done = calibrate_host(wanted)
    write_atomically(output, done.text.encode())
    section = done.profile.spec.calibration
    assert section is not None, "calibrate_host always makes one"
    document: dict[str, Any] = {
        "output": str(output),
        "name": done.profile.name,
        "calibration": calibration_document(section),
        "skipped": list(done.skipped),
    }
    publish(document, json_target=json, text=lambda: _tell(section, output))


def parse_counts(text: str, where: str) -> tuple[int, ...]:
    """``1,2,4``: whole numbers above 0, each once, ascending.

    Raises:
        OptionError: anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"{text!r} is no list of positive whole numbers", where=where, fix=f"{where} 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def _units(units: int | None, device: str) -> int:
    from alrsim.execution.measuring.host_kernels import device_of
    from alrsim.execution.workers.thread_workers import core_count

    device_of(device)
    return units or (1 if device == "cuda" else core_count())


def _tell(section: Calibration, output: Path) -> None:
    for table in calibration_tables(section):
        show(table)
    for line in calibration_lines(section):
        say(line)
    say(f"wrote {output}; predict with --hardware {output}")
