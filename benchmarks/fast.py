"""``python -m benchmarks fast``: the fast engine against SimPy, torch and plain Python, and its growth with size.

Rows of columns lie one step's micro-batches apart. Where their number is a power of two, what a unit sends to hundreds
of others falls into one set of the cache: lr-fixed is then four times slower than beside it (try --microbatches 4000
4096).
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.column_lanes import column_lanes
from alrsim.schedule.lane_columns import columns_of
from alrsim.schedule.lowered_columns import lower_columns
from alrsim.simulation.at_scale import Make, schedule_at_scale
from alrsim.simulation.fast import run_columns
from alrsim.simulation.run import run
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.metrics import busy, idle_fraction
from alrsim.writing import write_atomically
from benchmarks import plain
from benchmarks.measure import Row, measure, say
from benchmarks.workloads import UNITS, case

TICKS = {"F": 2, "L": 0, "B": 4, "G": 2, "U": 0}
CASES: tuple[tuple[str, Semantics], ...] = (
    ("gpipe", "latency"),
    ("gpipe", "link"),
    ("1f1b", "latency"),
    ("1f1b", "link"),
    ("1f1b", "blocking"),
    ("lr-fixed", "link"),
)

FULL_UNITS, FULL_MICROBATCHES = 4096, 16384


def main(arguments: Sequence[str]) -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fast", description=__doc__)
    parser.add_argument("--units", type=int, default=256, help="of the series of growing size")
    parser.add_argument("--microbatches", type=int, nargs="+", default=[60, 250, 1000, 4000, 16000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time over tasks as PNG")
    parser.add_argument("--full", action="store_true", help=f"{FULL_UNITS} units x {FULL_MICROBATCHES} micro-batches")
    options = parser.parse_args(arguments)
    print("CPU time of one process on one core, median of repeats\n")
    for line in _ratios(options.repeats):
        print(line)
    series = {name: _series(*name, options) for name in CASES}
    for line in _growth(series):
        print(line)
    if options.plot is not None:
        write_atomically(options.plot, draw({f"{name}, {how}": rows for (name, how), rows in series.items()}))
    if options.full:
        for name in ("gpipe", "1f1b", "lr-fixed"):
            print(_full(name))


def maker(name: str, units: int) -> Make:
    """A chain of equal stages, one on each unit; the last unit tells its losses to all others where the rule is LR."""
    rule = "lr" if name == "lr-fixed" else "bp"
    graph = chain(units, elements=1)
    machine = abstract_machine(units, transfer_ns=1, name="chain")
    rows = {kind: (ticks,) * units for kind, ticks in TICKS.items()}

    def make(microbatches: int) -> Problem:
        tasks = RULES[rule](graph, RuleOptions(microbatches=microbatches, baseline="none"))
        return Problem(tasks, machine, tuple(rows[task.id.kind] for task in tasks.tasks), "benchmark")

    return make


@dataclass(frozen=True)
class Point:
    """One size of a series: tasks, and seconds of CPU time for running prebuilt columns."""

    tasks: int
    seconds: float


def _series(name: str, semantics: Semantics, options: argparse.Namespace) -> list[Point]:
    points = []
    for microbatches in options.microbatches:
        say(f"fast: {name}, {semantics}, {options.units} x {microbatches}")
        problem = RepeatedProblem(maker(name, options.units)(1), microbatches)
        columns = lower_columns(problem, column_lanes(problem, name), semantics)
        sample = measure(lambda c=columns, s=semantics: run_columns(c, s), options.repeats)
        points.append(Point(len(columns), sample.median))
    return points


def _growth(series: dict[tuple[str, Semantics], list[Point]]) -> list[str]:
    lines = [
        "",
        "| lanes | transfers | tasks | time | tasks/s | time per task, to the smallest |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for (name, how), points in series.items():
        first = points[0].seconds / points[0].tasks
        for point in points:
            each = point.seconds / point.tasks
            rate = f"{1 / each / 1e6:.1f} M"
            lines.append(
                f"| {name} | {how} | {point.tasks:,} | {point.seconds * 1e3:,.1f} ms | {rate} | {each / first:.2f}x |"
            )
    return lines


def _ratios(repeats: int) -> list[str]:
    """The same schedule, the same answer, by others."""
    one = case(100_000, 1)
    columns = columns_of(one.lowered, "link")
    latent = columns_of(one.lowered, "latency")
    shared = replace(columns, shared=np.ones_like(columns.shared))
    mine, slow = run_columns(columns, "link"), run(one.lowered)
    if mine.ends.tolist() != slow.ends or run_columns(shared, "link").ends.tolist() != slow.ends:
        raise SystemExit("the engines disagree; no ratio is printed")
    if int(run_columns(latent, "latency").ends.max()) != plain.longest_path(one.lowered):
        raise SystemExit("the plain evaluator disagrees; no ratio is printed")
    say("fast: ratios")
    rows = [
        _row("fast engine, links", one.size, lambda: run_columns(columns, "link"), repeats, 20),
        _row("fast engine, latency only", one.size, lambda: run_columns(latent, "latency"), repeats, 20),
        _row("fast engine, its event loop", one.size, lambda: run_columns(shared, "link"), repeats, 5),
        _row("SimPy engine, links", one.size, lambda: run(one.lowered), repeats),
        _row("plain SimPy model, links", one.size, lambda: plain.simpy_pipeline(one.lowered), repeats),
        _row("plain Python longest path, latency only", one.size, lambda: plain.longest_path(one.lowered), repeats),
        _torch(repeats),
    ]
    lines = [
        "| what | tasks | time | tasks/s | fast engine, links | fast engine, latency |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.what} | {row.size:,} | {row.sample.median * 1e3:,.2f} ms | {row.rate:,.0f} | "
        f"{rows[0].rate / row.rate:,.1f}x | {rows[1].rate / row.rate:,.1f}x |"
        for row in rows
    ]
    return lines


def _row(what: str, size: int, function: Callable[[], object], repeats: int, inner: int = 1) -> Row:
    return Row("fast", what, size, measure(function, repeats, inner))


def _torch(repeats: int) -> Row:
    """Torch's own simulation of 1F1B: sends and receives in steps, without durations; linear in actions."""
    from torch.distributed.pipelining.schedules import _Action, _add_send_recv, _simulate_comms_compute

    microbatches = 512
    lanes: dict[int, list[_Action]] = {}
    for stage in range(UNITS):
        ahead = min(UNITS - stage, microbatches)
        texts = [f"{stage}F{microbatch}" for microbatch in range(ahead)]
        for microbatch in range(microbatches):
            texts.append(f"{stage}B{microbatch}")
            if microbatch + ahead < microbatches:
                texts.append(f"{stage}F{microbatch + ahead}")
        lanes[stage] = [_Action.from_str(text) for text in texts]
    size = sum(map(len, lanes.values()))
    actions = _add_send_recv(lanes, lambda stage: stage, UNITS)

    def simulate() -> object:
        return _simulate_comms_compute({unit: list(lane) for unit, lane in actions.items()}, lambda s: s, UNITS)

    return _row("torch _simulate_comms_compute", size, simulate, repeats)


def _full(name: str) -> str:
    """The whole way at full size in this process: tasks, lanes, times, metrics, and then the peaks of memory."""
    say(f"fast: {name}, {FULL_UNITS} x {FULL_MICROBATCHES}")
    start, wall = time.process_time(), time.perf_counter()
    step = schedule_at_scale(maker(name, FULL_UNITS), FULL_MICROBATCHES, name)
    assert step is not None
    built = time.process_time()
    timeline = step.simulate()
    work, idle = sum(busy(timeline).values()), float(idle_fraction(timeline))
    end, passed, held = time.process_time(), time.perf_counter() - wall, _most_held()
    most = max(peak_memory(timeline).values())
    return (
        f"\n{name}: {FULL_UNITS} units x {FULL_MICROBATCHES} micro-batches, {step.tasks:,} tasks: build "
        f"{built - start:.1f} s, simulate and metrics {end - built:.1f} s of CPU time, {passed:.1f} s on the clock; "
        f"peak {held:.1f} GiB; makespan {timeline.makespan}, work {work}, idle {idle:.4f}; peaks of memory "
        f"{time.process_time() - end:.1f} s more, process {_most_held():.1f} GiB, most {most} bytes"
    )


def _most_held() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def draw(series: dict[str, list[Point]]) -> bytes:
    """Time over tasks, both logarithmic, with a line of slope 1."""
    figure = Figure(figsize=(8.0, 5.0))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for (name, points), marker in zip(series.items(), "osD^vP", strict=False):
        axis.plot([p.tasks for p in points], [p.seconds for p in points], marker=marker, markersize=4, label=name)
    sizes = sorted({p.tasks for points in series.values() for p in points})
    slowest = max(p.seconds / p.tasks for points in series.values() for p in points)
    linear = [size * slowest * 2 for size in sizes]
    axis.plot(sizes, linear, color="0.6", linestyle="--", label="linear growth")
    axis.plot(sizes, [size / 20e6 for size in sizes], color="0.8", linestyle=":", label="20 million tasks/s")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("tasks")
    axis.set_ylabel("CPU seconds, one core")
    axis.set_title("Fast engine on prebuilt columns")
    axis.legend(fontsize=8)
    axis.grid(True, which="major", color="0.92")
    figure.tight_layout()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
