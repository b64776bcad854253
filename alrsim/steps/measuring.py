"""Steps on this host: calibrate what their tasks cost here, schedule on that, run the very same schedules."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from alrsim.cost.costs import MeasuredCosts, costs_from_json, costs_to_json
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.options import choose
from alrsim.progress import stretch
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.steps.chain import takes_estimators
from alrsim.steps.draft import Draft, Workload
from alrsim.steps.method import Method
from alrsim.steps.model import CutKey, Model, cut_key
from alrsim.steps.options import ExecutorOptions
from alrsim.tasks.problem import Problem
from alrsim.timeline.timeline import Timeline
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.execution.executor import Batch, Prepared
    from alrsim.execution.job import Settings as RunSettings
    from alrsim.execution.session import Limits

JobKey = tuple[CutKey, str, RuleOptions]
"""What a step's tasks depend on: cut, rule and options."""


@dataclass(frozen=True)
class Running:
    """How schedules are run for real.

    Attributes:
        executor: One of :data:`alrsim.execution.executors.EXECUTORS`.
        limits: When a run is given up.
    """

    executor: str
    limits: "Limits"
    repeats: int
    seed: int


def running_of(asked: ExecutorOptions, repeats: int = 1) -> Running:
    """The options of measured runs, if this host can do what they say.

    Args:
        repeats: Where the options say none.

    Raises:
        OptionError: an unknown executor, one that this host cannot run (says why), a limit that is no time, or a
            foreign torchrun whose network nobody said to trust.
    """
    from alrsim.execution.executors import EXECUTORS, unavailable
    from alrsim.execution.session import Limits

    choose(asked.executor, EXECUTORS, field="executor", what="known executor")
    if reason := unavailable(asked.executor):
        others = [("executor", name) for name in EXECUTORS if not unavailable(name)]
        raise OptionError(f"{asked.executor} cannot run here: {reason}", field="executor", fixes=others)
    if asked.executor == "torchrun" and not asked.trust_network:
        _refuse_foreign_torchrun()
    limits = Limits() if asked.limit is None else replace(Limits(), task_seconds=asked.limit)
    return Running(asked.executor, limits, getattr(asked, "repeats", None) or repeats, asked.seed)


def _refuse_foreign_torchrun() -> None:
    from alrsim.execution.workers.ranks import rank_place

    if rank_place() is not None:
        raise OptionError(
            "torchrun started this program; its ports authenticate nobody: whoever reaches them can run code as you",
            field="executor",
            fix="start it without torchrun on one host, or on a network of yours alone add `trust_network`",
        )


def require_measurable(machine: Machine, model: Model) -> None:
    """Refuse what cannot be run on this host, before anything slow.

    Raises:
        OptionError: a profile of another machine, or a model without torch code.
    """
    if machine.profile is None or machine.profile.spec.kind != "host":
        device = machine.name if machine.profile is None else machine.profile.spec.device
        raise OptionError(
            f"measuring runs on this host, and {machine.name} describes {device}",
            field="hardware",
            fix="measure on cpu-2core, or predict only",
        )
    if not model.runs:
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            field="model",
            fix="give a zoo name, a factory or a torch module",
        )


@dataclass(frozen=True)
class Bench:
    """What is measured: a workload with one batch of data.

    Attributes:
        dataset: Name of the data set.
        prepared: Recorded jobs, by what their tasks depend on.
        costs: Calibrated costs, likewise.
    """

    work: Workload
    running: Running
    batch: "Batch"
    dataset: str
    prepared: dict[JobKey, "Prepared"] = field(default_factory=dict)
    costs: dict[JobKey, MeasuredCosts] = field(default_factory=dict)


def join_ranks(running: Running, units: int) -> None:
    """Where torchrun started this program, join the other ranks; nothing happens elsewhere.

    Raises:
        OptionError: there are more or fewer ranks than units.
        ExecutionError: a rank never came.
    """
    if running.executor != "torchrun":
        return
    from alrsim.execution.workers.ranks import join, rank_place

    place = rank_place()
    if place is None:
        return
    if place.world != units:
        raise OptionError(
            f"there are {units} units, but torchrun started {place.world} rank{'s' * (place.world > 1)}",
            field="executor",
            fix=f"`units={place.world}`, or start {units} ranks",
        )
    join(running.limits.join_seconds)


def open_bench(work: Workload, running: Running) -> Bench:
    """Draw one batch: scikit-learn's digits where they fit the model, random data elsewhere."""
    from alrsim.datasets import default_dataset, load_samples
    from alrsim.execution.executor import Batch

    join_ranks(running, len(work.machine.units))
    model = work.model.torch_model
    assert model is not None, "require_measurable lets only torch models through"
    name = default_dataset(model)
    samples = load_samples(name, model, work.samples, running.seed)
    return Bench(work, running, Batch(samples.inputs, samples.labels), name)


def job_key(draft: Draft) -> JobKey:
    """What the draft's tasks depend on."""
    return cut_key(draft.stages), draft.method.rule, draft.options


def prepare_draft(bench: Bench, draft: Draft) -> "Prepared":
    """The draft's tasks with their data, recorded once; methods with the same tasks share it."""
    from alrsim.execution.executor import prepare

    key = job_key(draft)
    if key not in bench.prepared:
        program = bench.work.model.program(bench.work.sized, draft.stages)
        settings = numbers_of(bench, draft.stages, draft.options, draft.method)
        bench.prepared[key] = prepare(program, draft.tasks, bench.batch, draft.options, settings)
    return bench.prepared[key]


def calibrate_drafts(bench: Bench, drafts: Sequence[Draft]) -> None:
    """Measure what every kind of task costs here, all task graphs in turn."""
    from alrsim.execution.measuring.calibrate import calibrate_all
    from alrsim.execution.workers.agreement import same_on_all_ranks

    running = bench.running
    jobs = {job_key(draft): prepare_draft(bench, draft) for draft in drafts}
    with stretch(2 * len(jobs) * (running.repeats + 1), "calibrate") as step:
        costs = calibrate_all(
            list(jobs.values()),
            executor=running.executor,
            limits=running.limits,
            units=len(bench.work.machine.units),
            repeats=running.repeats,
            progress=lambda count, _all: step(f"step {count}"),
        )
    costs = [costs_from_json(one) for one in same_on_all_ranks([costs_to_json(one) for one in costs])]
    if costs[0].host.busy:
        warn(costs[0].host.words)
    bench.costs.update(zip(jobs, costs, strict=True))


class Scheduled(Protocol):
    """A step that has an order, as far as running it goes."""

    @property
    def name(self) -> str: ...

    @property
    def draft(self) -> Draft | None: ...

    @property
    def problem(self) -> Problem: ...

    @property
    def schedule(self) -> Schedule: ...


def run_steps(bench: Bench, steps: Sequence[Scheduled]) -> list[Timeline]:
    """Run schedules in turn; of each the timeline of the repeat with the median makespan.

    Raises:
        RunError, InterruptedRun: with the timeline of what had run by then.
    """
    from alrsim.execution.executor import Scheduled as Job
    from alrsim.execution.executor import execute_all
    from alrsim.schedule.check import check

    running = bench.running
    jobs = []
    for one in steps:
        assert one.draft is not None, "only steps of a model are run"
        check(one.problem, one.schedule)
        jobs.append(Job(prepare_draft(bench, one.draft), one.problem, one.schedule))
    with stretch(len(jobs) * (running.repeats + 1), "run") as step:
        done = execute_all(
            jobs,
            executor=running.executor,
            limits=running.limits,
            repeats=running.repeats,
            progress=lambda count, _all: step(steps[count % len(jobs)].name),
        )
    lines = [one.timeline for one in done]
    return [replace(line, facts=replace(line.facts, dataset=bench.dataset)) for line in lines]


def numbers_of(bench: Bench, stages: StageGraph, options: RuleOptions, method: Method) -> "RunSettings":
    """Seed, and what estimators say of sigma and loss weights; a relative sigma is that of this batch."""
    from alrsim.execution.job import Settings as RunSettings
    from alrsim.execution.job import settings_of
    from alrsim.execution.kernels.noise_scales import relative_sigmas

    plan, seed = bench.work.asked.estimators, bench.running.seed
    if plan is None or not takes_estimators(method):
        return RunSettings(seed=seed)
    if not any(one.sigma_rule == "relative" for one in plan):
        return settings_of(plan, seed=seed)
    program, scales = bench.work.model.program(bench.work.sized, stages), [one.sigma for one in plan]
    found = relative_sigmas(program, program.parameters, bench.batch, scales, weight_noise=options.weight_noise)
    sigmas = [found[at] if one.sigma_rule == "relative" else one.sigma for at, one in enumerate(plan)]
    return settings_of(plan, seed=seed, sigmas=sigmas)
