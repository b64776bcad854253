"""Batches in an order that depends on seed and step only, so that a resumed run sees what it would have seen."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch

from alrsim.allocation import require_memory
from alrsim.datasets.samples import Samples, Splits
from alrsim.errors import OptionError


def train_batch(splits: Splits, batch: int, step: int, seed: int = 0) -> Samples:
    """The training samples of step ``step`` (from 0), as the model takes them: exactly ``batch`` of them.

    Steps read one endless sequence, permutation after permutation of the training samples; permutation ``e`` (the
    epoch) is drawn from ``(seed, e)`` alone. So every sample is used once an epoch, no batch is short, and a batch may
    reach into the next epoch or, on tiny data, hold a sample twice. A pure function of its arguments.

    Raises:
        OptionError: a batch below 1, a step or a seed below 0.
        MemoryError: the batch is larger than the host's memory.
    """
    for value, least, what in ((batch, 1, "batch"), (step, 0, "step"), (seed, 0, "seed")):
        _at_least(value, least, what)
    count = len(splits.train)
    require_memory(batch * sum(value[:1].nbytes for value in splits.train.inputs))
    first, end = step * batch, (step + 1) * batch
    epochs = range(first // count, -(-end // count))
    parts = [_permutation(count, seed, one)[max(first - one * count, 0) : end - one * count] for one in epochs]
    rows = np.concatenate(parts)
    return splits.prepare(splits.train.at(torch.from_numpy(rows)))


def batches(splits: Splits, batch: int, *, start: int = 0, seed: int = 0) -> Iterator[Samples]:
    """:func:`train_batch` of step ``start``, ``start + 1``, ... without end."""
    step = start
    while True:
        yield train_batch(splits, batch, step, seed)
        step += 1


def epoch_of(splits: Splits, batch: int, step: int) -> float:
    """How many times the training samples have been gone through before ``step``."""
    return step * batch / len(splits.train)


def chunks(samples: Samples, size: int, prepare: Callable[[Samples], Samples]) -> Iterator[Samples]:
    """All samples once, in their order, ``size`` at a time and the rest last, as the model takes them.

    Args:
        samples: One part of a :class:`Splits`, as stored.
        size: Samples of a chunk.
        prepare: That of the same splits.

    Raises:
        OptionError: a size below 1.
    """
    _at_least(size, 1, "batch")
    for start in range(0, len(samples), size):
        yield prepare(samples.at(slice(start, start + size)))


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Drawn from both numbers at once: seed 0 in epoch 1 must not be seed 1 in epoch 0."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _at_least(value: int, least: int, what: str) -> None:
    if value < least:
        reason = "is empty" if what == "batch" else "is negative"
        raise OptionError(f"a {what} of {value} {reason}", where=what, fix=f"use at least {least}")
