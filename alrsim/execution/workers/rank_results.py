"""What all ranks computed, on every rank: arrays under JSON names."""

import json
from io import BytesIO

import numpy as np

from alrsim.execution.job import Run
from alrsim.execution.prepared import Prepared
from alrsim.execution.results import Values, joined_results, unit_values
from alrsim.execution.session import Results
from alrsim.execution.workers.division import UnitView
from alrsim.execution.workers.ranks import Ranks


def gathered_results(ranks: Ranks, prepared: Prepared, run: Run | None, view: UnitView | None) -> Results:
    """Of all ranks.

    Args:
        run: This rank's; ``None`` if it had no lane.
    """
    own: Values = {} if run is None or view is None else unit_values(run, view)
    return joined_results(prepared, [_unpack(data) for data in ranks.gather_bytes(_pack(own))])


def _pack(values: Values) -> bytes:
    arrays = {}
    for key, held in values.items():
        for name, value in held.items() if isinstance(held, dict) else [(None, held)]:
            arrays[json.dumps([key, name])] = value
    file = BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpack(data: bytes) -> Values:
    kept: Values = {}
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        for words in arrays.files:
            key, name = json.loads(words)
            if name is None:
                kept[tuple(key)] = arrays[words]
            else:
                kept.setdefault(tuple(key), {})[name] = arrays[words]
    return kept
