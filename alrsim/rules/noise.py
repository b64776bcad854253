"""Noise: who injects it, what drawing and adding it costs, and where it is stored."""

from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance, adds_noise
from alrsim.rules.step import Step
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId

NORMAL_FLOPS = 20
"""Element-wise FLOPs charged for one Gaussian number from a counter-based generator (Box-Muller on hashed bits)."""


def noise_elements(step: Step, stage: int) -> int:
    return sum(elements for _, elements in step.segmentation.noised[stage])


def noise_work(step: Step, stage: int, one: Instance) -> Work:
    """Draw the noise of a stage's leaving values and add it to every copy."""
    elements = noise_elements(step, stage)
    if not elements:
        return NO_WORK
    drawn, added = elements * one.draws, elements * one.copies
    return Work(elementwise=NORMAL_FLOPS * drawn + 2 * added, activation_writes=drawn, launches=1)


def entering(step: Step, target: int, one: Instance) -> list[int]:
    """Layer-wise: stages whose noise ``target`` adds to the clean values that it reads."""
    sources = {edge.source for edge in step.incoming[target]}
    return sorted(source for source in sources if adds_noise(step.segmentation, source, target, one))


def injected_by_reader(step: Step, target: int, one: Instance) -> Work:
    """Layer-wise: the work of drawing and adding that noise; none where all noise is joint."""
    work = NO_WORK
    for source in entering(step, target, one):
        work = work + noise_work(step, source, one)
    return work


def store_noise(step: Step, task: int, microbatch: int, one: Instance, target: int) -> None:
    """Joint noise is stored by the stage that injects it, layer-wise noise by its first reader."""
    if one.source is None:
        sources = [target] if target < step.count and step.segmentation.exits(target) else []
    else:
        sources = entering(step, target, one)
    for source in sources:
        if (source, one.group) in step.noise:
            continue
        size = step.plan.noise.bytes_for(noise_elements(step, source) * one.draws)
        name = f"{TaskId(source, 'F', microbatch, one.group)}:noise"
        stored = None
        if step.plan.noise is not Precision.REGENERATED:
            stored = step.draft.buffer(name, Category.NOISE, size, source, producer=task)
        step.noise[source, one.group] = stored
