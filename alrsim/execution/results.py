"""What a run computed, read off its store: whole, or of one unit and put together again."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.sigma_gradient import sigma_gradients
from alrsim.execution.kernels.store import KEPT
from alrsim.execution.prepared import Prepared, new_run
from alrsim.execution.session import Results
from alrsim.execution.workers.division import UnitView
from alrsim.execution.workers.packing import flatten

Values = dict[Key, Any]
"""By key: an array, or arrays by name."""

_MOVED: Key = ("parameter",)
"""Key of the parameters that updates moved."""


def results_of(run: Run) -> Results:
    """Of a run whose store has seen every task."""
    values = run.store.values
    gradients = {name: value for key, total in values.items() if key[0] == "grad" for name, value in total.items()}
    buffers = {**run.buffers, **{str(key[1]): value for key, value in values.items() if key[0] == "stat"}}
    loss = run.job.loss_stage
    losses = {
        f"{loss}L{key[1]}" + (f".{key[2]}" if int(key[2]) >= 0 else ""): value
        for key, value in values.items()
        if key[0] == "loss"
    }
    return Results(gradients, buffers, run.updated, losses, sigma_gradients(run))


def unit_values(run: Run, view: UnitView) -> Values:
    """What one unit computed, as arrays: kept buffers and sums by key, and the parameters that its updates moved."""
    kept: Values = {
        key: {name: _array(value) for name, value in held.items()} if isinstance(held, dict) else _array(held)
        for key, held in run.store.values.items()
        if key[0] in KEPT and (key in view.terms or key not in run.store.ledger.sums)
    }
    moved = [name for stage in run.job.program.at(1) if view.home[stage.index] for name in stage.parameters]
    return {**kept, _MOVED: {name: _array(run.updated[name]) for name in moved}}


def joined_results(prepared: Prepared, parts: Iterable[Values]) -> Results:
    """Of all units."""
    run = new_run(prepared, recording=False)
    for kept in parts:
        run.updated.update({name: torch.from_numpy(value) for name, value in kept.pop(_MOVED, {}).items()})
        for key, held in kept.items():
            run.store.values[key] = (
                {name: torch.from_numpy(value) for name, value in held.items()}
                if isinstance(held, dict)
                else torch.from_numpy(held)
            )
    return results_of(run)


def _array(value: torch.Tensor) -> "np.ndarray[Any, Any]":
    (tensor,) = flatten(value)
    return np.array(tensor.contiguous().cpu().numpy(), copy=True)
