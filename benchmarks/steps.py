"""``python -m benchmarks steps``: the whole step through the executor, against the papers' step in the same run.

Three tables: time of a step by kind of task; bytes kept from forward to gradient, measured and predicted; what noise
costs beside the convolution that it is added to. Steps run in turn, A B C A B C; ratios are taken within each turn.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from alrsim.execution.workers.thread_workers import core_count
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.writing import write_atomically
from benchmarks.measure import say
from benchmarks.noisecost import noise_table
from benchmarks.paperstyle import paper_kernels
from benchmarks.state import growth_table, state_table
from benchmarks.stepbench import Job, Model, Turn, Variant, host, in_turn, job_of, open_bench

YARDSTICK = "LR as in public code"
SAME = "the same"
KINDER = f"{SAME}, copies in groups of 10"
BITS = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1)
TARGETS = {"alr (int8 signs)": 1.5, "lr-rademacher, accumulate": 4.0}
"""Times the speed of the yardstick that the project wants."""

RESNET5 = Model("resnet5", (("width", "8"),))
RESNET9 = Model("resnet9", (("width", "32"),), samples=4)
PARTS = ("steps", "state", "growth", "noise")
Ratio = tuple[float, float, float]


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks steps", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=50, help="samples of ResNet-5; ResNet-9 has a twelfth")
    parser.add_argument("--models", nargs="+", choices=("resnet5", "resnet9"), default=["resnet5"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}, choose some of {', '.join(PARTS)}")
    parts = options.parts or PARTS
    document: dict[str, Any] = {}
    models = {
        "resnet5": Model(RESNET5.name, RESNET5.options, options.batch),
        "resnet9": Model(RESNET9.name, RESNET9.options, max(2, options.batch // 12)),
    }
    for name in options.models if "steps" in parts else ():
        print(*_steps(models[name], options.copies, options.repeats, document), sep="\n", flush=True)
    for part, table in (("state", state_table), ("growth", growth_table)):
        if part in parts:
            say(f"steps: {part}")
            lines, document[part] = table()
            print(*lines, sep="\n", flush=True)
    if "noise" in parts:
        say("steps: noise")
        lines, document["noise"] = noise_table(options.repeats)
        print(*lines, sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())


def _steps(model: Model, copies: int, repeats: int, document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for cores in sorted({1, min(2, core_count())}):
        turns = in_turn((one_core if cores == 1 else two_cores)(model, copies), repeats)
        document[f"{model.name}, {cores} cores"] = {
            label: [{"total": turn.total, **turn.kinds, "share": turn.share} for turn in found]
            for label, found in turns.items()
        }
        lines += ["", f"## {model.about}, {copies} copies, {cores} core{'s' * (cores > 1)}", "", host(turns)]
        lines += step_lines(turns)
    return lines


def one_core(model: Model, copies: int) -> list[Job]:
    """One worker, one thread, tasks in the reference order."""
    bench, jobs = open_bench(model), []
    group = _divisor(copies, 10)
    for one in (
        Variant(YARDSTICK, "lr", copies, kernels=paper_kernels(signs=False)),
        Variant(KINDER, "lr", copies, group, kernels=paper_kernels(signs=False)),
        Variant("ALR in the same way (randn, sign(), int8 product)", "alr", copies, kernels=paper_kernels(signs=True)),
        Variant("lr", "lr", copies),
        Variant("alr (int8 signs)", "alr", copies),
        Variant("alr (int8 signs), groups of 10", "alr", copies, group),
        Variant("alr, packed bits", "alr", copies, precision=BITS),
        Variant("alr, packed bits, groups of 10", "alr", copies, group, precision=BITS),
        Variant("lr-rademacher, accumulate", "lr-rademacher", copies),
        Variant("lr-rademacher, accumulate, groups of 10", "lr-rademacher", copies, group),
        Variant("bp", "bp"),
    ):
        say(f"steps: {model.name}, {one.label}")
        jobs.append(job_of(bench, one))
    return jobs


def two_cores(model: Model, copies: int) -> list[Job]:
    """Two units on two micro-batches; the papers' step also on two threads of torch."""
    whole, halves, jobs = open_bench(model), open_bench(model, 2), []
    say(f"steps: {model.name}, two cores")
    threaded = Variant(YARDSTICK, "lr", copies, kernels=paper_kernels(signs=False, threads=2))
    jobs.append(job_of(whole, threaded, pinned=False))
    group = _divisor(copies, 10)
    for one in (
        Variant(f"{SAME} on two units", "lr", copies, kernels=paper_kernels(signs=False)),
        Variant("alr (int8 signs)", "alr", copies),
        Variant("alr (int8 signs), groups of 10", "alr", copies, group),
        Variant("alr, packed bits, groups of 10", "alr", copies, group, precision=BITS),
        Variant("lr-rademacher, accumulate", "lr-rademacher", copies),
        Variant("lr-rademacher, accumulate, groups of 10", "lr-rademacher", copies, group),
        Variant("bp", "bp"),
    ):
        say(f"steps: {model.name}, {one.label}, two units")
        jobs.append(job_of(halves, one, 2))
    return jobs


def step_lines(turns: Mapping[str, Sequence[Turn]]) -> list[str]:
    """The table, and the targets with their verdicts."""
    first, *_ = turns
    lines = ["", "| step | F ms | L ms | C ms | G or B ms | total ms (range) | ratio (range) | G ratio | CPU ratio |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for label, found in turns.items():
        cells = [f"{1e3 * median(kind_seconds(turn, kinds) for turn in found):.1f}" for kinds in ("F", "L", "C", "GB")]
        totals = sorted(1e3 * turn.total for turn in found)
        whole = ratio_of(turns[first], found)
        gradient = ratio_of(turns[first], found, "GBC")
        cells += [f"{median(totals):.0f} ({totals[0]:.0f} to {totals[-1]:.0f})", ratio_text(whole)]
        cpu = median(a.cpu / b.cpu if b.cpu else float("nan") for a, b in zip(turns[first], found, strict=True))
        lines.append(f"| {label} | {' | '.join(cells)} | {gradient[0]:.1f}x | {cpu:.2f}x |")
    lines += [
        "",
        f"Ratio: time of '{first}' over the row's, within each turn; G ratio: of gradient tasks (G, B and C).",
    ]
    lines += ["A kind's time is the sum over its tasks and units. All LR rows make the same forwards: copies + 1."]
    papers = [label for label in turns if label == first or label.startswith(SAME)]
    fastest = min(papers, key=lambda label: median(turn.total for turn in turns[label]))
    for label, target in TARGETS.items():
        for name in turns:
            if name.startswith(label):
                value, kinder = ratio_of(turns[first], turns[name]), ratio_of(turns[fastest], turns[name])
                verdict = "reached" if value[0] >= target else "MISSED"
                line = f"Target {target:g}x for {name}: {ratio_text(value)}: {verdict}"
                lines.append(line if fastest == first else f"{line}; of '{fastest}': {ratio_text(kinder)}")
    return lines


def kind_seconds(turn: Turn, kinds: str) -> float:
    """Seconds of several kinds of task together."""
    return sum(turn.kinds.get(kind, 0.0) for kind in kinds)


def ratio_of(slow: Sequence[Turn], fast: Sequence[Turn], kinds: str = "") -> Ratio:
    """How many times as fast, within each turn: median, lowest, highest; of some kinds of task or of the whole."""
    pairs = [
        (kind_seconds(a, kinds), kind_seconds(b, kinds)) if kinds else (a.total, b.total)
        for a, b in zip(slow, fast, strict=True)
    ]
    found = sorted(a / b if b else float("inf") for a, b in pairs)
    return median(found), found[0], found[-1]


def ratio_text(value: Ratio) -> str:
    """``2.1x (1.9 to 2.4)``."""
    return f"{value[0]:.2f}x ({value[1]:.2f} to {value[2]:.2f})"


def _divisor(copies: int, wanted: int) -> int:
    return max(size for size in range(1, wanted + 1) if copies % size == 0)
