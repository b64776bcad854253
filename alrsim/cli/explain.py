"""``alrsim explain``: why a schedule takes as long as it does, and why a unit is idle at a moment."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alrsim.cli.common import typed_options
from alrsim.cli.options import (
    Baseline,
    Batch,
    Bind,
    Chunks,
    Copies,
    Cost,
    Cut,
    Engine,
    FirstInputGradient,
    Group,
    Hardware,
    Inject,
    InputCode,
    JsonTarget,
    Loss,
    ModelOptions,
    Noise,
    NoiseCode,
    Optimizer,
    OutFolder,
    Overlap,
    PlanPath,
    PrecisionText,
    Reduce,
    Repair,
    Scope,
    Search,
    Segments,
    Semantics,
    Signs,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish, say, show
from alrsim.cli.parse import choose
from alrsim.cli.pipeline import Settings, settings_from
from alrsim.cli.simulating import (
    Asked,
    Simulated,
    refuse_model_options,
    simulate_durations,
    simulate_model,
    sort_arguments,
)
from alrsim.errors import OptionError
from alrsim.units import parse_rational

if TYPE_CHECKING:
    from alrsim.reports.explained import Explained

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}


def run(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCHEDULE] [MODEL]",
            help="A schedule file (.json of alrsim, .csv of PyTorch) and/or a model, as for `alrsim simulate`.",
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="U", help="Ask about this unit, such as u2; with --at.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="T", help="...at this moment: 12.5ms, 300us; with --durations 7.5; or 40%."),
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option("--schedule", metavar="FILE", help="The schedule file, if not given as argument.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="RULE:SCHEDULER", help="Instead of a file, such as bp:1f1b.")
    ] = None,
    durations: Annotated[
        str | None,
        typer.Option(
            "--durations",
            metavar="TABLE",
            help="Instead of a model: f=2,b=3,w=1,u=0,l=0,g=1,c=0,transfer=0.25 per stage; a full backward is b+w.",
        ),
    ] = None,
    stages: Annotated[
        int | None, typer.Option("--stages", metavar="N", help="With --durations and --method. Default: one per unit.")
    ] = None,
    loss_unit: Annotated[
        int | None, typer.Option("--loss-unit", metavar="N", help="With --durations: the loss has this unit.")
    ] = None,
    units: Units = None,
    microbatches: Annotated[
        int | None,
        typer.Option("--microbatches", "-m", metavar="M", help="Default: what the schedule file has, else 4."),
    ] = None,
    repair: Repair = False,
    signs: Signs = False,
    hardware: Hardware = "cpu-2core",
    cost: Cost = "auto",
    semantics: Semantics = "link",
    engine: Engine = "auto",
    overlap: Overlap = "1",
    copies: Copies = 1,
    precision: PrecisionText = None,
    batch: Batch = None,
    option: ModelOptions = None,
    bind: Bind = None,
    cut: Cut = None,
    chunks: Chunks = None,
    group: Group = None,
    baseline: Baseline = "clean",
    scope: Scope = "joint",
    reduction: Reduce = "stack",
    noise: Noise = None,
    input_code: InputCode = None,
    noise_code: NoiseCode = None,
    plan: PlanPath = None,
    inject: Inject = "pre",
    optimizer: Optimizer = "sgd",
    update: Update = True,
    loss: Loss = True,
    segments: Segments = None,
    first_input_gradient: FirstInputGradient = False,
    time_limit: TimeLimit = None,
    search: Search = None,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Explain a schedule: critical path, slack per task, idle time by reason; --unit U --at T asks about one moment.

    A live cap that the schedule was made under is told with --search live=N. --out DIR draws the critical path.
    """
    check_targets(json, out)
    if (unit is None) != (at is None):
        raise OptionError("go together", where="--unit and --at", fix="for example --unit u1 --at 40%")
    model, file = sort_arguments(arguments or [], schedule)
    given = {**context.params, "microbatches": 4 if microbatches is None else microbatches}
    asked = Asked(model, file, method, microbatches, units, stages, batch, option, bind, hardware, repair, loss_unit)
    typed = typed_options(context)
    settings = settings_from(given, typed)
    if durations is not None:
        refuse_model_options(typed)
    done = simulate_model(asked, settings) if durations is None else simulate_durations(asked, settings, durations)
    found = explained(done, settings)
    question = None if unit is None or at is None else question_of(found, unit, at)
    files = {}
    if out is not None:
        from alrsim.reports.explained_chart import draw_explained

        title = f"{done.name}: {done.about.get('model', 'durations as typed')}"
        files = {"explained.png": draw_explained(found, title)}
    from alrsim.reports.explained_text import explain_document

    document = {**done.about, "name": done.name, **explain_document(found, question)}
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(found, question))
    if json != "-":
        for name in files:
            say(f"wrote {out}/{name}")


def explained(done: Simulated, settings: Settings) -> "Explained":
    """Explain a simulation, under the live cap of ``--search`` if there is one."""
    from alrsim.reports.explained import explain
    from alrsim.schedulers.caps import caps_of

    live = None if settings.search is None else caps_of(done.problem, settings.search).live
    return explain(done.problem, done.schedule, done.timeline, overlap=settings.overlap, live=live)


def question_of(found: "Explained", unit: str, at: str) -> tuple[int, int]:
    """Unit and tick of a question.

    Raises:
        OptionError: no such unit, or a moment that is none.
    """
    choose(unit, found.units, where="--unit", what="unit")
    line, text = found.timeline, at.strip()
    if text.endswith("%"):
        share = parse_rational(text[:-1], where="--at")
        return found.units.index(unit), int(share * line.makespan / 100)
    suffix = next((one for one in ("ns", "us", "µs", "ms", "s") if text.endswith(one)), "")
    value = parse_rational(text[: len(text) - len(suffix)], where="--at")
    if line.time_unit != "ns":
        if suffix:
            raise OptionError(f"{at!r}: typed durations have no seconds", where="--at", fix="for example --at 7.5")
        return found.units.index(unit), int(value * line.ticks_per_unit)
    if not suffix:
        raise OptionError(f"{at!r} has no unit of time", where="--at", fix=f"for example --at {at}ms, or 40%")
    return found.units.index(unit), int(value * Fraction(_UNITS[suffix]))


def tell(found: "Explained", question: tuple[int, int] | None) -> None:
    """Print for people: the answer to the question, or everything."""
    from alrsim.reports.explained_text import answer, idle_table, path_line, path_table, slack_line

    if question is not None:
        for line in answer(found, *question):
            say(line)
        return
    say(path_line(found))
    show(path_table(found))
    say("idle time by reason, as a share of the makespan:")
    show(idle_table(found))
    say(slack_line(found))
