"""``plan``: which cut, placement, rule, segments, micro-batches, copies and formats are best, with a gap."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import load_machine
from alrsim.planner.evaluate import Evaluated
from alrsim.planner.explain import bottleneck
from alrsim.planner.options import PlanOptions, refuse_unread
from alrsim.planner.question import Question, answer, one_more, open_question
from alrsim.planner.search import Outcome
from alrsim.planner.textbooks import freedom_of, plan_durations
from alrsim.reports.bound import bound_of
from alrsim.reports.plan_result import Formats, PlacedStage, PlanResult, PlanRow, SpaceResult
from alrsim.reports.plan_view import value_text
from alrsim.reports.step_result import number
from alrsim.schedule.proof import FREEDOM_NAMES
from alrsim.schedulers import SearchOptions
from alrsim.steps.draft import Draft, Workload, about_of
from alrsim.steps.method import Method, preset_of
from alrsim.steps.model import load_model
from alrsim.steps.planned import Planned
from alrsim.steps.pricing import calibration_of
from alrsim.steps.step import Step
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.metrics import typed
from alrsim.units import Ns
from alrsim.verbs import verb

HOST = "cpu-2core"
MOST_UNITS = 1024
"""What a plan is searched for on; every bound looks at every unit."""


@verb(PlanOptions)
def plan(model: Any = None, hardware: str | Path | Machine = HOST, *, asked: PlanOptions) -> PlanResult:
    """Choose cut, placement, rule, segments, micro-batches, copies, formats and order: the best plan, with its gap.

    Args:
        model: As :func:`alrsim.load_model` takes it; ``None``: ``durations`` say how long tasks take.
        hardware: A profile by name or path, or a machine.

    Raises:
        OptionError: options that contradict each other, or a batch that cannot be split as asked.
        DoesNotFitError: nothing fits into memory; with what is short, and the changes that would help.
        ModelError, ProfileError: what cannot be loaded.

    >>> found = plan(durations="f=1,b=1,w=1", units=2, microbatches=2, rules="bp", search={"placement": "fixed"})
    >>> found.chosen.makespan, found.gap, found.step.makespan
    (9, 0.0, Fraction(9, 1))
    """
    refuse_unread(asked, model, hardware != HOST)
    if asked.durations is not None:
        return textbook_result(asked, plan_durations(asked))
    loaded = load_model(model, option=asked.option, bind=asked.bind)
    machine = load_machine(hardware, asked.units)
    if (count := len(machine.units)) > MOST_UNITS:
        raise OptionError(
            f"is {count:,}; at most {MOST_UNITS:,} are planned for", field="units", fix="compare methods instead"
        )
    question = open_question(loaded, machine, asked)
    return model_result(question, answer(question))


def model_result(question: Question, outcome: Outcome) -> PlanResult:
    """The outcome of a search as a document, explained."""
    asked, setting, best = question.asked, question.setting, outcome.best
    found = bottleneck(best.problem, best.schedule, best.timeline)
    rows = {id(one): model_row(question, one) for one in outcome.ranked}
    other, chosen = runner_up(outcome), rows[id(best)]
    return PlanResult(
        model=setting.source.name,
        durations=None,
        hardware=setting.machine.name,
        units=len(setting.machine.units),
        batch=setting.source.batch,
        target=asked.target,
        cosine=asked.cosine,
        cost_model=setting.cost_name,
        time_unit="ns",
        space=SpaceResult(
            question.space.words(),
            freedom_words(setting.search, cosine=asked.cosine is not None),
            outcome.candidates,
            len(outcome.ranked),
            outcome.pruned,
            outcome.unseen,
            len(outcome.misfits),
            outcome.refused,
        ),
        value=outcome.value,
        bound=outcome.bound,
        gap=outcome.gap,
        status="OPTIMAL" if outcome.gap <= 0 else "FEASIBLE",
        chosen=chosen,
        schedule=best.schedule.as_dict(),
        stages=tuple(
            PlacedStage(unit, names[0], names[-1])
            for unit, names in zip(chosen.placement, best.candidate.cut, strict=True)
        ),
        runner_up=None if other is None else rows[id(other)],
        ranked=tuple(rows.values()),
        bottleneck=found,
        one_more_unit=one_more(question, outcome, found.unit) if asked.what_if else None,
        notes=tuple(notes(question, outcome)),
    )


def runner_up(outcome: Outcome) -> Evaluated | None:
    """The next best plan that differs in more than how noise is kept."""

    def sort(one: Evaluated) -> tuple[object, ...]:
        return one.candidate.rule, one.candidate.cut, one.candidate.microbatches, one.candidate.copies

    others = outcome.ranked[1:]
    return next((one for one in others if sort(one) != sort(outcome.best)), others[0] if others else None)


def model_row(question: Question, one: Evaluated) -> PlanRow:
    """One plan that was carried out."""
    candidate, formats = one.candidate, one.options.precision
    value = one.score.of(question.setting.target)
    row = step_row(step_of(question, one), value, one.bound, value / one.bound - 1 if one.bound else 0.0)
    return replace(
        row,
        label=candidate.label,
        rule=candidate.rule,
        cut=candidate.cut_name,
        segments=candidate.segments,
        copies=candidate.copies,
        group=candidate.group,
        noise_mode=candidate.mode,
        formats=Formats(formats.parameters.value, formats.activations.value, formats.saved.value, formats.noise.value),
        energy_joules=one.score.energy,
        peak_memory_bytes=peak_memory(one.timeline),
        expected_cosine=question.cosine_of(one),
    )


def step_of(question: Question, one: Evaluated) -> Step:
    """A plan as a scheduled step."""
    setting, candidate = question.setting, one.candidate
    asked = question.asked.of_step(
        batch=setting.source.batch, microbatches=candidate.microbatches, copies=max(1, candidate.copies)
    )
    work = Workload(question.model, setting.machine, asked)
    method = Method(f"{candidate.rule}:plan", candidate.rule, "plan", preset_of(candidate.rule))
    stages = setting.source.stages(candidate.cut, candidate.microbatches)
    step = Step(
        candidate.label,
        asked,
        about_of(work),
        Planned(one.problem, one.schedule, one.proof),
        Draft(work, method, stages, one.options),
    )
    step.__dict__["timeline"] = one.timeline  # carried out already
    return step


def step_row(step: Step, value: float, bound: float, gap: float) -> PlanRow:
    """What is known of every scheduled step.

    Args:
        value: What the target minimises.
        bound: What no placement and order can beat.
        gap: value / bound - 1.
    """
    timeline, found = step.timeline, step.gap
    units = {task.stage: unit for task, unit in reversed(list(step.schedule.unit_of.items())) if task.kind == "F"}
    names = [unit.name for unit in step.machine.units]
    return PlanRow(
        label=step.name,
        rule=step.name,
        stages=step.tasks.stages,
        microbatches=step.tasks.microbatches,
        tasks=len(step.problem.durations),
        placement=tuple(names[units[stage]] for stage in range(step.tasks.stages)),
        makespan=number(typed(timeline, timeline.makespan)),
        value=value,
        bound=bound,
        gap=gap,
        status="OPTIMAL" if value <= bound else "FEASIBLE",
        digest=step.schedule.digest,
        forwards_per_step=step.tasks.forwards_per_step,
        schedule_bound=None if found is None else bound_of(found, timeline.ticks_per_unit),
        step=step,
    )


def textbook_result(asked: PlanOptions, found: Sequence[tuple[Step, Ns]]) -> PlanResult:
    """Every rule's textbook problem as a document."""
    rows = []
    for step, ticks in found:
        bound, time = Fraction(ticks, step.problem.ticks_per_unit), Fraction(step.makespan)
        rows.append(step_row(step, float(time), float(bound), float(time / bound - 1) if bound else 0.0))
    best, step = rows[0], found[0][0]
    words = f"rules {', '.join(row.rule for row in rows)}; {best.stages} stages; {best.microbatches} micro-batches"
    lr = any(row.rule == "lr" for row in rows) and len(rows) > 1
    return PlanResult(
        model=None,
        durations=step.about["durations"],
        hardware=None,
        units=len(step.machine.units),
        batch=None,
        target=asked.target,
        cosine=None,
        cost_model=step.problem.cost_model,
        time_unit="user",
        space=SpaceResult(words, freedom_words(asked.searching), len(rows), len(rows)),
        value=best.value,
        bound=best.bound,
        gap=best.gap,
        status=best.status,
        chosen=best,
        schedule=step.schedule.as_dict(),
        stages=(),
        runner_up=rows[1] if len(rows) > 1 else None,
        ranked=tuple(rows),
        bottleneck=bottleneck(step.problem, step.schedule, step.timeline),
        one_more_unit=None,
        notes=("a step of LR with one copy is not a step of BP in progress: its gradient is a noisy estimate",) * lr,
    )


def freedom_words(search: SearchOptions, *, cosine: bool = False) -> str:
    """What the bound holds for, besides any order."""
    words = FREEDOM_NAMES[freedom_of(search)]
    if search.placement == "stages" and search.gradients == "free":
        words += ", LR gradients apart from them"
    return words + ("; every set of LR cuts, every number of copies" if cosine else "")


def notes(question: Question, outcome: Outcome) -> list[str]:
    """What the reader must know to take the numbers for what they are."""
    found, target, best = [], question.asked.target, outcome.best
    rules, copies = set(question.asked.wanted_rules), (question.asked.copies or (1,))[0]
    exact = next((one for one in outcome.ranked if not one.candidate.is_lr), None)
    lr = next((one for one in outcome.ranked if one.candidate.is_lr), None)
    if target == "time-to-cosine":
        found.append(f"quality model: {question.per_dim:.4g} per noise dimension; {question.noise_source}")
        if not best.candidate.is_lr:
            found.append(
                "an exact gradient (BP) reaches every cosine in one step, and no LR plan reaches this one sooner"
            )
    elif "lr" in rules:
        copies = copies if lr is None else lr.candidate.copies
        found.append(
            f"a step of LR with {copies} {'copy' if copies == 1 else 'copies'} is not a step of BP in progress: its "
            "gradient is an estimate with noise; `target=time-to-cosine` compares at equal quality"
        )
    if lr is not None and target != "time-to-cosine" and best.candidate.is_lr:
        if exact is not None:
            value = value_text(exact.score.of(outcome.target), target)
            found.append(f"the best plan with exact gradients: {exact.candidate.label}: {value}")
        elif {"bp", "bp-split"} & rules:
            found.append("no plan with exact gradients was evaluated: their bounds are no better")
    if outcome.unseen:
        found.append(f"{outcome.unseen} candidates might be better and were not tried: `search=effort=4`")
    if question.setting.cost_name == "roofline":
        if calibration_of(question.setting.machine) is not None:
            found.append(
                "the task times that the profile holds are of one cut and are not used: a plan tries many cuts, on the "
                "profile's roofline; compare the best with `cost=measured`"
            )
        else:
            found.append(
                "times are a roofline's: trust ratios more than absolute times, or calibrate: compare with `measure`"
            )
    return found + [f"not possible: {text}" for text in outcome.refused]
