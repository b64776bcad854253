"""``alrsim plan --durations``: textbook problems, every rule with the same freedom, proved or bounded."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from alrsim.cli.output import say, show
from alrsim.cli.parse import parse_durations
from alrsim.cli.plan_asked import Asked
from alrsim.cli.textbook import Outline, file_problem, unit_names
from alrsim.errors import OptionError
from alrsim.hardware.machine import require_unit_count
from alrsim.planner.exact import Proved, plan_problems
from alrsim.rules.options import RuleOptions
from alrsim.schedule.proof import FREEDOM_NAMES
from alrsim.tasks.problem import Problem

_GRADIENTS = {"bp": {"B"}, "bp-split": {"I", "W"}, "lr": {"G"}}
DEFAULT_RULES = ("bp", "bp-split", "lr")


def plan_durations(asked: Asked) -> tuple[Proved, ...]:
    """Every rule's problem, planned; the shortest step first.

    Raises:
        OptionError: no units, several numbers of micro-batches, or a rule that textbooks do not draw.
    """
    if asked.units is None and asked.stages is None:
        raise OptionError("needs --units or --stages", where="--durations", fix="--units 4")
    counts = asked.microbatches or (4,)
    if len(counts) != 1:
        raise OptionError(f"got {len(counts)} numbers of micro-batches", where="--microbatches", fix="give one")
    rules = asked.rules if "rules" in asked.typed else DEFAULT_RULES
    if "segments" in rules:
        raise OptionError("a table of durations has no segments", where="--rules", fix=f"use {','.join(DEFAULT_RULES)}")
    problems = {rule: textbook(asked, rule, counts[0]) for rule in rules}
    return plan_problems(problems, asked.search, semantics=asked.semantics)


def textbook(asked: Asked, rule: str, microbatches: int) -> Problem:
    """One rule's problem. With ``--loss-row`` the loss module has a gradient cell per micro-batch and an update."""
    assert asked.durations is not None
    table = parse_durations(asked.durations)
    units = asked.units or asked.stages or 1
    require_unit_count(units, "--units")
    stages = asked.stages or units
    row = asked.loss_row and rule != "lr"
    options = RuleOptions(
        microbatches=microbatches,
        baseline="none",
        reduction="accumulate" if table["c"] and rule == "lr" else "stack",
        loss=bool(table["l"]),
        update=asked.update and bool(table["u"]),
        first_input_gradient=True,
        loss_gradient=row,
        loss_update=row,
    )
    found = Outline(rule, stages, microbatches, unit_names(units), frozenset(), frozenset())
    problem = file_problem(found, table, options, loss_unit=asked.loss_unit)
    return _with_loss_row(problem, table) if asked.loss_row and rule == "lr" else problem


def _with_loss_row(problem: Problem, table: dict[str, Fraction]) -> Problem:
    """LR's problem with a gradient cell after every loss and an update after those, which take l and u."""
    from dataclasses import replace

    from alrsim.steps.figure2_cells import with_loss_row

    tasks = with_loss_row(problem.tasks)
    known = {task.id: row for task, row in zip(problem.tasks.tasks, problem.durations, strict=True)}
    units = len(problem.machine.units)
    extra = {kind: (int(table[key] * problem.ticks_per_unit),) * units for kind, key in (("G", "l"), ("U", "u"))}
    durations = tuple(known.get(task.id, extra.get(task.id.kind, (0,) * units)) for task in tasks.tasks)
    return replace(problem, tasks=tasks, durations=durations)


def proved_document(asked: Asked, found: tuple[Proved, ...]) -> dict[str, Any]:
    """The JSON of ``alrsim plan --durations`` (schema ``plan.schema.json``)."""
    best = found[0]
    return {
        "durations": {key: str(value) for key, value in parse_durations(asked.durations or "").items()},
        "target": asked.target,
        "units": len(best.problem.machine.units),
        "stages": best.problem.tasks.stages,
        "microbatches": best.problem.tasks.microbatches,
        "freedom": best.freedom,
        "plans": [_row(one) for one in found],
        "chosen": best.name,
        "runner_up": found[1].name if len(found) > 1 else None,
        "schedule": best.schedule.as_dict(),
    }


def _row(one: Proved) -> dict[str, Any]:
    per = one.problem.ticks_per_unit
    return {
        "rule": one.name,
        "tasks": len(one.problem.durations),
        "makespan": float(Fraction(one.timeline.makespan, per)),
        "bound": float(Fraction(one.bound, per)),
        "gap": float(one.gap),
        "status": one.status,
        "digest": one.schedule.digest,
    }


def write_proved(best: Proved, output: Path) -> None:
    """The chosen schedule, for `alrsim simulate FILE --durations ...`.

    Raises:
        OptionError: another ending than .json.
    """
    from alrsim.schedule.files import write_schedule

    if output.suffix != ".json":
        raise OptionError(f"{output.name!r} does not end in .json", where="--output")
    write_schedule(output, best.schedule)


def tell_proved(asked: Asked, found: tuple[Proved, ...], output: Path | None) -> None:
    """The table, the chosen lanes, and what may be said of BP against LR."""
    from alrsim.reports.tables import plain_table

    best = found[0]
    what = f"{best.problem.tasks.stages} stages x {best.problem.tasks.microbatches} micro-batches"
    words = FREEDOM_NAMES["stages" if asked.search.placement == "stages" else best.freedom]
    apart = ", LR gradients apart from them" if asked.search.placement == "stages" and asked.search.gradients else ""
    say(f"{what} on {len(best.problem.machine.units)} units; free to choose: order, {words}{apart}")
    rows = []
    for one in found:
        row = _row(one)
        gap = f"{100 * row['gap']:.1f} %"
        rows.append([one.name, str(row["tasks"]), f"{row['makespan']:g}", f"{row['bound']:g}", gap, one.status])
    show(plain_table(["rule", "tasks", "makespan", "lower bound", "gap", "status"], rows))
    say(f"chosen: {best.name}")
    for unit, lane in best.schedule.as_dict().items():
        say(f"{unit}: {lane}")
    if {"lr"} & {one.name for one in found} and len(found) > 1:
        say("A step of LR with one copy is not a step of BP in progress: its gradient is a noisy estimate.")
    if output is not None:
        say(f"wrote {output}")
