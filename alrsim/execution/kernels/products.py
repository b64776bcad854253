"""Gradients that multiply codes: a linear map whose input and noise are kept as integers or bits is never decoded.

Each operand is kept as a kernel of :mod:`alrsim.estimators.kernels.product` takes it. Scales of the input and the loss
weights are one number per copy and sample, which the kernel folds into its product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from alrsim.allocation import beside
from alrsim.estimators.codes import quantised
from alrsim.estimators.kernels.choose import Case, choose
from alrsim.estimators.kernels.product import PRODUCTS
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape
from alrsim.estimators.kernels.state import InputKind, NoiseKind, Product, State
from alrsim.estimators.noise import is_sign
from alrsim.estimators.policy import InputCode
from alrsim.execution.programs.operators import LinearMap
from alrsim.execution.programs.program import Program
from alrsim.execution.workers.agreement import same_on_all_ranks
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance, Instances
from alrsim.rules.options import RuleOptions, is_coded
from alrsim.rules.segmentation import Segmentation


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand as it is stored: a kernel's state without the bits that only fill up its words.

    Attributes:
        words: Shape of the kernel's words, ``(..., words, features)``, if bits were squeezed out of them.
        length: Bits along the words that mean something.
        scale: Of the input's code, ``(copies,)``.
    """

    data: Tensor
    kind: InputKind | NoiseKind
    rows: int
    words: tuple[int, ...] | None
    length: int
    scale: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of storage."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


@dataclass(frozen=True, slots=True)
class StageProduct:
    """How one stage's gradient is multiplied.

    Attributes:
        direct: The linear map.
        kernel: Its kernel.
        unsigned: Whether its input cannot be negative.
    """

    direct: LinearMap
    shape: Shape
    kernel: Product
    unsigned: bool


def stage_products(
    program: Program, options: RuleOptions, segmentation: Segmentation, instances: Instances
) -> Mapping[int, StageProduct]:
    """The stages whose gradient is a product of codes, with the kernel that is fastest for them on this host.

    That is: copies are stacked, noise is kept or drawn as signs, the input is coded as integers or bits with a scale
    per copy, and the stage ends in its linear map, whose result is all that it hands on; and all of it is on a CPU.
    """
    signs = options.noise_code == "sign" or is_sign(options.noise) or options.precision.noise is Precision.SIGN1
    stacked = options.reduction == "stack" and options.scope == "joint" and bool(instances.noisy)
    saved = options.precision.saved
    if program.device.type != "cpu":
        return {}  # the kernels are machine code: elsewhere codes are decoded and multiplied by torch
    if not (signs and stacked and options.input_code != "sign-scaled" and saved in (Precision.INT8, Precision.SIGN1)):
        return {}
    found = {}
    for code in program.at(1):
        stage, direct = code.index, code.direct
        edges = program.stages.outgoing(stage)
        alone = not any(segmentation.joined(stage, edge.target) for edge in edges)
        ours = segmentation.exits(stage) and not (segmentation.inside(stage) or segmentation.passes[stage])
        if direct is None or not (ours and alone and is_coded(options, program.stages.incoming(stage))):
            continue
        unsigned = program.stages.stages[stage].lr_unsigned_noisy
        shape = _shape(program, direct)
        case = Case(shape, instances.noisy[0].copies, program.batch, _levels(options, unsigned), "sign")
        found[stage] = StageProduct(direct, shape, PRODUCTS[_fastest(case, saved)], unsigned)
    return found


def squeeze(state: State, length: int, scale: Tensor | None = None) -> Operand:
    """For storage: bits that only fill up words are left out, so that n signs take n / 8 bytes.

    Args:
        length: Lines, or positions of a plane: what the words run along.
    """
    data, kind = state.data, state.kind
    if data.dtype is not torch.int64 or length % 64 == 0:
        return Operand(data, kind, state.rows, None, length, scale)
    every = np.unpackbits(_bytes(data.transpose(-1, -2)), axis=-1, bitorder="little")
    bits = every[..., :length].reshape(-1)
    packed = np.packbits(bits, bitorder="little")
    beside(every.nbytes + bits.nbytes + packed.nbytes)
    return Operand(torch.from_numpy(packed), kind, state.rows, tuple(data.shape), length, scale)


def spread_out(operand: Operand) -> State:
    """The kernel's state again."""
    if operand.words is None:
        return State(operand.data, operand.kind, operand.rows)
    *outer, words, features = operand.words
    count = prod((*outer, features)) * operand.length
    bits = np.unpackbits(operand.data.numpy(), count=count, bitorder="little").reshape(*outer, features, operand.length)
    full = np.zeros((*outer, features, 64 * words), dtype=np.uint8)
    full[..., : operand.length] = bits
    packed = torch.from_numpy(np.packbits(full, axis=-1, bitorder="little").view("<i8").astype(np.int64, copy=False))
    beside(bits.nbytes + full.nbytes + packed.nbytes)
    return State(packed.transpose(-1, -2).contiguous(), operand.kind, operand.rows)


def input_operands(
    product: StageProduct, value: Tensor, saved: Precision, code: InputCode, one: Instance
) -> list[Operand]:
    """The input of a linear map, ``(copies * samples, ...)``; of antithetic pairs one operand for each sign."""
    shape, found = product.shape, []
    for half in value.chunk(one.copies // one.draws):
        coded = quantised(half, saved, code, copies=one.draws, unsigned=product.unsigned)
        assert coded.levels != "real", "a product of codes has a code"
        state = product.kernel.keep_input(coded.codes, shape, coded.levels)
        length = len(half) * shape.positions if isinstance(shape, LinearShape) else prod(shape.size)
        found.append(squeeze(state, length, coded.scale))
    return found


def noise_operand(product: StageProduct, noise: Tensor) -> Operand:
    """Signs of the noise, ``(draws, samples, ...)``."""
    rows, shape = noise.flatten(0, 1).sign(), product.shape
    length = len(rows) * shape.positions if isinstance(shape, LinearShape) else shape.positions
    return squeeze(product.kernel.keep_noise(rows, shape, "sign"), length)


def _bytes(words: Tensor) -> np.ndarray:
    return words.contiguous().numpy().astype("<i8", copy=False).view(np.uint8)


def _levels(options: RuleOptions, unsigned: bool) -> InputKind:
    if options.input_code == "plain" and options.precision.saved is Precision.INT8:
        return "int8"
    if unsigned:
        return "binary"
    bits = options.precision.saved is Precision.SIGN1
    return "bipolar" if bits and options.input_code != "threshold" else "ternary"


@lru_cache(maxsize=4096)
def _fastest(case: Case, saved: Precision) -> str:
    """Among kernels of the storage format. Remembered for the process, so that all its runs agree bit for bit; rank 0's
    choice on all ranks."""
    if saved is Precision.SIGN1:
        return "packed"
    if case.inputs == "int8":
        return "int8"
    chosen: str = same_on_all_ranks(choose(case, among=("int8", "int8-bits")))
    return chosen


def _shape(program: Program, direct: LinearMap) -> Shape:
    nodes = {node.name: node for node in (*program.source.inputs, *program.source.body)}
    size = tuple(nodes[direct.value].meta["val"].shape)
    weight = tuple(program.parameters[direct.weight].shape)
    if direct.convolution is None:
        return LinearShape(weight[1], weight[0], prod(size[1:-1]))
    stride, padding, dilation, groups = direct.convolution
    return ConvShape(size[1], weight[0], size[2:], weight[2:], stride, padding, dilation, groups)
