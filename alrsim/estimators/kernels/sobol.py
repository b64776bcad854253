"""Quasi-Monte-Carlo Gaussian noise: scrambled Sobol points, one sequence per sample, through the normal's inverse CDF.

Copies are successive points of one sequence. It brings little where copies are far fewer than elements (measured), and
torch's engine stops at 21,201 dimensions. The engine is built again for each call and skips to the first copy: ask for
many copies at once.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from alrsim.errors import OptionError

_ENGINE: Any = torch.quasirandom.SobolEngine
LARGEST: int = _ENGINE.MAXDIM
_STEP = 1 << 22


def points(seed: int, copies: range, elements: int) -> Iterator[Tensor]:
    """Gaussian noise of one sample, ``(some copies, elements)`` fp32 at a time, copies in ascending order.

    Raises:
        OptionError: more elements than the engine has dimensions.
    """
    refuse_wide(elements)
    engine: Any = _ENGINE(elements, scramble=True, seed=seed)
    engine.fast_forward(copies.start)
    step = max(1, _STEP // elements)
    for low in range(0, len(copies), step):
        grid = engine.draw(min(step, len(copies) - low), dtype=torch.float64)
        # Points lie on a grid of 2^-30 that starts at 0: half a cell further the noise is symmetric and finite.
        yield torch.special.ndtri(grid + 2.0**-31).to(torch.float32)


def refuse_wide(elements: int) -> None:
    """Say which noise to use instead where Sobol points do not exist."""
    if elements > LARGEST:
        raise OptionError(
            f"Sobol noise has at most {LARGEST:,} elements per sample, and a value here has {elements:,}",
            where="--noise sobol",
            fix="use hadamard noise, which has no limit, or cut the model where a smaller value leaves a stage",
        )
