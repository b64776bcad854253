"""Noise on a device that machine code of the CPU cannot reach: Triton's kernels where they can be trusted, else torch.

Triton is optional, and its kernels have not been run on a GPU by this project. So they are used on a device only after
they gave there, for a small case of every kind, bit for bit what torch's operators give. Numbers never depend on which
of the two is used.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from alrsim.estimators.kernels import philox_torch
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.policy import NoiseKind

FUSED: tuple[NoiseKind, ...] = ("rademacher", "gauss")
"""Kinds that Triton's kernels make."""


def noise(
    key: PhiloxKey, copies: range, samples: range, shape: Sequence[int], kind: NoiseKind, device: torch.device
) -> Tensor:
    """As :func:`alrsim.estimators.kernels.philox.philox_noise`: ``(copies, samples, *shape)`` fp32."""
    kernels = fused(device) if kind in FUSED else None
    if kernels is None:
        return philox_torch.noise(key, copies, samples, shape, kind, device)
    return _perturbed_zeros(kernels, key, copies, samples, shape, kind, device)


def accumulate(
    total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range, kind: NoiseKind
) -> Tensor:
    """As :func:`alrsim.estimators.kernels.philox.accumulate_noise`; ``total`` is changed in place and returned."""
    kernels = fused(total.device) if kind in FUSED else None
    module = philox_torch.accumulate if kernels is None else kernels.accumulate_noise
    found: Tensor = module(total, weights, key, copies, samples, kind)
    return found


@cache
def fused(device: torch.device) -> Any:
    """The module of Triton's kernels, if it can be trusted on this device; else ``None``."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    return trusted("alrsim.estimators.kernels.triton_noise", device)


def trusted(module: str, device: torch.device) -> Any:
    """A module of kernels, if they run on a device and give what torch's operators give there; else ``None``."""
    key, copies, samples = PhiloxKey(seed=5 + (3 << 32), step=2, stage=7, value=1), range(1, 4), range(2, 4)
    weights = torch.linspace(-1, 1, 6, device=device).view(3, 2)
    try:
        kernels = import_module(module)
        for kind in FUSED:
            found = _perturbed_zeros(kernels, key, copies, samples, (700,), kind, device)
            expected = philox_torch.noise(key, copies, samples, (700,), kind, device)
            sums = kernels.accumulate_noise(torch.ones(2, 700, device=device), weights, key, copies, samples, kind)
            total = philox_torch.accumulate(torch.ones(2, 700, device=device), weights, key, copies, samples, kind)
            if not (torch.equal(found, expected) and torch.equal(sums, total)):
                return None
    except Exception:  # a compiler's errors are of any type, and there is another way
        return None
    return kernels


def _perturbed_zeros(
    kernels: Any,
    key: PhiloxKey,
    copies: range,
    samples: range,
    shape: Sequence[int],
    kind: NoiseKind,
    device: torch.device,
) -> Tensor:
    zeros = torch.zeros(1, len(samples), *shape, device=device)
    found: Tensor = kernels.perturbed(zeros, 1.0, key, copies, samples, kind)
    return found
