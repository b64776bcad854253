"""Packed bits: one bit per sign, AND and popcount.

With a in {0, 1} and e = +-1 as a bit, ``sum a e = 2 popcount(a & e) - popcount(a)``; padding is a = 0 and contributes
nothing. A +-1 code is ``2 p - v`` with p its bit and v where it is valid, so that padding contributes nothing either; v
is one more channel of ones. A {-1, 0, 1} code is the difference of two {0, 1} codes.

Convolutions keep real weights: a weight is constant over the positions of a row, so that it multiplies a count. Where
a row's plane does not fill more than a word, rows of nearly the same size of weight share words and that size. Linear
maps have a weight per line: it is rounded to 4 bits (sign and three bit-planes) and each plane is one pass. Measured on
an MLP with 200 copies that costs little quality: a cosine of 0.772 with the true gradient instead of 0.777.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape, taps_of
from alrsim.estimators.kernels.state import (
    SIGNS,
    InputKind,
    NoiseKind,
    Product,
    State,
    group_ranges,
    line_weights,
    lines,
    not_finite,
    quantise,
)
from alrsim.estimators.kernels.threads import aligned, run_all, spread

PLANES = 3
"""Bit-planes of a linear map's weight; with its sign that makes int4."""

GROUPS = 48
"""Fewest groups of rows that share a weight, where there are so many rows."""

_CHANNELS, _SCRATCH, _WORDS = 8, 1 << 15, 4
"""Channels at a time; words of shifted input at a time; words that pay for the multiplication by a weight."""


def keep_input(x: Tensor, shape: Shape, kind: InputKind, threads: int = 1) -> State:
    """Pack the code of an input; {-1, 0, 1} takes two bits."""
    signs = (1, -1) if kind == "ternary" else (1,)
    packed = [_pack(x, shape, sign, threads) for sign in signs]
    return State(packed[0] if len(packed) == 1 else torch.cat(packed, -1), kind, len(x))


def keep_noise(e: Tensor, shape: Shape, kind: NoiseKind, threads: int = 1) -> State:
    """Pack signs of noise; 1 is positive."""
    return State(_pack(e, shape, 1, threads), kind, len(e))


def _pack(value: Tensor, shape: Shape, sign: int, threads: int) -> Tensor:
    from alrsim.estimators.kernels.machine import bitproduct

    if isinstance(shape, LinearShape):
        words = bitproduct.pack_rows(_plain(lines(value)), sign)
    else:
        words = _pack_planes(_plain(value.flatten(2)), sign, threads)
    return torch.from_numpy(words.view(np.int64))


def _pack_planes(value: np.ndarray, sign: int = 1, threads: int = 1) -> np.ndarray:
    from alrsim.estimators.kernels.machine.bitproduct import pack_planes

    rows, channels, positions = value.shape
    words = np.empty((rows, -(-positions // 64), channels), dtype=np.uint64)
    spread(lambda low, high: pack_planes(value, sign, low, high, words), rows, threads, value.nbytes // 16)
    return words


def _plain(value: Tensor) -> np.ndarray:
    numbers = value.detach() if value.dtype in (torch.int8, torch.float32) else value.detach().to(torch.float32)
    return numbers.contiguous().numpy()


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    if isinstance(shape, LinearShape):
        whole, scale = quantise(weights, 2**PLANES - 1)
        return (linear_sums(x, e, whole, shape, threads) * scale).to(torch.float32)
    return convolution_sums(x, e, weights, shape, threads, torch.float32)


def linear_sums(x: State, e: State, weights: Tensor, shape: LinearShape, threads: int = 1) -> Tensor:
    """``sum w x e`` for integer weights of :data:`PLANES` bits; fp64 ``(outputs, inputs)``, exact."""
    from alrsim.estimators.kernels.machine import bitproduct

    each = line_weights(weights, shape).numpy()
    bits = np.stack([(np.abs(each) >> plane & 1).astype(np.float32) for plane in range(PLANES)], 1)
    masks = np.ascontiguousarray(bitproduct.pack_rows(bits, 1).T)
    negative = bitproduct.pack_rows(each[:, None].astype(np.float32), -1)[:, 0].copy()
    words, noise, ones = _words(x), _words(e), int(x.kind == "bipolar")
    result = np.empty((words.shape[1], shape.outputs))

    def part(low: int, high: int) -> None:
        total, single = bitproduct.linear_counts(words, noise, negative, masks, (low, high), ones)
        width = high - low
        sums = 2 * total[: width + ones, : shape.outputs] - single[: width + ones, None]
        result[low:high] = 2 * sums[:width] - sums[width] if ones else sums

    spread(part, words.shape[1], threads, words.size * shape.outputs * PLANES // 8)
    if x.kind == "ternary":
        result = result[: shape.inputs] - result[shape.inputs :]
    return torch.from_numpy(result.T)


def convolution_sums(
    x: State, e: State, weights: Tensor, shape: ConvShape, threads: int = 1, dtype: torch.dtype = torch.float64
) -> Tensor:
    """``sum w x e`` for the weights that :func:`_plan` makes of ``weights``; of ``shape.weight``, summed in fp64.

    Exact for integer weights of planes of more than 64 positions.
    """
    from alrsim.estimators.kernels.machine import bitconv

    plan = _plan(weights, shape)
    inner, taps = shape.inputs // shape.groups, shape.taps
    sheets = (1.0, -1.0) if x.kind == "ternary" else (1.0,)
    words, noise, table, mask = _words(x), _words(e), taps_of(shape), _tap_masks(shape, plan)
    turned = int(x.kind == "bipolar")
    step = max(1, min(_CHANNELS, -(-inner // threads), _SCRATCH // (plan.each * taps)))
    # Not torch's zeros: its threads would fill them, then wait awake on the core that a helper needs.
    result = np.zeros((shape.outputs, inner * taps), dtype=np.float32 if dtype == torch.float32 else np.float64)
    for channels, outputs in group_ranges(shape):
        right = _panels(noise, plan, outputs, threads)
        counts = partial(
            bitconv.block_counts,
            e=right,
            weights=plan.weights,
            order=plan.order,
            fields=plan.fields,
            each=plan.each,
            source=table.source,
            shifts=table.shifts,
            mask=mask,
        )
        valid, ones = np.zeros((taps, 1)), np.zeros(taps)
        if turned:
            valid, ones = counts(np.full_like(words[:, :, :1], ~np.uint64(0)), channels=(0, 1))
        rows = result[outputs[0] : outputs[1]]

        def part(
            low: int,
            first: int = channels[0],
            last: int = channels[1],
            counts: Any = counts,
            valid: Any = valid,
            ones: Any = ones[:taps],
            rows: Any = rows,
        ) -> None:
            high = min(low + step, last)
            out = rows[:, (low - first) * taps : (high - first) * taps]
            for sheet, sign in enumerate(sheets):
                begin = sheet * shape.inputs
                total, single = counts(words, channels=(begin + low, begin + high))
                bitconv.combine(total, single, valid, ones, turned, sign, out)

        work = noise.size * taps * inner // 8
        run_all([partial(part, low) for low in range(*channels, step)], threads, work)
    return torch.from_numpy(result).view(shape.weight)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Rows in blocks of one weight.

    Attributes:
        order: Row of each place.
        flips: All ones where a row's weight is negative and its noise turned, by place.
        weights: Of the blocks.
        group: Rows per block.
        fields: Rows per word, bits of each, words of a row.
        each: Words of a block.
    """

    order: np.ndarray
    flips: np.ndarray
    weights: np.ndarray
    group: int
    fields: tuple[int, int, int]
    each: int


def _plan(weights: Tensor, shape: ConvShape) -> _Plan:
    flat = weights.detach().reshape(-1).to(torch.float64).numpy()
    if not np.isfinite(flat).all():
        raise not_finite()
    rows = len(flat)
    bits = max(shape.positions, prod(shape.size))
    words = -(-bits // 64)
    if words > 1 or not len(taps_of(shape).shifts):
        return _Plan(np.arange(rows), np.zeros(rows, dtype=np.uint64), flat, 1, (1, 64, words), words)
    most = max(1, rows // GROUPS)
    per = min(64 // bits, most)
    each = max(1, min(_WORDS, most // per))
    group = per * each
    order = np.argsort(np.abs(flat), kind="stable")
    sizes = np.abs(flat[order])
    starts = np.arange(0, rows, group)
    means = np.add.reduceat(sizes, starts) / np.minimum(group, rows - starts)
    flips = np.where(flat[order] < 0, ~np.uint64(0), np.uint64(0))
    return _Plan(order, flips, means, group, (per, bits if per > 1 else 64, 1), each)


def _panels(noise: np.ndarray, plan: _Plan, outputs: tuple[int, int], threads: int) -> np.ndarray:
    from alrsim.estimators.kernels.machine import bitconv

    count = outputs[1] - outputs[0]
    lanes = 8 if count <= 8 else 16
    right = aligned((-(-count // lanes), len(plan.weights) * plan.each, lanes), np.uint64)

    def part(low: int, high: int) -> None:
        columns = outputs[0] + low * lanes, min(outputs[0] + high * lanes, outputs[1])
        bitconv.panels(noise, plan.order, plan.flips, plan.fields, columns, right[low:high])

    spread(part, len(right), threads, right.size)
    return right


def bias(e: State, weights: Tensor, shape: Shape) -> Tensor:
    """The bias gradient; see :class:`Product`."""
    from alrsim.estimators.kernels.machine import bitproduct

    if isinstance(shape, LinearShape):
        whole, scale = quantise(weights, 2**PLANES - 1)
        one = LinearShape(1, shape.outputs, shape.positions)
        ones = keep_input(torch.ones(e.rows, shape.positions, 1), one, "binary")
        return (linear_sums(ones, e, whole, one)[:, 0] * scale).to(torch.float32)
    factors = weights.reshape(-1).to(torch.float64)
    counts = torch.from_numpy(bitproduct.count_columns(_words(e), factors.numpy()))
    return (2 * counts - factors.sum() * shape.positions).to(torch.float32)


def _words(state: State) -> np.ndarray:
    return state.data.numpy().view(np.uint64)


def _tap_masks(shape: ConvShape, plan: _Plan) -> np.ndarray:
    """Where each tap reads, ``(taps, words)``, over and over for the words of a chunk."""
    from alrsim.estimators.kernels.machine import bitconv

    valid = (taps_of(shape).source >= 0).astype(np.int8)
    per, bits, words = plan.fields
    if per > 1:
        wide = np.zeros((len(valid), per, bits), dtype=np.int8)
        wide[:, :, : valid.shape[1]] = valid[:, None]
        valid = wide.reshape(len(valid), -1)
    one = _pack_planes(np.ascontiguousarray(valid)[None])[0].T
    row = np.zeros((len(one), words), dtype=np.uint64)
    row[:, : one.shape[1]] = one
    return np.tile(row, (1, -(-max(bitconv.CHUNK, plan.each) // words)))


PACKED = Product(
    "packed",
    keep_input,
    keep_noise,
    multiply,
    bias,
    frozenset({"binary", "bipolar", "ternary"}),
    SIGNS,
    "exact for planes over 64 positions; smaller ones share weights in groups; weights of linear maps have 4 bits",
    2.0**-23,
)
