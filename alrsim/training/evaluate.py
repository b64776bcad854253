"""How good a model is: mean loss and accuracy of the clean model on data that it has not learned from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from alrsim.datasets import Samples, Splits, chunks
from alrsim.datasets.samples import UNLABELLED
from alrsim.execution.workers.thread_workers import one_thread

CHUNK = 500
"""Samples that are evaluated at a time."""


class Score(NamedTuple):
    """Attributes:
    loss: Mean cross entropy of the labelled positions (samples, or nodes of a graph).
    accuracy: Share of them whose largest logit is the label's.
    samples: How many there are.
    """

    loss: float
    accuracy: float
    samples: int


def evaluate(
    module: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], splits: Splits, part: Samples
) -> Score:
    """The score on one part of a data set: evaluation mode, no noise, one thread (the same bits everywhere)."""
    loss, right, count = 0.0, 0, 0
    with torch.no_grad(), one_thread(), _evaluating(module):
        for some in chunks(part, CHUNK, splits.prepare):
            logits = functional_call(module, {**parameters, **buffers}, some.inputs)
            known = some.labels != UNLABELLED
            loss += float(F.cross_entropy(logits, some.labels, ignore_index=UNLABELLED, reduction="sum"))
            right += int(((logits.argmax(1) == some.labels) & known).sum())
            count += int(known.sum())
    return Score(loss / max(count, 1), right / max(count, 1), count)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)
