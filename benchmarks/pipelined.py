"""``python -m benchmarks pipelined``: ALR steps on two processes, against sequential LR and against BP's pipelines.

Two tables, every step timed in turn with the others of its table (A B C A B C ...):

1. ALR on two units of one thread each, against LR as the papers run it (Gaussian noise, fp32, all copies stacked), on
   one thread and on two, at the same copies and baseline.
2. ALR on two units against BP's GPipe and 1F1B on the same two units, over the number of copies, without a baseline and
   with the clean forward's loss as baseline (that forward is run and counted). BP is cut where its two stages, timed
   layer by layer, are most equal.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from alrsim.execution.executor import Scheduled, new_run, task_body
from alrsim.execution.measuring.timelines import device_name
from alrsim.execution.prepared import Prepared
from alrsim.execution.session import Limits
from alrsim.execution.workers.processes import ProcessSession, processes
from alrsim.hardware.machine import abstract_machine
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers import schedule
from alrsim.tasks.problem import Problem, cost_key
from alrsim.writing import write_atomically
from benchmarks.measure import say
from benchmarks.paperstyle import paper_kernels
from benchmarks.stepbench import Model, Variant, draft_of, open_bench, prepared_of

RESNET5 = Model("resnet5", (("width", "8"),), samples=48)
RESNET9 = Model("resnet9", (("width", "16"),), samples=16)
PAPER = 2.04
"""Speed-up of pipelined ALR over sequential LR that the paper reports (its Table 5)."""


@dataclass(frozen=True)
class Step:
    """One way to make the step.

    Attributes:
        scheduler: ``serial`` runs on the first unit alone.
        threads: Of torch, for a step that is run in this process instead.
    """

    label: str
    prepared: Prepared
    scheduler: str
    threads: int = 0


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipelined", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["", "sequential", "bp"], default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--stacked", type=int, default=10, help="copies of the first table")
    parser.add_argument("--models", nargs="+", choices=("resnet5", "resnet9"), default=["resnet5", "resnet9"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    document: dict[str, Any] = {"device": device_name(), "torch": torch.__version__}
    for name in options.models:
        model = {"resnet5": RESNET5, "resnet9": RESNET9}[name]
        if "bp" not in options.parts:
            print(*_sequential(model, options.stacked, options.repeats, document), sep="\n", flush=True)
        if "sequential" not in options.parts:
            print(*_against_bp(model, options.copies, options.repeats, document), sep="\n", flush=True)
    print(f"{device_name()}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}")
    if options.json is not None:
        write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())


def _sequential(model: Model, copies: int, repeats: int, document: dict[str, Any]) -> list[str]:
    """ALR on two units against stacked LR on one and two threads."""
    say(f"pipelined: {model.name} against sequential LR")
    whole, parts = open_bench(model), {count: open_bench(model, count) for count in (4, 8)}
    public, two = (Variant("", "lr", copies, kernels=paper_kernels(signs=False, threads=n)) for n in (1, 2))
    plain = Variant("", "lr", copies)
    steps = [
        Step("LR fp32 Gaussian, stacked, as in public code, 1 thread", prepared_of(whole, public), "serial", 1),
        Step("the same, 2 threads", prepared_of(whole, two), "serial", 2),
        Step("LR fp32 Gaussian, stacked, our product, 1 thread", prepared_of(whole, plain), "serial", 1),
        Step("the same, 2 threads ", prepared_of(whole, plain), "serial", 2),
        Step("ALR stacked, one unit", prepared_of(whole, Variant("", "alr", copies)), "serial"),
    ]
    for count, bench in parts.items():
        prepared = prepared_of(bench, Variant("", "alr", copies))
        for name in ("lr-fixed", "lr-free"):
            steps += [Step(f"ALR {name}, {count} micro-batches, 2 units", prepared, name)]
    if copies > 10 and not copies % 10:
        groups = prepared_of(whole, Variant("", "alr", copies, 10))
        steps += [Step("ALR lr-free, whole batch in groups of 10 copies, 2 units", groups, "lr-free")]
    times = _in_turn(steps, repeats)
    lines = [
        "",
        f"## {model.about}, {copies} copies, baseline clean: against sequential LR (the paper: {PAPER}x)",
        "",
        "| step | ms | spread | against public code, 1 thread | against 2 threads |",
        "|---|--:|--:|--:|--:|",
        *(_line(step.label.strip(), times[step.label], times[steps[0].label], times[steps[1].label]) for step in steps),
    ]
    document[f"{model.name} sequential"] = times
    return lines


def _line(label: str, found: Sequence[float], one: Sequence[float], two: Sequence[float]) -> str:
    return f"| {label} | {_ms(found)} | {_spread(found)} | {_ratio(one, found):.2f}x | {_ratio(two, found):.2f}x |"


def _against_bp(model: Model, copies: Sequence[int], repeats: int, document: dict[str, Any]) -> list[str]:
    """ALR against GPipe and 1F1B over copies."""
    say(f"pipelined: {model.name} against BP")
    count = 8
    even = _even_cut(model, count)
    bp = prepared_of(open_bench(replace(model, cut=even), count), Variant("", "bp"))
    steps = [Step(name, bp, name) for name in ("gpipe", "1f1b")]
    bench = open_bench(model, count)
    for baseline in ("none", "clean"):
        for number in copies:
            prepared = prepared_of(bench, Variant("", "alr", number, changes={"baseline": baseline}))
            steps += [Step(f"{baseline} {number} {name}", prepared, name) for name in ("lr-fixed", "lr-free")]
    times = _in_turn(steps, repeats)
    best = min(("gpipe", "1f1b"), key=lambda name: median(times[name]))
    lines = [
        "",
        f"## {model.about}, {count} micro-batches, 2 units: ALR against BP cut at {even}",
        "",
        f"gpipe {_ms(times['gpipe'])} ms ({_spread(times['gpipe'])}), 1f1b {_ms(times['1f1b'])} ms "
        f"({_spread(times['1f1b'])})",
        "",
        "| baseline | copies | lr-fixed ms | lr-free ms | best ALR / gpipe | best ALR / 1f1b |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for baseline in ("none", "clean"):
        ratios: dict[int, float] = {}
        for number in copies:
            pair = [times[f"{baseline} {number} {name}"] for name in ("lr-fixed", "lr-free")]
            least = min(pair, key=median)
            ratios[number] = 1 / _ratio(times[best], least)
            lines.append(
                f"| {baseline} | {number} | {_ms(pair[0])} | {_ms(pair[1])} | "
                f"{1 / _ratio(times['gpipe'], least):.2f} | {1 / _ratio(times['1f1b'], least):.2f} |"
            )
        lines.append(f"| {baseline} | crossing | {_crossing(ratios)} ({best}) | | | |")
    document[f"{model.name} bp"] = {"cut": even, **times}
    return lines


def _crossing(ratios: Mapping[int, float]) -> str:
    """Copies at which the ratio is 1, on a line through the two neighbouring measurements."""
    numbers = sorted(ratios)
    if ratios[numbers[0]] >= 1:
        return "below one copy: BP is faster at every number of copies"
    for low, high in pairwise(numbers):
        if ratios[low] < 1 <= ratios[high]:
            share = (1 - ratios[low]) / (ratios[high] - ratios[low])
            return f"at {low + share * (high - low):.1f} copies"
    return f"above {numbers[-1]} copies: ALR is faster at every number of copies measured"


def _even_cut(model: Model, count: int) -> str:
    """The cut into two whose slower stage is fastest, by measured times of the layers."""
    bench = open_bench(model, count)
    plain = Variant("", "bp")
    stages, prepared = draft_of(bench, plain).stages.stages, prepared_of(bench, plain)
    with processes([_scheduled(prepared, "serial", None)], Limits()) as session:
        ticks = _durations(session, 0, prepared)
    total = [0] * len(stages)
    for task, ns in zip(prepared.job.graph.tasks, ticks, strict=True):
        if task.id.stage < len(total):
            total[task.id.stage] += ns
    best = min(range(1, len(total)), key=lambda at: max(sum(total[:at]), sum(total[at:])))
    return f"names:{stages[best].ops[0]}"


def _in_turn(steps: Sequence[Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of every step; one more turn before to warm up."""
    far = [step for step in steps if not step.threads]  # a fork must not use the threads of its parent's torch
    unique = {id(step.prepared): step.prepared for step in far}
    with processes([_scheduled(one, "serial", None) for one in unique.values()], Limits()) as session:
        ticks = {key: _durations(session, index, one) for index, (key, one) in enumerate(unique.items())}
    jobs = [_scheduled(step.prepared, step.scheduler, ticks[id(step.prepared)]) for step in far]
    found: dict[str, list[float]] = {step.label: [] for step in steps}
    with processes(jobs, Limits()) as session:
        for turn in range(repeats + 1):
            for step in steps:
                if step.threads:
                    seconds = _here(step.prepared, step.threads)
                else:
                    seconds = max(session.run(far.index(step)).times.end) / 1e9
                if turn:
                    found[step.label].append(seconds)
    return found


def _durations(session: ProcessSession, job: int, prepared: Prepared, repeats: int = 3) -> list[int]:
    """Of every task alone, the median by what it depends on."""
    by_key: dict[Any, list[int]] = {}
    for turn in range(repeats + 1):
        (times,) = session.sample(job, 1)
        for index, task in enumerate(prepared.job.graph.tasks):
            if turn:
                by_key.setdefault(cost_key(task), []).append(max(1, times.end[index] - times.start[index]))
    return [round(median(by_key[cost_key(task)])) for task in prepared.job.graph.tasks]


def _scheduled(prepared: Prepared, scheduler: str, ticks: Sequence[int] | None) -> Scheduled:
    graph = prepared.job.graph
    rows = tuple((1, 1) if ticks is None else (ticks[index],) * 2 for index in range(len(graph.tasks)))
    problem = Problem(graph, abstract_machine(2), rows, "measured")
    if scheduler == "serial":
        lanes = (Lane("u0", tuple(task.id for task in graph.tasks)), Lane("u1", ()))
        return Scheduled(prepared, problem, Schedule(lanes, "serial"))
    return Scheduled(prepared, problem, schedule(problem, scheduler))


def _here(prepared: Prepared, threads: int) -> float:
    """Seconds of the step in this process, with torch's own threads."""
    gc.collect()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        body = task_body(prepared, new_run(prepared, recording=False))
        began = time.perf_counter()
        for index in range(len(prepared.job.graph.tasks)):
            body(index)
        return time.perf_counter() - began
    finally:
        torch.set_num_threads(before)


def _ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """Median over turns of how many times faster ``other`` is."""
    return median(a / b for a, b in zip(base, other, strict=True))


def _ms(found: Sequence[float]) -> str:
    return f"{median(found) * 1e3:.1f}"


def _spread(found: Sequence[float]) -> str:
    return f"{min(found) * 1e3:.0f}-{max(found) * 1e3:.0f}"
