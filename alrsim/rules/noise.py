"""Noise: who injects it, what drawing and adding it costs, and where it is stored."""

from math import ceil

from alrsim.estimators.policy import NoiseKind
from alrsim.graph.stages import Stage
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance, adds_noise
from alrsim.rules.step import Step
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId

PHILOX_BLOCK = 120
"""Integer operations of one block of Philox4x32-10, 4 words: 10 rounds of 2 products, 2 shifts, 2 masks, 4 XORs and 2
additions to the key."""

LOGARITHM = 28
"""Operations of the logarithm of a word (to a float 2, mantissa's half 2, exponent 4, mantissa 3, (m-1)/(m+1) 3, its
square 1, series 6, tail 4, sum 3)."""


DRAWINGS: dict[NoiseKind, tuple[int, int]] = {
    # 128 elements per block: 1; shift to the sign's place and join it to a number: 3.
    "rademacher": (ceil(PHILOX_BLOCK / 128) + 3, 0),
    # The same, and for each of a block's 4 words the parity of row and column: 16.
    "hadamard": (ceil((PHILOX_BLOCK + 4 * 16) / 128) + 3, 0),
    # 4 elements per block: 30; a pair by Box-Muller: logarithm, double, clamp and root 3, angle 5, its square 1, sine
    # 7, cosine 8, quadrant 8, signs and products 5.
    "gauss": (ceil(PHILOX_BLOCK / 4 + (LOGARITHM + 37) / 2), 0),
    # 4 elements per block: 30; the logarithm; mask, scale, sign's shift and join: 4.
    "laplace": (ceil(PHILOX_BLOCK / 4) + LOGARITHM + 4, 0),
    # A point is one XOR per element, to a float 1, half a cell 1, the normal's inverse distribution function 30
    # (polynomials of degree 4 and 8, square, quotient, 4 more), in fp64, which counts twice. The scramble is made for
    # every task; for up to 1,024 copies it has a shift and 10 columns, 18 operations (Mersenne twister) per number,
    # mask and diagonal 2 per column, and 55 pairs of columns with 4 (shift, and, product, XOR), in int64.
    "sobol": (2 * 33, 11 * 18 + 2 * (10 * 2 + 55 * 4)),
}
"""Operations of drawing one element, by kind of noise: for every draw, and once for all draws of a task.

Counted from the arithmetic of :mod:`alrsim.estimators.kernels` (each +, *, /, root, shift, logical operation,
comparison and conversion is one).
"""


def drawing_work(kind: NoiseKind, elements: int, draws: int) -> int:
    """Element-wise operations of drawing ``draws`` times ``elements`` numbers in one task."""
    draw, call = DRAWINGS[kind]
    return elements * (draw * draws + call)


def redrawing(step: Step, elements: int, draws: int) -> int:
    """What a gradient task spends on drawing its noise again; 0 if it is stored."""
    return drawing_work(step.options.noise, elements, draws) if step.plan.noise is Precision.REGENERATED else 0


def noise_elements(step: Step, stage: int) -> int:
    """Elements of one draw: of the values that get it (one micro-batch), or of the parameters (the whole step)."""
    return step.segmentation.weight_noised[stage] or sum(elements for _, elements in step.segmentation.noised[stage])


def adds_itself(step: Step, stage: int, one: Instance) -> bool:
    """Whether the stage's forward in this instance adds the stage's own noise: to its outputs, points or parameters.

    Layer-wise noise on outputs is added by their readers, so that the prefix stays clean.
    """
    segmentation = step.segmentation
    if not one.noisy or not segmentation.injects(stage):
        return False
    return one.source is None or (one.source == segmentation.segment[stage] and segmentation.own_noise(stage))


def forward_work(step: Step, stage: Stage, one: Instance) -> Work:
    """The forward of every copy with the noise that the stage adds to itself.

    Copies with parameters of their own share nothing: every one reads its parameters and launches its kernels.
    """
    if not adds_itself(step, stage.index, one):
        return stage.forward.stacked(one.copies)
    if not step.segmentation.on_weights(stage.index):
        return stage.forward.stacked(one.copies) + noise_work(step, stage.index, one)
    changed = noise_elements(step, stage.index) * one.copies
    perturb = Work(param_reads=changed, param_writes=changed)
    return stage.forward.repeated(one.copies) + noise_work(step, stage.index, one) + perturb


def noise_work(step: Step, stage: int, one: Instance) -> Work:
    """Draw a stage's noise and add it to every copy."""
    elements = noise_elements(step, stage)
    if not elements:
        return NO_WORK
    drawn, added = elements * one.draws, elements * one.copies
    drawing = drawing_work(step.options.noise, elements, one.draws)
    return Work(elementwise=drawing + 2 * added, activation_writes=drawn, launches=1)


def entering(step: Step, target: int, one: Instance) -> list[int]:
    """Layer-wise: stages whose noise ``target`` adds to the clean values that it reads."""
    sources = {edge.source for edge in step.incoming[target]}
    return sorted(source for source in sources if adds_noise(step.segmentation, source, target, one))


def injected_by_reader(step: Step, target: int, one: Instance) -> Work:
    """Layer-wise: the work of drawing and adding that noise; none where all noise is joint."""
    return sum((noise_work(step, source, one) for source in entering(step, target, one)), NO_WORK)


def store_noise(step: Step, task: int, microbatch: int, one: Instance, target: int) -> None:
    """Noise of a noisy instance is stored by the stage that adds it to itself, layer-wise by its first reader.

    Noise on parameters is the same for all micro-batches of a step; stored, it is kept once for each of them, because
    any of them may run on another unit or after the others are freed.
    """
    if not one.noisy or step.plan.noise is Precision.REGENERATED:
        return
    own = [target] if target < step.count and adds_itself(step, target, one) else []
    for source in own + entering(step, target, one):
        if (source, one.group) not in step.noise:
            size = step.plan.noise.bytes_for(noise_elements(step, source) * one.draws)
            name = f"{TaskId(source, 'F', microbatch, one.group)}:noise"
            step.noise[source, one.group] = step.draft.buffer(name, Category.NOISE, size, source, producer=task)
