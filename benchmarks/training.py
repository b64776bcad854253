"""``python -m benchmarks training``: does every method learn what it should? Test accuracy against targets, over seeds.

Rows go to a JSON-lines file as they are done, one per (setup, method, seed); a run that is started again goes on where
it stopped. The tables at the end are made from that file.
"""

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from alrsim.training.job import TrainJob
from benchmarks.measure import say

QUICK_STEPS = 40


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        label: What is printed; with the setup it names the row.
        target: Test accuracy that is wanted, in percent.
        of_bp: Share of BP's accuracy in the same setup that is wanted instead.
        below: The accuracy should be at least so many points below that of the case with this label.
        long: Only with ``--long``.
    """

    label: str
    job: TrainJob
    target: float | None = None
    of_bp: float | None = None
    below: tuple[str, float] | None = None
    long: bool = False


@dataclass(frozen=True)
class Setup:
    """Cases on one model and data set.

    Attributes:
        about: For the heading.
    """

    name: str
    about: str
    cases: tuple[Case, ...] = field(default=())


def _mlp() -> Setup:
    base = TrainJob("mlp", data="digits", batch=50, rate=1e-3, steps=600, eval_every=100)
    lr = replace(base, method="lr", copies=50, steps=1200)
    return Setup(
        "mlp",
        "MLP 64-128-128-10 on digits, batch 50, Adam 1e-3",
        (
            Case("BP", base),
            Case("LR, 50 copies", lr, target=97.0),
            Case("LR, 10 copies", replace(lr, copies=10)),
            Case("LR, 50 copies, no baseline", replace(lr, changes={"baseline": "none"})),
            Case("ALR, 50 copies", replace(lr, method="alr"), target=95.0),
            Case("lr-rademacher, 4 copies", replace(lr, method="lr-rademacher", copies=4, steps=1800), target=95.0),
            Case("lr-rademacher, 50 copies", replace(lr, method="lr-rademacher")),
            Case("lr-laplace, 50 copies", replace(lr, method="lr-laplace")),
            Case("lr-hadamard, 16 copies", replace(lr, method="lr-hadamard", copies=16)),
            Case("ES, 50 copies", replace(lr, method="es")),
            Case("AES, 50 copies", replace(lr, method="aes")),
            Case("hybrid, 50 copies", replace(lr, method="hybrid")),
            Case("a-hybrid, 50 copies", replace(lr, method="a-hybrid")),
            Case("FA (direct)", replace(base, method="fa", cut="block")),
            Case("FA (sequential)", replace(base, method="fa-sequential")),
            Case("HSIC", replace(base, method="hsic", cut="block")),
            Case("BP w A (sign)", replace(base, direction="sign")),
            Case("FA w A (sign)", replace(base, method="fa", cut="block", direction="sign")),
            Case("HSIC w A (sign)", replace(base, method="hsic", cut="block", direction="sign")),
        ),
    )


def _resnet5() -> Setup:
    options = {"width": "8", "in_channels": "1", "image_size": "16"}
    base = TrainJob("resnet5", data="digits", model_options=options, batch=50, rate=2e-3, steps=600, eval_every=100)
    noisy = replace(base, copies=20, steps=1200, changes={"scope": "layerwise"})
    many = replace(noisy, copies=60, rate=1e-3, steps=1000)
    joint = replace(noisy, changes={"scope": "joint"})
    return Setup(
        "resnet5",
        "ResNet-5 (8, 16, 32, 32, FC 128, no norm) on digits at 16x16, batch 50, Adam 2e-3 (60 copies: 1e-3), "
        "layer-wise noise where nothing is said",
        (
            Case("BP", base),
            Case("lr-rademacher, 20 copies", replace(noisy, method="lr-rademacher"), target=90.0),
            Case(
                "lr-rademacher, 20 copies, post",
                replace(noisy, method="lr-rademacher", cut="block", steps=1800),
                target=96.0,
            ),
            Case("ALR, 20 copies", replace(noisy, method="alr"), below=("lr-rademacher, 20 copies", 5.0)),
            Case("LR, 20 copies", replace(noisy, method="lr")),
            Case("hybrid, 20 copies", replace(noisy, method="hybrid")),
            Case("lr-rademacher, 20 copies, joint noise", replace(joint, method="lr-rademacher")),
            Case("lr-rademacher, 60 copies", replace(many, method="lr-rademacher"), long=True),
            Case("LR, 60 copies", replace(many, method="lr", group=20), long=True),
            Case("ALR, 60 copies", replace(many, method="alr", group=20), long=True),
        ),
    )


def _snn() -> Setup:
    options = {"image_size": "8", "hidden": "128"}
    base = TrainJob("snn", data="digits", model_options=options, batch=50, rate=2e-3, steps=600, eval_every=100)
    lr = replace(base, method="lr", copies=20, changes={"sigma": 0.5}, steps=1200)
    return Setup(
        "snn",
        "spiking network 64-128-128-10, 4 time steps, on digits; spikes have no derivative: BP trains the read-out",
        (Case("BP (read-out only)", base), Case("LR, 20 copies, sigma 0.5", lr, target=90.0)),
    )


def _sequences() -> Setup:
    options = {"sequence": "8", "vocabulary": "64", "embedding": "16", "hidden": "16"}
    base = TrainJob("lstm", data="synthetic-text", model_options=options, batch=50, rate=1e-2, steps=300, eval_every=50)
    lr = replace(base, method="lr", copies=20, changes={"scope": "layerwise", "sigma_rule": "relative", "sigma": 0.05})
    joint = replace(lr, changes={**lr.changes, "scope": "joint"})
    hadamard = replace(lr, method="lr-hadamard", copies=32, changes={"sigma_rule": "relative", "sigma": 0.05})
    return Setup(
        "lstm",
        "LSTM (16 units, 8 tokens) on synthetic texts; sigma 5 % of the values' spread",
        (
            Case("BP", base),
            Case("LR, 20 copies, layer-wise", lr, of_bp=0.9),
            Case("LR, 20 copies, joint", joint),
            Case("lr-hadamard, 32 copies", hadamard, of_bp=0.9),
        ),
    )


def _graphs(name: str) -> Setup:
    options = {"nodes": "64", "features": "32", "classes": "4"}
    base = TrainJob(name, data="synthetic-graph", model_options=options, batch=8, rate=1e-2, steps=200, eval_every=50)
    return Setup(
        name,
        f"{name.upper()} on synthetic graph signals",
        (Case("BP", base), Case("LR, 20 copies", replace(base, method="lr", copies=20, steps=400), of_bp=0.9)),
    )


SETUPS: dict[str, Setup] = {
    one.name: one for one in (_mlp(), _resnet5(), _snn(), _sequences(), _graphs("gcn"), _graphs("gat"))
}


def run_case(setup: str, label: str, job: TrainJob) -> dict[str, Any]:
    """Train once; one row of the file."""
    from alrsim.training.loop import initial_state, run_training
    from alrsim.training.setup import open_training

    training = open_training(job)
    state = run_training(training, initial_state(training))
    cost = training.method.cost(job.copies)
    return {
        "setup": setup,
        "label": label,
        "seed": job.seed,
        "digest": job.digest,
        "steps": job.steps,
        "accuracy": state.rows[-1].test_accuracy,
        "best": max(row.test_accuracy for row in state.rows),
        "test_samples": len(training.splits.test),
        "forwards_per_step": cost.forwards,
        "work_per_step": cost.work,
        "seconds": state.seconds,
    }


def main(arguments: Sequence[str]) -> None:
    """Run what is missing in the file, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks training", description=__doc__)
    parser.add_argument("--setups", nargs="+", choices=list(SETUPS), default=list(SETUPS), metavar="SETUP")
    parser.add_argument("--cases", metavar="TEXT", default="", help="only labels that contain this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--long", action="store_true", help="also the cases that take many minutes")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, one seed: does it run?")
    parser.add_argument("--rows", type=Path, metavar="FILE", default=Path("training_rows.jsonl"))
    options = parser.parse_args(arguments)
    setups = [SETUPS[name] for name in options.setups]
    wanted = list(_wanted(setups, 1 if options.quick else options.seeds, options))
    known = {key_of(row) for row in read_rows(options.rows)}
    todo = [(setup, label, job) for setup, label, job in wanted if (setup, label, job.digest, job.steps) not in known]
    say(f"training: {len(wanted)} runs, {len(wanted) - len(todo)} of them in {options.rows} already")
    _run_all(todo, options.rows, options.jobs)
    asked = {(setup, label, job.digest, job.steps) for setup, label, job in wanted}
    print(tables(setups, [row for row in read_rows(options.rows) if key_of(row) in asked]))


def _wanted(setups: Iterable[Setup], seeds: int, options: argparse.Namespace) -> Iterator[tuple[str, str, TrainJob]]:
    for setup in setups:
        for case in setup.cases:
            if options.cases not in case.label or (case.long and not options.long):
                continue
            for seed in range(seeds):
                job = replace(case.job, seed=seed, model_options={**case.job.model_options, "seed": str(seed)})
                if options.quick:
                    job = replace(job, steps=QUICK_STEPS, eval_every=QUICK_STEPS)
                yield setup.name, case.label, job


def _run_all(todo: Sequence[tuple[str, str, TrainJob]], path: Path, jobs: int) -> None:
    """Every row is written by this process, as soon as it is there."""
    if not todo:
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes: idle helper threads would wait on each other's cores
    with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run_case, *one): one for one in todo}
        try:
            for number, done in enumerate(as_completed(running), 1):
                setup, label, job = running[done]
                row = done.result()
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                say(f"{number}/{len(todo)} {setup}: {label}, seed {job.seed}: {100 * row['accuracy']:.1f} %")
        except BaseException:  # Ctrl-C, or a run that failed: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that are done; a last line that was cut off is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            say(f"{path}: a line is cut off and will be run again")
    return rows


def key_of(row: dict[str, Any]) -> tuple[str, str, str, int]:
    return row["setup"], row["label"], row["digest"], row["steps"]


def tables(setups: Iterable[Setup], rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: one table per setup."""
    lines = ["Test accuracy after the last step in percent, mean over seeds ± standard deviation (lowest to highest)."]
    lines += ["F: one forward of the batch. A copy is one noise draw; forwards include the clean one."]
    for setup in setups:
        head = f"## {setup.about}"
        lines += ["", head, "", "| method | steps | accuracy | best | forwards/step | F/step | ms/step | wanted |"]
        lines += ["|---|--:|--:|--:|--:|--:|--:|---|"]
        for case in setup.cases:
            found = _rows_of(rows, setup.name, case.label)
            if found:
                lines.append(f"| {' | '.join(_cells(setup, case, found, rows))} |")
    return "\n".join(lines)


def _rows_of(rows: Sequence[dict[str, Any]], setup: str, label: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["setup"], row["label"]) == (setup, label)]


def _cells(setup: Setup, case: Case, found: list[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[str]:
    values = [100 * row["accuracy"] for row in found]
    spread = f" ± {stdev(values):.1f} ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    first = found[0]
    return [
        case.label,
        str(first["steps"]),
        f"{mean(values):.1f}{spread}",
        f"{100 * mean(row['best'] for row in found):.1f}",
        f"{first['forwards_per_step']:g}",
        f"{first['work_per_step']:.1f}",
        f"{1e3 * mean(row['seconds'] / row['steps'] for row in found):.0f}",
        _verdict(setup, case, mean(values), rows),
    ]


def _verdict(setup: Setup, case: Case, value: float, rows: Sequence[dict[str, Any]]) -> str:
    if case.target is not None:
        return _said(f"at least {case.target:g}", value - case.target)
    if case.of_bp is not None:
        exact = _mean_of(rows, setup.name, "BP")
        return (
            "BP is missing"
            if exact is None
            else _said(f"at least {100 * case.of_bp:g} % of BP's {exact:.1f}", value - case.of_bp * exact)
        )
    if case.below is not None:
        other = _mean_of(rows, setup.name, case.below[0])
        return (
            ""
            if other is None
            else _said(f"{case.below[1]:g} points below {case.below[0]}", other - case.below[1] - value)
        )
    return ""


def _said(wanted: str, margin: float) -> str:
    return f"{wanted}: reached" if margin >= 0 else f"{wanted}: MISSED by {-margin:.1f}"


def _mean_of(rows: Sequence[dict[str, Any]], setup: str, label: str) -> float | None:
    values = [100 * row["accuracy"] for row in _rows_of(rows, setup, label)]
    return mean(values) if values else None
