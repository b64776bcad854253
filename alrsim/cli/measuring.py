"""Measured comparisons: calibrate on this host, schedule on the calibrated costs, run the very same schedules."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from alrsim.cli.fitting import ScheduleFile, fit_file
from alrsim.cli.model import LoadedModel
from alrsim.cli.output import progress, warn
from alrsim.cli.parse import MethodName
from alrsim.cli.pipeline import (
    Planned,
    build_schedule,
    build_tasks,
    cut_for,
    predict,
    rule_options,
    takes_plan,
    trainable,
)
from alrsim.cli.planning import Setup, plan_all, warn_batch_statistics
from alrsim.cli.running import Running
from alrsim.cli.simulating import Simulated
from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.costs import MeasuredCosts
from alrsim.cost.costs_json import costs_from_json, costs_to_json
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.hardware.profile import Profile
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline

if TYPE_CHECKING:
    from alrsim.execution.executor import Batch, Prepared
    from alrsim.execution.job import Settings as RunSettings
    from alrsim.execution.programs.program import Program

CutKey = tuple[tuple[str, ...], ...]
"""Operator names per stage."""
JobKey = tuple[CutKey, str, RuleOptions]
"""What a step's tasks depend on: cut, rule and options."""


@dataclass(frozen=True)
class Bench:
    """What is measured: the model's programs by cut, and one batch of data.

    Attributes:
        dataset: Name of the data set.
        running: What runs it.
        costs: Calibrated costs by what they depend on.
    """

    setup: Setup
    batch: "Batch"
    dataset: str
    seed: int
    running: Running = field(default_factory=Running)
    programs: dict[CutKey, "Program"] = field(default_factory=dict)
    prepared: dict[JobKey, "Prepared"] = field(default_factory=dict)
    costs: dict[JobKey, MeasuredCosts] = field(default_factory=dict)


def require_measurable(profile: Profile, source: str) -> None:
    """Refuse what cannot be run on this host, before anything slow.

    Raises:
        OptionError: a profile of another machine, or a model without torch code.
    """
    if profile.spec.kind != "host":
        raise OptionError(
            f"measuring runs on this host, and {profile.name} describes {profile.spec.device}",
            where="--hardware",
            fix="measure with --hardware cpu-2core, or predict only",
        )
    if source not in ("zoo", "factory"):
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            where="MODEL",
            fix="give a zoo name or a factory file.py:make",
        )


def open_bench(setup: Setup, seed: int, running: Running | None = None) -> Bench:
    """Draw one batch: scikit-learn's digits where they fit the model, random data elsewhere."""
    from alrsim.datasets import default_dataset, load_samples
    from alrsim.execution.executor import Batch

    model = setup.loaded.torch_model
    assert model is not None, "require_measurable lets only torch models through"
    name = default_dataset(model)
    samples = load_samples(name, model, setup.loaded.samples * setup.settings.microbatches, seed)
    return Bench(setup, Batch(samples.inputs, samples.labels), name, seed, running or Running())


def plan_and_measure(
    setup: Setup, methods: Sequence[MethodName], *, repeats: int, seed: int, running: Running | None = None
) -> tuple[list[Planned], list[Timeline | None]]:
    """Calibrate, schedule, simulate and run every method.

    Raises:
        ExecutionError: what the executor cannot run; names the operator or the token.
    """
    from alrsim.execution.executor import Scheduled, execute_all

    warn_batch_statistics(setup.loaded.graph, methods)
    bench = open_bench(setup, seed, running)
    drafts = [draft_method(bench, method) for method in methods]
    calibrate_drafts(bench, drafts, repeats)
    planned = [plan_draft(bench, draft) for draft in drafts]
    jobs = [
        Scheduled(bench.prepared[draft.key], plan.problem, plan.schedule)
        for draft, plan in zip(drafts, planned, strict=True)
    ]
    with progress(len(jobs) * (repeats + 1), "run") as step:
        done = execute_all(
            jobs,
            executor=bench.running.executor,
            limits=bench.running.limits,
            repeats=repeats,
            progress=lambda count, _all: step(methods[count % len(jobs)].label),
        )
    return planned, [with_dataset(bench, one.timeline) for one in done]


@dataclass(frozen=True)
class Draft:
    """A method with its tasks, before there are costs to schedule them by."""

    method: MethodName
    stages: StageGraph
    options: RuleOptions
    tasks: TaskGraph

    @property
    def key(self) -> JobKey:
        return cut_key(self.stages), self.method.rule, self.options


def draft_method(bench: Bench, method: MethodName) -> Draft:
    """Cut the model and build the tasks; methods with the same tasks share what is measured of them."""
    from alrsim.execution.executor import prepare

    setup = bench.setup
    stages = cut_for(setup.loaded.graph, method, setup.settings, setup.profile, setup.machine)
    options = rule_options(setup.settings, method, trainable(stages))
    draft = Draft(method, stages, options, build_tasks(stages, method, options))
    if draft.key not in bench.prepared:
        program = program_of(bench, stages)
        settings = numbers_of(bench, stages, options, method)
        bench.prepared[draft.key] = prepare(program, draft.tasks, bench.batch, options, settings)
    return draft


def calibrate_drafts(bench: Bench, drafts: Sequence[Draft], repeats: int) -> None:
    """Measure what every kind of task costs here, all task graphs in turn."""
    from alrsim.execution.measuring.calibrate import calibrate_all
    from alrsim.execution.workers.agreement import same_on_all_ranks

    keys = list(dict.fromkeys(draft.key for draft in drafts))
    units = len(bench.setup.machine.units)
    with progress(2 * len(keys) * (repeats + 1), "calibrate") as step:
        costs = calibrate_all(
            [bench.prepared[key] for key in keys],
            executor=bench.running.executor,
            limits=bench.running.limits,
            units=units,
            repeats=repeats,
            progress=lambda count, _all: step(f"step {count}"),
        )
    costs = [costs_from_json(one) for one in same_on_all_ranks([costs_to_json(one) for one in costs])]
    if costs[0].host.busy:
        warn(costs[0].host.words)
    bench.costs.update(zip(keys, costs, strict=True))


def plan_draft(bench: Bench, draft: Draft) -> Planned:
    """Schedule and simulate on costs that were measured on this host, task by task."""
    settings = bench.setup.settings
    costs = bench.costs[draft.key]
    problem = calibrated_problem(draft.tasks, bench.setup.machine, draft.options, costs)
    found = build_schedule(problem, draft.method, settings)
    if "semantics" not in settings.typed:
        settings = replace(settings, semantics=costs.semantics)
    timeline = predict(problem, found.schedule, settings)
    return Planned(draft.method, draft.stages, draft.options, problem, found.schedule, timeline, found.proof)


def with_dataset(bench: Bench, timeline: Timeline) -> Timeline:
    """The timeline, saying which data it ran on."""
    return replace(timeline, facts=replace(timeline.facts, dataset=bench.dataset))


def cut_key(stages: StageGraph) -> CutKey:
    """What tells one cut from another."""
    return tuple(stage.ops for stage in stages.stages)


def program_of(bench: Bench, stages: StageGraph) -> "Program":
    """The torch program, cut where the graph is cut; methods with the same cut share it."""
    from alrsim.execution.programs.program import build_program

    key = cut_key(stages)
    if key not in bench.programs:
        loaded: LoadedModel = bench.setup.loaded
        assert loaded.exported is not None
        bench.programs[key] = build_program(loaded.graph, loaded.exported.program, stages)
    return bench.programs[key]


def numbers_of(bench: Bench, stages: StageGraph, options: RuleOptions, method: MethodName | None) -> "RunSettings":
    """Seed, and what the plan file says of sigma and loss weights; a relative sigma is that of this batch.

    Args:
        method: ``None`` for a schedule file, which says nothing of them.
    """
    from alrsim.execution.job import Settings as RunSettings
    from alrsim.execution.job import settings_of
    from alrsim.execution.kernels.noise_scales import relative_sigmas

    plan = bench.setup.settings.estimators
    if plan is None or method is None or not takes_plan(method):
        return RunSettings(seed=bench.seed)
    if not any(one.sigma_rule == "relative" for one in plan):
        return settings_of(plan, seed=bench.seed)
    program, scales = program_of(bench, stages), [one.sigma for one in plan]
    found = relative_sigmas(program, program.parameters, bench.batch, scales, weight_noise=options.weight_noise)
    sigmas = [found[at] if one.sigma_rule == "relative" else one.sigma for at, one in enumerate(plan)]
    return settings_of(plan, seed=bench.seed, sigmas=sigmas)


def run_planned(bench: Bench, plan: Planned, repeats: int) -> Timeline:
    """Run a schedule; the timeline of the repeat with the median makespan."""
    numbers = numbers_of(bench, plan.stages, plan.options, plan.method)
    return run_schedule(bench, plan.stages, plan.problem, plan.schedule, plan.options, numbers, repeats)


def run_schedule(
    bench: Bench,
    stages: StageGraph,
    problem: Problem,
    schedule: Schedule,
    options: RuleOptions,
    numbers: "RunSettings",
    repeats: int,
) -> Timeline:
    """Run any schedule of a problem on these stages."""
    from alrsim.execution.executor import execute

    program = program_of(bench, stages)
    done = execute(
        program,
        problem,
        schedule,
        bench.batch,
        options,
        numbers,
        executor=bench.running.executor,
        limits=bench.running.limits,
        repeats=repeats,
    )
    return with_dataset(bench, done.timeline)


def execute_method(bench: Bench, method: MethodName, repeats: int) -> Simulated:
    """Plan a method on the profile's own cost model, and run it."""
    setup = bench.setup
    (plan,) = plan_all(setup, [method])
    with progress(1, "run") as step:
        step(method.label)
        timeline = run_planned(bench, plan, repeats)
    about = {"model": setup.loaded.name, "hardware": setup.profile.name}
    return Simulated(method.label, about, plan.problem, plan.schedule, timeline, predicted=plan.timeline)


def execute_file(bench: Bench, file: ScheduleFile, repeats: int) -> Simulated:
    """Run a schedule file.

    Raises:
        OptionError: it is for another number of micro-batches, or of stages.
        ScheduleError: it does not fit the model.
    """
    setup = bench.setup
    fit = fit_file(file, setup)
    program_of(bench, fit.stages)
    fitted, stages, options = fit.fitted, fit.stages, fit.options
    numbers = numbers_of(bench, stages, options, None)
    with progress(1, "run") as step:
        step(file.path.name)
        timeline = run_schedule(bench, stages, fitted.problem, fitted.schedule, options, numbers, repeats)
    about = {"model": setup.loaded.name, "hardware": setup.profile.name}
    predicted = predict(fitted.problem, fitted.schedule, setup.settings)
    return Simulated(
        file.path.name, about, fitted.problem, fitted.schedule, timeline, fitted.notes, predicted=predicted
    )
