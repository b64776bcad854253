"""Neighbours in runs, one run for each worker, such that the largest is as small as possible: exact programmes."""

from collections.abc import Sequence
from itertools import accumulate
from math import inf

import numpy as np


def even_runs(sizes: Sequence[Sequence[float]], extra: Sequence[float] | None = None, *, empty: bool) -> list[int]:
    """First index of each run, where run k is measured by ``sizes[k]``: of the best runs the most even.

    Most even is the least sum of squares; only runs below the smallest possible maximum are looked at.

    Args:
        sizes: Equally many numbers for each run.
        extra: What a run has besides, empty ones too.
        empty: Runs may be empty; of equally even runs those with the latest starts are taken, else the earliest.
    """
    more = [0] * len(sizes) if extra is None else extra
    prefix = [list(accumulate(row, initial=0)) for row in sizes]
    limit = _least_maximum(prefix, more)
    best: list[float] = [0, *[inf] * len(sizes[0])]
    choices: list[list[int]] = []
    for row, add in zip(prefix, more, strict=True):
        here, chosen = [inf] * len(best), [0] * len(best)
        for end in range(len(best)):
            for start in range(end if empty else end - 1, -1, -1):
                run = row[end] - row[start] + add
                if run > limit:
                    break
                cost = best[start] + run * run
                if cost < here[end] or (cost == here[end] < inf and not empty):
                    here[end], chosen[end] = cost, start
        best = here
        choices.append(chosen)
    return _starts(choices)


def _least_maximum(prefix: Sequence[Sequence[float]], extra: Sequence[float]) -> float:
    """The smallest possible largest run.

    ``best[k][j] = min over i of max(best[k-1][i], sum(sizes[k][i:j]))``: the first argument grows with i and the second
    shrinks, so that their crossing is found by bisection.
    """
    best: list[float] = [0, *[inf] * (len(prefix[0]) - 1)]
    for row, add in zip(prefix, extra, strict=True):
        here = []
        for end in range(len(row)):
            low, high = 0, end
            while low < high:  # the first start at which what is before weighs at least as much as the run
                middle = (low + high) // 2
                if best[middle] >= row[end] - row[middle] + add:
                    high = middle
                else:
                    low = middle + 1
            here.append(min(max(best[start], row[end] - row[start] + add) for start in {low, max(low - 1, 0)}))
        best = here
    return best[-1]


def small_runs(sizes: Sequence[Sequence[float]]) -> list[int]:
    """As :func:`even_runs` without empty ones, for many pieces: the largest run is as small as possible, no more."""
    count = len(sizes[0])
    best = np.full(count + 1, inf)
    best[0] = 0.0
    choices: list[list[int]] = []
    for own in sizes:
        sums = np.concatenate(([0.0], np.cumsum(own)))
        row, chosen = np.full(count + 1, inf), [0] * (count + 1)
        for end in range(1, count + 1):
            candidates = np.maximum(best[:end], sums[end] - sums[:end])
            chosen[end] = int(candidates.argmin())
            row[end] = candidates[chosen[end]]
        best = row
        choices.append(chosen)
    return _starts(choices)


def _starts(choices: Sequence[Sequence[int]]) -> list[int]:
    """Back from the last run: ``choices[k][end]`` is where run k starts if it ends there."""
    starts, end = list[int](), len(choices[0]) - 1
    for chosen in reversed(choices):
        end = chosen[end]
        starts.append(end)
    return starts[::-1]
