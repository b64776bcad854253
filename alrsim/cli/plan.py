"""``alrsim plan``: which cut, placement, rule, segments, micro-batches, copies and formats are best, with a gap."""

from pathlib import Path
from typing import Annotated

import typer

from alrsim.cli.common import typed_options
from alrsim.cli.options import (
    Batch,
    Bind,
    Hardware,
    JsonTarget,
    Loss,
    ModelOptions,
    Optimizer,
    OutputFile,
    PrecisionText,
    Search,
    Semantics,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish


def run(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [COSINE]",
            help="A model as for `alrsim compare`; the cosine of --target time-to-cosine, such as 0.3.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="T", help="step-time | memory | energy | time-to-cosine COSINE: what is least."
        ),
    ] = "step-time",
    hardware: Hardware = "cpu-2core",
    units: Units = None,
    batch: Batch = None,
    rules: Annotated[
        str | None,
        typer.Option(
            "--rules",
            metavar="LIST",
            help="Of bp, bp-split, lr, segments. Default: the first three, for time-to-cosine all.",
            show_default=False,
        ),
    ] = None,
    microbatches: Annotated[
        str | None,
        typer.Option(
            "--microbatches",
            "-m",
            metavar="LIST",
            help="Numbers of micro-batches to choose from. Default: divisors of the batch up to 32.",
            show_default=False,
        ),
    ] = None,
    copies: Annotated[
        str | None,
        typer.Option(
            "--copies",
            metavar="LIST",
            help="LR: numbers of copies to choose from. Default: 1; for time-to-cosine what the cosine takes.",
            show_default=False,
        ),
    ] = None,
    modes: Annotated[
        str | None,
        typer.Option(
            "--modes",
            metavar="LIST",
            help="LR: how noise and inputs are kept: stored, int8, regenerated, bits, accumulated, alr. "
            "Default: all but alr, whose gradient is not the true one.",
            show_default=False,
        ),
    ] = None,
    cut: Annotated[
        str | None,
        typer.Option(
            "--cut", metavar="SPEC", help="One cut instead of a choice, as for `compare`.", show_default=False
        ),
    ] = None,
    noise_per_dim: Annotated[
        float | None,
        typer.Option(
            "--noise-per-dim",
            metavar="R",
            help="time-to-cosine: noise-to-signal of one copy per noise dimension. Default 1 (see the manual).",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        Path | None,
        typer.Option(
            "--quality",
            metavar="FILE",
            help="time-to-cosine: the same per layer, from `alrsim gradcheck ... --json FILE`.",
        ),
    ] = None,
    idle_power: Annotated[
        float, typer.Option("--idle-power", metavar="SHARE", help="energy: share of its power that an idle unit draws.")
    ] = 0.0,
    option: ModelOptions = None,
    bind: Bind = None,
    precision: PrecisionText = None,
    optimizer: Optimizer = "sgd",
    update: Update = True,
    loss: Loss = True,
    semantics: Semantics = "link",
    search: Search = None,
    time_limit: TimeLimit = None,
    what_if: Annotated[
        bool, typer.Option("--what-if/--no-what-if", help="Plan again for one unit more, to tell what it would bring.")
    ] = True,
    durations: Annotated[
        str | None,
        typer.Option(
            "--durations",
            metavar="TABLE",
            help="Instead of a model: f=2,b=3,w=1,u=0,l=0,g=1,c=0,transfer=0.25 per stage; a full backward is b+w.",
        ),
    ] = None,
    stages: Annotated[
        int | None, typer.Option("--stages", metavar="N", help="With --durations. Default: one per unit.")
    ] = None,
    loss_unit: Annotated[
        int | None, typer.Option("--loss-unit", metavar="N", help="With --durations: the loss has this unit.")
    ] = None,
    loss_row: Annotated[
        bool,
        typer.Option("--loss-row", help="With --durations: the loss has gradient cells and an update, as in Figure 2."),
    ] = False,
    output: OutputFile = None,
    json: JsonTarget = None,
) -> None:
    """Choose cut, placement, rule, segments, micro-batches, copies, formats and order: the best plan, with its gap."""
    from alrsim.cli.plan_asked import Asked, refuse_unread, sort_arguments

    check_targets(json, file=output)
    model, cosine = sort_arguments(arguments or [])
    asked = Asked.of(context.params, typed_options(context), model, cosine)
    refuse_unread(asked)
    if durations is not None:
        from alrsim.cli.plan_durations import plan_durations, proved_document, tell_proved, write_proved

        found = plan_durations(asked)
        if output is not None:
            write_proved(found[0], output)
        publish(proved_document(asked, found), json_target=json, text=lambda: tell_proved(asked, found, output))
        return
    from alrsim.cli.plan_model import plan_model, write_plan
    from alrsim.cli.plan_text import document_of, tell

    answer = plan_model(asked)
    if output is not None:
        write_plan(answer, output)
    publish(document_of(answer), json_target=json, text=lambda: tell(answer, output))
