"""Methods on one batch of a zoo model, ready to run on this host: what claims and benchmarks of steps measure."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from alrsim.execution.executor import Scheduled
from alrsim.hardware.profile import load_machine
from alrsim.steps import measuring
from alrsim.steps.draft import Draft, draft_step, workload
from alrsim.steps.measured import schedule_on
from alrsim.steps.measuring import Bench, calibrate_drafts, job_key, prepare_draft, running_of
from alrsim.steps.method import parse_method
from alrsim.steps.model import Model, load_model
from alrsim.steps.options import RunOptions, StepOptions

HOST = "cpu-2core"


@cache
def zoo_model(name: str, *option: tuple[str, str]) -> Model:
    """A zoo model with its size in words, exported once per size."""
    return load_model(name, option=dict(option))


def open_bench(
    model: Model,
    samples: int,
    microbatches: int = 1,
    *,
    units: int = 1,
    cut: str = "layer",
    seed: int = 0,
    turns: int = 1,
) -> Bench:
    """A batch of a model, in steps without updates.

    Args:
        samples: In the whole batch: digits where they fit the model, else random data.
        seed: Of data and noise.
        turns: Steps by which task times are calibrated.
    """
    asked = StepOptions.take({"batch": samples, "microbatches": microbatches, "cut": cut, "update": False})
    running = running_of(RunOptions.take({"seed": seed, "repeats": turns}))
    return measuring.open_bench(workload(model, load_machine(HOST, units), asked), running)


def draft(bench: Bench, method: str, **options: Any) -> Draft:
    """The tasks of a method's step.

    Args:
        method: ``rule[:scheduler]``.
        options: Of the step: ``copies``, ``reduce``, ...
    """
    asked = bench.work.asked.with_(**options).saying(options)
    return draft_step(replace(bench.work, asked=asked), parse_method(method))


def scheduled(bench: Bench, drafts: Sequence[Draft]) -> list[Scheduled]:
    """The steps on the bench's units, ordered by task times that are calibrated on this host."""
    calibrate_drafts(bench, drafts)
    steps = [schedule_on(one, bench.costs[job_key(one)]) for one in drafts]
    return [
        Scheduled(prepare_draft(bench, one), step.problem, step.schedule)
        for one, step in zip(drafts, steps, strict=True)
    ]
