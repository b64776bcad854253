"""Independent draws of an estimated gradient, by the same tasks and kernels that schedules run."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple

import numpy as np
from torch import Tensor

from alrsim.errors import ExecutionError, OptionError
from alrsim.estimators.noise import mix
from alrsim.estimators.variance_law import Array
from alrsim.execution.executor import Batch, Prepared, execute_prepared, prepare
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import Program
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import abstract_machine
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.steps.chain import build_tasks
from alrsim.tasks.problem import Problem

CHUNK_ELEMENTS = 4_000_000
"""Elements of all values between stages that one run may hold: 16 MB in fp32 stay near the cache."""

MOST_COPIES = 32
"""Copies in one run: many runs tell the variance of a copy better than few."""

TOGETHER = ("hadamard", "sobol")
"""Noise whose copies complement each other."""

MOST_ELEMENTS = 500_000_000
"""The same for a baseline that needs all copies in one run."""


@dataclass(frozen=True)
class Subject:
    """What is sampled.

    Attributes:
        stages: The cut that ``program`` was built from.
        names: Parameters in the order of the flat gradient, by stage.
        spans: First and one-past-last element of every stage with parameters in the flat gradient, by stage index.
    """

    program: Program
    stages: StageGraph
    batch: Batch
    names: tuple[str, ...]
    spans: dict[int, tuple[int, int]]

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Spans of the layers, then of the whole gradient."""
        spans = list(self.spans.values())
        return [*spans, (0, spans[-1][1])]

    @property
    def elements(self) -> int:
        """Elements of all values between stages, for one copy of the batch."""
        return sum(prod(shape) for shape in self.program.shapes.values())


def subject_of(program: Program, stages: StageGraph, batch: Batch, only: Collection[int] | None = None) -> Subject:
    """Lay the parameters out as one vector, stage by stage.

    Args:
        only: Indices of the stages that count; ``None``: all.

    Raises:
        ExecutionError: a model without parameters.
    """
    names: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    end = 0
    for code in program.at(1):
        if code.parameters and (only is None or code.index in only):
            start, end = end, end + sum(program.parameters[name].numel() for name in code.parameters)
            spans[code.index] = (start, end)
            names += code.parameters
    if not names:
        raise ExecutionError("has no parameters, so it has no gradient", where=program.name)
    return Subject(program, stages, batch, tuple(names), spans)


def with_signal(subject: Subject, gradient: Mapping[str, Tensor]) -> tuple[Subject, tuple[int, ...]]:
    """The subject without the stages whose true gradient is exactly zero, and these stages.

    Where every stage's is zero, nothing is taken away.
    """
    names = {code.index: code.parameters for code in subject.program.at(1) if code.index in subject.spans}
    kept = [stage for stage, found in names.items() if any(bool(gradient[name].any()) for name in found)]
    if not kept:
        return subject, ()
    found = subject_of(subject.program, subject.stages, subject.batch, kept)
    return found, tuple(stage for stage in names if stage not in kept)


def flat(subject: Subject, gradient: Mapping[str, Tensor]) -> Array:
    """A gradient by parameter as one vector, in the subject's order."""
    return np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)


class Estimate(NamedTuple):
    """A gradient from ``copies`` noise draws.

    Attributes:
        gradient: ``(parameters,)``.
        energy: Per part of the gradient: sum over its runs of copies in the run times squared norm of its estimate.
        runs: How many runs it is the mean of.
    """

    copies: int
    gradient: Array
    energy: Array
    runs: int

    def noise(self, parts: Sequence[tuple[int, int]]) -> Array | None:
        """Unbiased estimate of the variance of ONE copy's gradient, summed over the parameters of each part.

        Runs of s copies have variance v/s, so that ``sum s |g_run - g|^2 = energy - n |g|^2`` has mean (runs - 1) v.
        """
        if self.runs < 2:
            return None
        squares = np.array([float(self.gradient[start:end] @ self.gradient[start:end]) for start, end in parts])
        return np.asarray((self.energy - self.copies * squares) / (self.runs - 1))


def shares_noise(options: RuleOptions) -> bool:
    """Whether the copies of a smaller estimate are among those of a larger one."""
    return options.baseline != "copy-mean" and options.noise not in TOGETHER


@dataclass
class Sampler:
    """Draws of one method's gradient.

    Copies are drawn in runs of a power of two: an estimate from n copies is the mean of the runs' estimates weighted by
    their copies. That is exact, because every copy's term depends on its own noise and the noise-free loss alone;
    baseline ``copy-mean`` and noise whose copies belong together (Hadamard, Sobol) are the exceptions: all copies are
    in one run. Methods with the same seed and noise see the same noise.
    """

    subject: Subject
    options: RuleOptions
    settings: Settings
    prepared: dict[int, tuple[Prepared, Problem, Schedule]] = field(default_factory=dict)

    @property
    def fit(self) -> int:
        """Copies that one run should hold."""
        return max(1, min(MOST_COPIES, CHUNK_ELEMENTS // self.subject.elements))

    def curve(self, copies: Sequence[int], draw: int, *, fresh: bool) -> Iterator[Estimate]:
        """Estimates with every number of copies of one draw, ascending.

        Args:
            fresh: Every number of copies has noise of its own; else the copies of a smaller number are among those of
                a larger one, which changes no expectation and no interval at one number, and costs far less.
        """
        parts, fresh = self.subject.parts, fresh or not shares_noise(self.options)
        total, energy, done, runs = np.zeros(parts[-1][1]), np.zeros(len(parts)), 0, 0
        for count in copies:
            if fresh:
                total, energy, done, runs = np.zeros_like(total), np.zeros(len(parts)), 0, 0
            for size in self.sizes(count - done):
                found = self.gradient(size, mix((self.settings.seed, draw, count if fresh else 0, runs)) >> 1)
                total = total + size * found
                energy = energy + [size * float(found[start:end] @ found[start:end]) for start, end in parts]
                runs += 1
            done = count
            yield Estimate(count, total / count, energy, runs)

    def sizes(self, copies: int) -> list[int]:
        """Copies of each run that together make ``copies``: powers of two, so that few sizes are compiled.

        Raises:
            OptionError: a baseline over all copies, and more copies than one run can hold.
        """
        if not shares_noise(self.options):  # all in one run
            if self.options.noise not in TOGETHER and copies * self.subject.elements > MOST_ELEMENTS:
                raise OptionError(
                    f"copy-mean needs all {copies} copies in one run, and {MOST_ELEMENTS // self.subject.elements} fit",
                    field="baseline",
                    fix="use clean, fewer copies, or a smaller batch",
                )
            return [copies]
        most = 1 << self.fit.bit_length() - 1
        full, rest = divmod(copies, most)
        return [most] * full + [1 << bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]

    def gradient(self, copies: int, seed: int) -> Array:
        """One run: the flat gradient estimate from ``copies`` noise draws (0: those of the options)."""
        if copies not in self.prepared:
            self.prepared[copies] = self._prepare(copies)
        prepared, problem, schedule = self.prepared[copies]
        job = replace(prepared.job, settings=replace(self.settings, seed=seed))
        done = execute_prepared(
            replace(prepared, job=job), problem, schedule, repeats=1, warmup=0, dispatch_overhead_ns=0
        )
        return flat(self.subject, done.gradients)

    def _prepare(self, copies: int) -> tuple[Prepared, Problem, Schedule]:
        group = None
        if copies and self.options.noise in TOGETHER and self.options.baseline != "copy-mean":
            group = max(size for size in range(1, self.fit + 1) if copies % size == 0)
        options = replace(self.options, copies=copies, group=group) if copies else self.options
        tasks = build_tasks(self.subject.stages, "lr", options)
        prepared = prepare(self.subject.program, tasks, self.subject.batch, options, self.settings)
        problem = Problem(tasks, abstract_machine(1), tuple((1,) for _ in tasks.tasks), "reference")
        lane = Lane("u0", tuple(task.id for task in tasks.tasks))
        return prepared, problem, Schedule((lane,), "sequential")
