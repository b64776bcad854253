"""A step: one training step of a model under a method on a machine, priced and scheduled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.costs import MeasuredCosts
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.progress import stretch
from alrsim.reports.step_result import StepResult, step_result
from alrsim.schedule.adapt import Fitted
from alrsim.schedule.proof import Gap, gap
from alrsim.schedule.recipe import Recipe
from alrsim.schedule.schedule import Schedule
from alrsim.steps.chain import (
    predict,
    refuse_unread,
    semantics_of,
)
from alrsim.steps.draft import (
    Draft,
    Workload,
    about_of,
    draft_step,
    price_draft,
    warn_batch_statistics,
)
from alrsim.steps.method import Method
from alrsim.steps.model import Model
from alrsim.steps.options import RunOptions, StepOptions
from alrsim.steps.planned import Planned, plan_at_scale, plan_problem
from alrsim.steps.pricing import Priced
from alrsim.steps.schedule_file import (
    ScheduleFile,
    batch_of,
    options_of_file,
    stages_of_file,
    with_idle_lanes,
)
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Summary, TaskGraph
from alrsim.timeline.timeline import MANY_SPANS, Timeline
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.simulation.at_scale import StepAtScale
    from alrsim.steps.measuring import Running


class HasCosts(Protocol):
    """A result that holds measured costs."""

    @property
    def costs(self) -> MeasuredCosts: ...


@dataclass(frozen=True)
class Step:
    """Tasks with their prices, and an order of them on the machine's units.

    Attributes:
        name: Of the method, or of the schedule's file.
        asked: How it is predicted.
        about: Model and hardware, or the durations.
        planned: Tasks and their order; of a step of millions of tasks one micro-batch, and how often it is repeated.
        draft: What it was made from; ``None`` for textbook problems, which have no model.
        semantics: Of the transfers of a calibrated executor; ``None``: not known.
        cost_error: What is known of the cost model's error, as words.
        notes: How it came to its costs, and what was changed to fit a schedule from elsewhere.
    """

    name: str
    asked: StepOptions
    about: Mapping[str, Any]
    planned: "Planned | StepAtScale"
    draft: Draft | None = None
    semantics: str | None = None
    cost_error: str = ""
    notes: tuple[str, ...] = ()
    fit_notes: tuple[str, ...] = field(default=())

    @property
    def problem(self) -> Problem:
        """The tasks with their prices.

        Raises:
            OptionError: more tasks than can be written out; says how many. So do ``schedule`` and ``tasks``.
        """
        return self.planned.problem if isinstance(self.planned, Planned) else self.planned.written_out[0]

    @property
    def schedule(self) -> Schedule:
        """The order of the tasks."""
        return self.planned.schedule if isinstance(self.planned, Planned) else self.planned.written_out[1]

    @property
    def tasks(self) -> TaskGraph:
        """All tasks of the step."""
        return self.problem.tasks

    @property
    def summary(self) -> Summary:
        """Rule, sizes and notes, whatever the number of tasks."""
        return self.planned.problem.tasks.summary if isinstance(self.planned, Planned) else self.planned.summary

    @property
    def lanes(self) -> dict[str, str]:
        """The schedule as text by unit; empty where it is too long to be written down."""
        return self.schedule.as_dict() if self.summary.tasks <= MANY_SPANS else {}

    @property
    def digest(self) -> str:
        """Of the order: equal digests are the same schedule."""
        return self.planned.schedule.digest if isinstance(self.planned, Planned) else self.planned.digest

    @property
    def stages(self) -> StageGraph:
        """The stages that the model was cut into.

        Raises:
            OptionError: a textbook problem has none.
        """
        if self.draft is None:
            raise OptionError("a step without a model has no stages", where=self.name)
        return self.draft.stages

    @property
    def machine(self) -> Machine:
        """What the step runs on."""
        one = self.planned.problem if isinstance(self.planned, Planned) else self.planned.repeated.one
        return one.machine

    @cached_property
    def timeline(self) -> Timeline:
        """The predicted timeline."""
        with stretch(1, "simulate") as advance:
            advance(self.name)
            if isinstance(self.planned, Planned):
                return predict(self.planned.problem, self.planned.schedule, self.asked, self.semantics)
            return self.planned.simulate(semantics_of(self.asked, self.semantics))

    @property
    def gap(self) -> Gap | None:
        """The predicted makespan beside its lower bounds; there are none where tasks are not written out."""
        if not isinstance(self.planned, Planned):
            return None
        return gap(self.planned.problem, self.timeline.makespan, self.planned.schedule, self.planned.proof)

    @property
    def makespan(self) -> Fraction | int:
        """Predicted time of the step: ns, or exactly in the unit of the durations."""
        return in_units(self.timeline)

    @property
    def recipe(self) -> Recipe:
        """What the schedule was made for, so that later readers build the same tasks without being told again.

        Raises:
            OptionError: a step without a model.
        """
        stages = self.stages
        assert self.draft is not None
        cut = tuple(stage.ops for stage in stages.stages)
        return Recipe(self.draft.work.model.name, stages.batch, self.draft.method.rule, self.draft.options, cut)

    def simulate(self, costs: "MeasuredCosts | HasCosts | None" = None, **options: Any) -> StepResult:
        """The step in simulated time.

        Args:
            costs: What tasks take on this host, as ``calibrate`` measured them; default: the machine's own figures.
            options: Of the prediction: ``transfer_semantics``, ``engine``, ``overlap``.

        Raises:
            OptionError: costs that do not hold this step's tasks.
        """
        step = self if not options else replace(self, asked=self.asked.with_(**options).saying(options))
        if costs is not None:
            if self.draft is None:
                raise OptionError("a step without a model cannot have been measured", field="costs")
            found = costs if isinstance(costs, MeasuredCosts) else costs.costs
            problem = calibrated_problem(self.tasks, self.machine, self.draft.options.precision, found)
            problem = replace(problem, loss_unit=self.problem.loss_unit)
            planned = Planned(problem, self.schedule)
            step = replace(step, planned=planned, semantics=found.semantics, cost_error="")
        return step_result(
            step.name,
            step.about,
            step,
            step.timeline,
            gap=step.gap,
            notes=step.fit_notes,
            cost_error=step.cost_error,
        )

    def execute(self, **options: Any) -> StepResult:
        """The step run for real on this host.

        Args:
            options: Those of :class:`alrsim.steps.options.RunOptions`: ``executor``, ``limit``, ``repeats``, ``seed``.

        Raises:
            OptionError: a step without torch code, or of another machine than this host.
            ExecutionError: a task failed; names the token.
        """
        from alrsim.steps.measuring import running_of

        return self.run(running_of(RunOptions.take(options)))

    def run(self, running: "Running") -> StepResult:
        """:meth:`execute`, with options that are checked already."""
        from alrsim.steps.measuring import open_bench, require_measurable, run_steps

        if self.draft is None:
            raise OptionError("only the step of a model can be run", where=self.name)
        require_measurable(self.draft.work.machine, self.draft.work.model)
        (timeline,) = run_steps(open_bench(self.draft.work, running), [self])
        return step_result(self.name, self.about, self, timeline, predicted=self.timeline, notes=self.fit_notes)

    def write(self, path: str | Path) -> None:
        """Write the schedule: ``.json`` is alrsim's own form, ``.csv`` PyTorch's.

        Raises:
            OptionError: another ending.
            FileError: the file cannot be written.
        """
        from alrsim.schedule.files import write_schedule

        target = Path(path)
        if target.suffix == ".csv":
            self.schedule.to_pytorch_csv(target)
        elif target.suffix == ".json":
            write_schedule(target, self.schedule, None if self.draft is None else self.recipe)
        else:
            raise OptionError(f"{target.name!r} ends neither in .json nor in .csv", field="output")


def in_units(timeline: Timeline) -> Fraction | int:
    """The makespan in ns, or exactly in the unit of the durations."""
    if timeline.time_unit == "ns":
        return timeline.makespan
    return Fraction(timeline.makespan, timeline.ticks_per_unit)


def schedule_draft(draft: Draft, priced: Priced) -> Step:
    """Place and order a draft's tasks on given prices."""
    work = draft.work
    return Step(
        draft.method.label,
        work.asked,
        about_of(work),
        plan_problem(priced.problem, draft.method.scheduler, work.asked),
        draft,
        semantics=priced.semantics,
        cost_error=priced.error,
        notes=priced.notes,
    )


def step_at_scale(draft: Draft, cost: str | None = None) -> Step | None:
    """A draft of millions of tasks as a step, from one micro-batch; ``None`` where its tasks can be written out."""

    def priced(microbatches: int) -> Priced:
        return price_draft(replace(draft, options=replace(draft.options, microbatches=microbatches)), cost)

    found = plan_at_scale(
        lambda count: priced(count).problem,
        draft.method.scheduler,
        draft.work.asked,
        draft.options,
        len(draft.stages.stages),
    )
    if found is None:
        return None
    one = priced(1)
    return Step(
        draft.method.label,
        draft.work.asked,
        about_of(draft.work),
        found,
        draft,
        semantics=one.semantics,
        cost_error=one.error,
        notes=one.notes,
    )


def make_steps(work: Workload, methods: Sequence[Method]) -> list[Step]:
    """Cut, price and schedule every method of a comparison, on one cost model.

    Raises:
        OptionError: options that contradict each other, or that no method reads.
        ScheduleError: a scheduler that cannot handle the stages.
    """
    refuse_unread(work.asked, methods)
    drafts: list[Draft] = []
    steps: list[Step] = []
    with stretch(len(methods), "predict") as advance:
        for method in methods:
            advance(method.label)
            drafts.append(draft_step(work, method))
            steps.append(step_at_scale(drafts[-1]) or schedule_draft(drafts[-1], price_draft(drafts[-1])))
            _ = steps[-1].timeline
    if len({one.timeline.cost_model for one in steps}) > 1:
        # Two cost models side by side would compare their errors.
        steps = [
            step_at_scale(draft, "roofline") or schedule_draft(draft, price_draft(draft, "roofline"))
            for draft in drafts
        ]
        warn(f"{work.machine.name} has not measured every method: all are predicted by its roofline")
    for note in dict.fromkeys(note for one in steps for note in one.notes):
        warn(note)
    warn_batch_statistics(work, methods)
    return steps


def step_of_file(file: ScheduleFile, model: Model, machine: Machine, asked: StepOptions) -> Step:
    """A schedule file on a model: the tasks that it was made for, with prices, and its lanes fitted to them.

    Raises:
        OptionError: options, or a cut, that contradict the file.
        ModelError: another model than the file was made for.
        ScheduleError: the schedule does not fit.
    """
    from alrsim.schedule.files import read_schedule
    from alrsim.steps.schedule_file import method_of_file

    batch = batch_of(file, asked.batch, torch_model=model.runs)
    asked = asked.with_(microbatches=file.outline.microbatches, batch=batch)
    work = Workload(model, machine, asked)
    options = options_of_file(file, asked, machine)
    draft = Draft(work, method_of_file(file), stages_of_file(file, work.sized.graph, asked, machine), options)
    priced = price_draft(draft)
    fitted = with_idle_lanes(read_schedule(file.path, priced.problem, repair=file.repair))
    for note in (*fitted.notes, *priced.notes):
        warn(note)
    return replace(
        fitted_step(file.path.name, fitted, asked, about_of(work)),
        draft=draft,
        semantics=priced.semantics,
        cost_error=priced.error,
    )


def fitted_step(name: str, fitted: Fitted, asked: StepOptions, about: Mapping[str, Any]) -> Step:
    """A step whose schedule came from elsewhere."""
    return Step(name, asked, about, Planned(fitted.problem, fitted.schedule), fit_notes=fitted.notes)
