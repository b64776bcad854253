"""Noise: who injects it, what drawing and adding it costs, and where it is stored."""

from alrsim.graph.stages import MODEL_INPUT, Edge
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.rules.step import Step, is_exit
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


def injected_by_reader(step: Step, target: int, one: Instance) -> Work:
    """Layer-wise: the first reader of a clean value adds the segment's noise to it."""
    if one.source is None:
        return NO_WORK
    sources = {edge.source for edge in step.incoming[target] if enters(step, edge, one)}
    work = NO_WORK
    for source in sorted(sources):
        work = work + noise_work(step, source, one)
    return work


def enters(step: Step, edge: Edge, one: Instance) -> bool:
    source = edge.source
    return (
        one.noisy
        and source != MODEL_INPUT
        and step.segmentation.segment[source] == one.source
        and is_exit(step, source)
        and not step.segmentation.joined(source, edge.target)
    )


def store_noise(step: Step, task: int, microbatch: int, one: Instance, target: int) -> None:
    """Joint noise is stored by the stage that injects it, layer-wise noise by its first reader."""
    if one.source is None:
        sources = {target} if target < step.count and is_exit(step, target) else set()
    else:
        sources = {edge.source for edge in step.incoming[target] if enters(step, edge, one)}
    for source in sorted(sources):
        if (source, one.group) in step.noise:
            continue
        size = step.plan.noise.bytes_for(noise_elements(step, source) * one.draws)
        name = f"{TaskId(source, 'F', microbatch, one.group)}:noise"
        stored = None
        if step.plan.noise is not Precision.REGENERATED:
            stored = step.draft.buffer(name, Category.NOISE, size, source, producer=task)
        step.noise[source, one.group] = stored
