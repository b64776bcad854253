"""What all ranks computed, on every rank: arrays under JSON names."""

import json
from io import BytesIO
from typing import Any

import numpy as np

from alrsim.execution.job import Run
from alrsim.execution.prepared import Prepared
from alrsim.execution.results import Values, joined_results, unit_values
from alrsim.execution.session import Results
from alrsim.execution.workers.division import UnitView
from alrsim.execution.workers.ranks import Ranks

_MOVED = ("parameter",)
"""Key of the parameters that updates moved."""


def gathered_results(ranks: Ranks, prepared: Prepared, run: Run | None, view: UnitView | None) -> Results:
    """Of all ranks.

    Args:
        run: This rank's; ``None`` if it had no lane.
    """
    own: tuple[Values, dict[str, Any]] = ({}, {}) if run is None or view is None else unit_values(run, view)
    return joined_results(prepared, [_unpack(data) for data in ranks.gather_bytes(_pack(own))])


def _pack(values: tuple[Values, dict[str, Any]]) -> bytes:
    kept, moved = values
    arrays = {}
    for key, held in [*kept.items(), *((_MOVED, {name: value}) for name, value in moved.items())]:
        for name, value in held.items() if isinstance(held, dict) else [(None, held)]:
            arrays[json.dumps([key, name])] = value
    file = BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpack(data: bytes) -> tuple[Values, dict[str, Any]]:
    kept: Values = {}
    moved: dict[str, Any] = {}
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        for words in arrays.files:
            key, name = json.loads(words)
            if tuple(key) == _MOVED:
                moved[name] = arrays[words]
            elif name is None:
                kept[tuple(key)] = arrays[words]
            else:
                kept.setdefault(tuple(key), {})[name] = arrays[words]
    return kept, moved
