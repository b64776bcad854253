"""Time a function: median and spread of the CPU time of a few repeats."""

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of CPU time of one process: other programs on the machine disturb it less than wall time.

    Attributes:
        median: Of all repeats.
        low: Fastest.
        high: Slowest.
    """

    median: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        what: What was run.
        size: Tasks (or actions) that one run handles.
        note: What the number means, or the ratio that it is there for.
    """

    section: str
    what: str
    size: int
    sample: Sample
    note: str = ""

    @property
    def rate(self) -> float:
        """Tasks per second, by the median."""
        return self.size / self.sample.median if self.sample.median else float("inf")


def measure(function: Callable[[], Any], repeats: int, inner: int = 1) -> Sample:
    """Run a function a few times, once more before that to warm up.

    What is alive before a repeat is frozen: the collector then scans what the function makes, and not the other
    problems that the benchmark keeps.

    Args:
        inner: Calls per repeat; for functions that are too short for the clock.
    """
    function()
    times = []
    for _ in range(repeats):
        gc.collect()
        gc.freeze()
        start = time.process_time()
        for _ in range(inner):
            function()
        times.append((time.process_time() - start) / inner)
        gc.unfreeze()
    return Sample(median(times), min(times), max(times), repeats)


def say(text: str) -> None:
    """Progress, on the error stream: the output is the table."""
    print(text, file=sys.stderr, flush=True)


def growth(rows: list[Row]) -> str:
    """How the time per task changes from the smallest size to the largest; 1.0 is linear."""
    small, large = min(rows, key=lambda row: row.size), max(rows, key=lambda row: row.size)
    return f"{small.rate / large.rate:.2f}x the time per task of {small.size}"
