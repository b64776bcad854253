"""What `alrsim plan MODEL` prints: JSON and text."""

from pathlib import Path
from typing import Any

from alrsim.cli.output import say, show
from alrsim.cli.plan_model import Answer, cosine_of
from alrsim.planner.evaluate import Evaluated, Target
from alrsim.planner.exact import freedom_of
from alrsim.reports.bound import bound_document
from alrsim.schedule.proof import FREEDOM_NAMES, gap
from alrsim.timeline.memory import peak_memory
from alrsim.units import format_bytes, format_ns

SHOWN = 6


def value_text(value: float, target: Target) -> str:
    """A number of the target's unit for people."""
    if target == "memory":
        return format_bytes(value)
    return f"{value:.4g} J" if target == "energy" else format_ns(value)


def document_of(answer: Answer) -> dict[str, Any]:
    """The JSON of ``alrsim plan`` (schema ``plan.schema.json``)."""
    outcome = answer.outcome
    target = answer.setting.target
    other = runner_up(answer)
    return {
        "model": answer.setting.source.name,
        "hardware": answer.profile.name,
        "units": len(answer.setting.machine.units),
        "batch": answer.setting.source.batch,
        "target": target,
        "cosine": answer.asked.cosine,
        "cost_model": answer.setting.cost_name,
        "space": {
            "words": answer.space.words(),
            "candidates": outcome.candidates,
            "evaluated": len(outcome.ranked),
            "pruned": outcome.pruned,
            "unseen": outcome.unseen,
            "misfits": len(outcome.misfits),
            "refused": list(outcome.refused),
        },
        "value": outcome.value,
        "bound": outcome.bound,
        "gap": outcome.gap,
        "status": "OPTIMAL" if outcome.gap <= 0 else "FEASIBLE",
        "chosen": {**_row(answer, outcome.best), "schedule": outcome.best.schedule.as_dict()},
        "runner_up": None if other is None else _row(answer, other),
        "ranked": [_row(answer, one) for one in outcome.ranked],
        "bottleneck": {
            "unit": answer.why.unit,
            "busy": answer.why.busy,
            "stage": answer.why.stage,
            "kind": answer.why.kind,
            "share": answer.why.share,
            "waiting": answer.why.waiting,
        },
        "one_more_unit": None
        if answer.more is None
        else {"units": answer.more.units, "gain": answer.more.gain, "plan": answer.more.best.candidate.label},
        "notes": notes(answer),
    }


def runner_up(answer: Answer) -> Evaluated | None:
    """The next best plan that differs in more than how noise is kept."""
    best = answer.best.candidate

    def sort(one: Evaluated) -> tuple[object, ...]:
        return one.candidate.rule, one.candidate.cut, one.candidate.microbatches, one.candidate.copies

    mine = (best.rule, best.cut, best.microbatches, best.copies)
    others = answer.outcome.ranked[1:]
    return next((one for one in others if sort(one) != mine), others[0] if others else None)


def _row(answer: Answer, one: Evaluated) -> dict[str, Any]:
    candidate, precision = one.candidate, one.options.precision
    found = gap(one.problem, one.timeline.makespan, one.schedule, one.proof)
    return {
        "label": candidate.label,
        "rule": candidate.rule,
        "cut": candidate.cut_name,
        "stages": len(candidate.cut),
        "segments": None if candidate.segments is None else list(candidate.segments),
        "microbatches": candidate.microbatches,
        "copies": candidate.copies,
        "group": candidate.group,
        "noise_mode": candidate.mode,
        "formats": {
            "parameters": precision.parameters.value,
            "activations": precision.activations.value,
            "saved": precision.saved.value,
            "noise": precision.noise.value,
        },
        "placement": placement_of(one),
        "makespan_ns": one.timeline.makespan,
        "energy_joules": one.score.energy,
        "peak_memory_bytes": dict(peak_memory(one.timeline)),
        "forwards_per_step": one.problem.tasks.forwards_per_step,
        "expected_cosine": cosine_of(answer, one),
        "bound": one.bound,
        "schedule_bound": None if found is None else bound_document(found),
        "digest": one.schedule.digest,
    }


def placement_of(one: Evaluated) -> list[str]:
    """The unit of every stage's first forward."""
    units = {task.stage: unit for task, unit in reversed(list(one.schedule.unit_of.items())) if task.kind == "F"}
    names = [unit.name for unit in one.problem.machine.units]
    return [names[units[stage]] for stage in range(one.problem.tasks.stages)]


def freedom_words(answer: Answer) -> str:
    """What the bound holds for."""
    search = answer.setting.search
    words = FREEDOM_NAMES["stages" if search.placement == "stages" else freedom_of(search)]
    movable = search.placement == "stages" and search.gradients == "free"
    words += ", LR gradients apart from them" if movable else ""
    return words + ("; every set of LR cuts, every number of copies" if answer.asked.cosine is not None else "")


def notes(answer: Answer) -> list[str]:
    """What the reader must know to take the numbers for what they are."""
    found = []
    outcome = answer.outcome
    ranked = outcome.ranked
    exact = next((one for one in ranked if not one.candidate.is_lr), None)
    lr = next((one for one in ranked if one.candidate.is_lr), None)
    target = answer.setting.target
    if "lr" in answer.space.rules and target != "time-to-cosine":
        copies = answer.space.copies[0] if lr is None else lr.candidate.copies
        found.append(
            f"a step of LR with {copies} {'copy' if copies == 1 else 'copies'} is not a step of BP in progress: its "
            "gradient is an estimate with noise; --target time-to-cosine compares at equal quality"
        )
    if lr is not None and target != "time-to-cosine":
        if outcome.best.candidate.is_lr and exact is not None:
            value = value_text(exact.score.of(target), target)
            found.append(f"the best plan with exact gradients: {exact.candidate.label}: {value}")
        elif outcome.best.candidate.is_lr and {"bp", "bp-split"} & set(answer.space.rules):
            found.append("no plan with exact gradients was evaluated: their bounds are no better")
    if target == "time-to-cosine":
        found.append(f"quality model: {answer.per_dim:.4g} per noise dimension; {answer.source_of_noise}")
        if not outcome.best.candidate.is_lr:
            found.append(
                "an exact gradient (BP) reaches every cosine in one step, and no LR plan reaches this one sooner"
            )
    if outcome.unseen:
        found.append(f"{outcome.unseen} candidates might be better and were not tried: --search effort=4")
    if answer.setting.cost_name == "roofline":
        found.append(
            "times are a roofline's: trust ratios more than absolute times, or calibrate with compare --measure"
        )
    found += [f"not possible: {text}" for text in outcome.refused]
    return found


def tell(answer: Answer, output: Path | None) -> None:
    """The plan for people."""
    from alrsim.reports.tables import plain_table

    outcome, target = answer.outcome, answer.setting.target
    best = outcome.best
    goal = target if answer.asked.cosine is None else f"{target} {answer.asked.cosine:g}"
    units = len(answer.setting.machine.units)
    say(
        f"{answer.setting.source.name}, batch {answer.setting.source.batch}, on {units} units of "
        f"{answer.profile.name}: least {goal}"
    )
    rows = []
    for one in outcome.ranked[:SHOWN]:
        score = one.score
        energy = "-" if score.energy is None else f"{score.energy:.3g} J"
        bound = value_text(one.bound, target)
        rows.append([one.candidate.label, format_ns(score.time), format_bytes(score.memory), energy, bound])
    show(plain_table(["plan", "step", "peak memory", "energy", "lower bound"], rows))
    say(f"chosen: {best.candidate.label}")
    for number, unit in enumerate(placement_of(best)):
        names = best.candidate.cut[number]
        say(f"  stage {number} on {unit}: {names[0]}" + (f" .. {names[-1]}" if len(names) > 1 else ""))
    formats = best.options.precision
    say(
        f"  formats: parameters {formats.parameters.value}, activations {formats.activations.value}"
        + (f", kept inputs {formats.saved.value}, noise {formats.noise.value}" if best.candidate.is_lr else "")
    )
    other = runner_up(answer)
    if other is not None:
        behind = other.score.of(target) / outcome.value if outcome.value else 1.0
        say(f"runner-up: {other.candidate.label}: {behind:.3g}x")
    say(
        f"{value_text(outcome.value, target)}; lower bound {value_text(outcome.bound, target)}, gap "
        f"{100 * outcome.gap:.1f} % over all {outcome.candidates} candidates: {outcome.pruned} excluded by their "
        f"bounds, {len(outcome.ranked)} carried out, {len(outcome.misfits)} did not fit; any order, "
        f"{freedom_words(answer)}"
    )
    say(f"space: {answer.space.words()}")
    if answer.asked.cosine is not None:
        say(f"expected cosine: {cosine_of(answer, best):.3f}")
    say(f"why: {answer.why.words}")
    if answer.more is not None:
        label = answer.more.best.candidate.label
        say(f"one more unit ({answer.more.units}) would give {answer.more.gain:.2f}x: {label}")
    for note in notes(answer):
        say(f"note: {note}")
    if output is not None:
        say(f"wrote {output}")
