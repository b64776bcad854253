"""``python -m benchmarks economics``: what a step costs against BP at equal gradient quality.

For each method: the variance of one copy's gradient and the ceiling of its codes, measured on the scheduled tasks;
from those the copies that reach a cosine (variance law); the time of a step over the number of copies, at a few
and fitted by a line; and that time over BP's, the faster of the executor's and plain autograd's. One core throughout.
Most of the copies are beyond those measured: their time is the line's.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from alrsim.datasets import default_dataset, load_splits, train_batch
from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.variance_law import Array, copies_for
from alrsim.execution.executor import Batch
from alrsim.execution.job import Settings
from alrsim.execution.kernels.noise_scales import relative_sigmas
from alrsim.models import build
from alrsim.quality.curves import codes_inputs
from alrsim.quality.reference import true_gradient, warm_start
from alrsim.quality.sampler import Sampler, flat, subject_of
from alrsim.rules.options import RuleOptions
from alrsim.writing import write_atomically
from benchmarks.measure import say
from benchmarks.stepbench import Bench, Model, Variant, draft_of, host, in_turn, job_of, open_bench, program_of

METHODS = ("lr", "alr", "lr-rademacher", "es")
COSINES = (0.5, 0.9)
TIMED = (20, 40, 60)
GROUP = 20
DIGITS16 = (("width", "8"), ("in_channels", "1"), ("image_size", "16"))
SETUPS: Mapping[str, Model] = {
    "mlp, pre-activation": Model("mlp"),
    "resnet5, pre-activation": Model("resnet5", DIGITS16),
    "resnet5, behind pooling and sum": Model("resnet5", DIGITS16, cut="block"),
}


@dataclass(frozen=True)
class Line:
    """``seconds = start + each * copies``, least squares.

    Attributes:
        error: Largest relative deviation of a measured point.
    """

    start: float
    each: float
    error: float

    def at(self, copies: float) -> float:
        """Seconds."""
        return self.start + self.each * copies


@dataclass(frozen=True)
class Signal:
    """What one copy of a method is worth on the whole gradient.

    Attributes:
        noise: ``r``: variance of one copy over the squared norm of what the method converges to; rho for LR.
        ceiling: Cosine of what it converges to.
        measured: Cosine at the number of copies that this was measured with, and ``expected`` by the law.
    """

    noise: float
    ceiling: float
    copies: int
    measured: float

    @property
    def expected(self) -> float:
        return self.ceiling / sqrt(1 + self.noise / self.copies)


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks economics", description=__doc__)
    parser.add_argument("setups", nargs="*", metavar="SETUP", help=f"some of {', '.join(map(repr, SETUPS))}")
    parser.add_argument("--copies", type=int, default=256, help="to measure the variance of one copy with")
    parser.add_argument("--train-steps", type=int, nargs="+", default=[0, 100], help="of BP before the measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.setups if name not in SETUPS]
    if unknown:
        parser.error(f"unknown setup {unknown[0]!r}, choose some of {', '.join(map(repr, SETUPS))}")
    document = {}
    for name in options.setups or SETUPS:
        lines, document[name] = _setup(name, SETUPS[name], options)
        print(*lines, sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())


def _setup(name: str, model: Model, asked: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    bench = open_bench(model)
    say(f"economics: {name}, times")
    lines_of, bp, busy = step_times(bench, model, asked.repeats)
    text = ["", f"## {name}: {model.about}", "", busy]
    text += [f"BP's step: {1e3 * bp:.2f} ms. A step of a method: start + copies x ms per copy.", ""]
    head = "".join(f" copies for {cosine:g} | step / BP |" for cosine in COSINES)
    text += [f"| method | BP steps before | r | ceiling | cos at {asked.copies} (law) | start + per copy, ms |{head}"]
    text += ["|---|--:|--:|--:|--:|--:|" + "--:|--:|" * len(COSINES)]
    document: dict[str, Any] = {"bp_seconds": bp, "methods": []}
    for steps in asked.train_steps:
        say(f"economics: {name}, noise after {steps} steps")
        for method, signal in signals(bench, model, steps, asked.copies).items():
            line = lines_of[method]
            text.append(f"| {' | '.join(row(method, steps, signal, line, bp))} |")
            document["methods"].append(
                {
                    "method": method,
                    "steps": steps,
                    "r": signal.noise,
                    "ceiling": signal.ceiling,
                    "cosine": signal.measured,
                    "start": line.start,
                    "each": line.each,
                    "line_error": line.error,
                }
            )
    return text, document


def row(method: str, steps: int, signal: Signal, line: Line, bp: float) -> list[str]:
    """Cells of one method."""
    cells = [method, str(steps), f"{signal.noise:,.0f}", f"{signal.ceiling:.2f}"]
    cells += [f"{signal.measured:.3f} ({signal.expected:.3f})"]
    cells += [f"{1e3 * line.start:.1f} + {1e3 * line.each:.2f} (+-{100 * line.error:.0f} %)"]
    for cosine in COSINES:
        copies = copies_for(signal.noise, cosine, signal.ceiling)
        cells += ["never", "-"] if copies is None else [f"{copies:,}", f"{line.at(copies) / bp:,.1f}x"]
    return cells


def line_through(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through (copies, seconds), relative errors weighed alike."""
    copies, seconds = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True))
    design = np.stack([1 / seconds, copies / seconds], axis=1)
    (start, each), *_ = np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)
    error = float(np.abs((start + each * copies) / seconds - 1).max())
    return Line(float(start), float(each), error)


def step_times(bench: Bench, model: Model, repeats: int) -> tuple[dict[str, Line], float, str]:
    """The line of every method and BP's seconds, all in turn; copies in groups of 20."""
    jobs = [
        job_of(bench, Variant(f"{method} {copies}", method, copies, GROUP)) for method in METHODS for copies in TIMED
    ]
    jobs.append(job_of(bench, Variant("bp", "bp")))
    turns = in_turn(jobs, repeats)
    found = {
        method: line_through([(c, median(turn.total for turn in turns[f"{method} {c}"])) for c in TIMED])
        for method in METHODS
    }
    executor = median(turn.total for turn in turns["bp"])
    return found, min(executor, plain_bp(bench, model, repeats)), host(turns)


def plain_bp(bench: Bench, model: Model, repeats: int) -> float:
    """Seconds of autograd through the uncut module, on one thread."""
    module, times = build(model.name, **dict(model.options)).module, []
    parameters = program_of(bench, draft_of(bench, Variant("bp", "bp"))).parameters
    with intra_op(1):
        for _ in range(5 * repeats):
            start = time.perf_counter()
            true_gradient(module, parameters, bench.batch)
            times.append(time.perf_counter() - start)
    return median(times)


def signals(bench: Bench, model: Model, steps: int, copies: int) -> dict[str, Signal]:
    """Every method on the same parameters and batch; sigma is 2 % of the values' standard deviation."""
    torch_model = build(model.name, **dict(model.options))
    splits = load_splits(default_dataset(torch_model), torch_model, seed=0)

    def batch(step: int) -> Batch:
        found = train_batch(splits, model.samples, step, 0)
        return Batch(found.inputs, found.labels)

    exact = draft_of(bench, Variant("bp", "bp"))
    program = warm_start(torch_model.module, program_of(bench, exact), lambda at: batch(at + 1), steps)
    subject = subject_of(program, exact.stages, batch(0))
    _, gradient = true_gradient(torch_model.module, program.parameters, subject.batch)
    truth = flat(subject, gradient)
    found = {}
    for method in METHODS:
        say(f"economics: noise of {method}")
        options = draft_of(bench, Variant(method, method, 1)).options
        numbers = relative_sigmas(program, program.parameters, subject.batch, 0.02, weight_noise=options.weight_noise)
        sampler = Sampler(subject, replace(options, group=None), Settings(sigma=numbers))
        found[method] = signal_of(sampler, options, truth, copies)
    return found


def signal_of(sampler: Sampler, options: RuleOptions, truth: Array, copies: int) -> Signal:
    """From the scatter of the runs in one draw."""
    (estimate,) = sampler.curve([copies], 0, fresh=False)
    variance = estimate.noise(sampler.subject.parts)
    assert variance is not None, "one run has no scatter"
    return conclude(estimate.gradient, float(variance[-1]), copies, truth, coded=codes_inputs(options))


def conclude(mean: Array, variance: float, copies: int, truth: Array, *, coded: bool) -> Signal:
    """What a mean of copies and the variance of one say.

    Without codes of inputs the method converges to the truth; with them to a vector whose squared norm is that of the
    mean less its own variance, and whose product with the truth is the mean's.
    """
    square, norm = float(mean @ mean), float(np.linalg.norm(truth))
    product = float(mean @ truth)
    measured = product / (sqrt(square) * norm)
    if not coded:
        return Signal(variance / norm**2, 1.0, copies, measured)
    # No less than the truth's own share of it: below that the mean has drowned.
    own = max(square - variance / copies, (product / norm) ** 2)
    return Signal(variance / own, min(1.0, product / (norm * sqrt(own))), copies, measured)
