"""What all ranks computed, on every rank: a JSON header and the bytes of the arrays."""

import json
from typing import Any

import numpy as np

from alrsim.execution.job import Run
from alrsim.execution.prepared import Prepared
from alrsim.execution.results import Values, joined_results, part_values
from alrsim.execution.session import Results
from alrsim.execution.workers.ranks import Ranks
from alrsim.execution.workers.unit_part import Part

Array = np.ndarray[Any, Any]


def gathered_results(ranks: Ranks, prepared: Prepared, run: Run | None, part: Part | None) -> Results:
    """Of all ranks.

    Args:
        run: This rank's; ``None`` if it had no lane.
    """
    own: tuple[Values, dict[str, Any]] = ({}, {}) if run is None or part is None else part_values(run, part)
    return joined_results(prepared, [_unpack(data) for data in ranks.gather_bytes(_pack(own))])


def _pack(values: tuple[Values, dict[str, Any]]) -> bytes:
    kept, moved = values
    head, arrays = [], list[Array]()
    for key, held in [*kept.items(), *((("", name), value) for name, value in moved.items())]:
        named = held if isinstance(held, dict) else {None: held}
        head.append([list(key), [[name, value.dtype.str, list(value.shape)] for name, value in named.items()]])
        arrays += named.values()
    words = json.dumps(head).encode()
    return b"".join([len(words).to_bytes(8, "little"), words, *(array.tobytes() for array in arrays)])


def _unpack(data: bytes) -> tuple[Values, dict[str, Any]]:
    size = int.from_bytes(data[:8], "little")
    at = 8 + size
    kept: Values = {}
    moved: dict[str, Any] = {}
    for key, parts in json.loads(data[8:at]):
        named = {}
        for name, dtype, shape in parts:
            array = np.frombuffer(data, dtype=np.dtype(dtype), count=int(np.prod(shape)), offset=at)
            named[name] = array.reshape(shape).copy()
            at += array.nbytes
        value = named.get(None, named)
        if key[0] == "":
            moved[key[1]] = value
        else:
            kept[tuple(key)] = value
    return kept, moved
