"""The estimated cotangent: ``U = 1/(n B sigma) * sum_k (L_k - baseline) eps_k``, with PER-SAMPLE losses.

Source: score-function identity; likelihood-ratio method (arXiv 2305.08960), ALR (arXiv 2403.12320). ``n`` counts noise
draws (pairs, for antithetic) and ``B`` the samples of the whole step, so that summing over micro-batches gives the
gradient of the mean loss.
"""

import torch
from torch import Tensor

from alrsim.estimators.policy import Baseline, WeightCode


def loss_weights(
    losses: Tensor, baseline: Baseline, *, clean: Tensor | None = None, every: Tensor | None = None
) -> Tensor:
    """``w_kb``, the weight of each row's noise.

    Args:
        losses: ``(rows, samples)``; for antithetic the rows are all ``+eps`` and then all ``-eps``.
        clean: Noise-free losses ``(samples,)``, for baseline ``clean``.
        every: Losses of all copies of the micro-batch, ``(n, samples)``, for baseline ``copy-mean``.

    Returns:
        ``(rows, samples)``, such that ``sum_rows w * eps`` is the sum over draws. ``copy-mean`` is leave-one-out:
        the mean of the other copies, which keeps it unbiased. Antithetic pairs subtract their own mean, and each of the
        two rows carries half of the pair's ``(L+ - L-)/2``.
    """
    if baseline == "clean":
        assert clean is not None, "baseline clean needs the clean losses"
        return losses - clean
    if baseline == "copy-mean":
        assert every is not None, "baseline copy-mean needs the losses of all copies"
        count = len(every)
        return (losses - every.mean(0)) * (count / (count - 1))
    if baseline == "antithetic":
        plus, minus = losses.chunk(2)
        half = (plus - minus) / 4
        return torch.cat([half, -half])
    return losses


def rounded_weights(weights: Tensor, code: WeightCode) -> Tensor:
    """Weights on 127 (int8) or 7 (int4) levels of the largest; scaling to anything less than it costs quality."""
    if code == "fp32":
        return weights
    levels = {"int8": 127, "int4": 7}[code]
    largest = weights.abs().max().clamp_(min=1e-30)
    return (weights * (levels / largest)).round_() * (largest / levels)


def folded_pairs(weights: Tensor, draws: int) -> Tensor:
    """The weight of every draw, ``(draws, samples)``: of a pair's two rows, which carry the same noise negated, the
    difference."""
    return weights if len(weights) == draws else weights[:draws] - weights[draws:]


def cotangent_rows(weights: Tensor, noise: Tensor, sigma: float, draws: int, batch: int) -> Tensor:
    """Reduction ``stack``: the cotangent of each row, ``(rows, samples, ...)``, same shape as ``noise``."""
    factor = weights / (draws * batch * sigma)
    return noise * factor.view(*factor.shape, *(1,) * (noise.dim() - factor.dim()))


def cotangent(weights: Tensor, noise: Tensor, sigma: float, draws: int, batch: int) -> Tensor:
    """Reduction ``accumulate``: the rows' sum, ``(samples, ...)``, added in ascending order of rows."""
    factor = weights / (draws * batch * sigma)
    total = torch.zeros(noise.shape[1:], device=noise.device)
    for row, weight in zip(noise, factor, strict=True):
        total.addcmul_(row, weight.view(-1, *(1,) * (row.dim() - 1)))
    return total
