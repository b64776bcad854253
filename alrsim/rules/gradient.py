"""Gradient tasks: B, I and W inside a segment, G and C at its end or on parameters, and their ordered sums."""

from alrsim.graph.stages import Stage
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.rules.noise import noise_elements, redrawing
from alrsim.rules.step import Step, hand_back, is_product, made, value
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import Kind, TaskId


def exact_gradients(step: Step, microbatch: int, clean: Instance) -> None:
    for stage in reversed(step.graph.stages):
        if step.segmentation.trainable[stage.index] and step.segmentation.is_exact(stage.index):
            bp_gradient(step, microbatch, clean, stage, clean.group)


def bp_gradient(step: Step, microbatch: int, one: Instance, stage: Stage, group: int) -> None:
    """B, or I and W, of a stage whose cotangent comes from its consumers."""
    index, passes = stage.index, step.segmentation.passes[stage.index]
    reads = gradient_inputs(step, index, group) + step.kept.get((index, one.group), [])
    reads += [value(step, edge, one) for edge in step.incoming[index] if edge.saved_by_target]
    reads += [step.values[edge.value, one.group] for edge in step.outgoing[index] if edge.saved_by_source]
    after = [step.forwards[index, one.group]]
    through = stage.input_gradient if passes else stage.interior_gradient
    param = step.param[index]
    if param is not None:
        reads.insert(0, param)
    if not step.split or not (passes and stage.parameters):
        kind: Kind = "B" if not step.split else ("I" if passes else "W")
        work = (through + stage.weight_gradient).stacked(one.copies)
        add_gradient(step, TaskId(index, kind, microbatch, group), one, reads, after=after, work=work)
        return
    id_ = TaskId(index, "I", microbatch, group)
    task = add_gradient(step, id_, one, reads, after=after, work=through.stacked(one.copies))
    deltas = made(step, task, id_, "deltas", Category.TEMP, step.plan.activations.bytes_for(stage.deltas * one.copies))
    kept = [*step.kept.get((index, one.group), []), deltas]
    kept += [value(step, edge, one) for edge in step.incoming[index] if edge.saved_by_target]
    work = stage.weight_gradient.stacked(one.copies)
    add_gradient(step, TaskId(index, "W", microbatch, group), one, kept, work=work)


def gradient_inputs(step: Step, stage: int, group: int) -> list[int]:
    """Gradients of the stage's outputs that its consumers in the segment computed."""
    return [
        buffer
        for name in dict.fromkeys(edge.value for edge in step.outgoing[stage])
        for buffer in step.upstream.get((name, group), ())
    ]


def add_gradient(
    step: Step,
    id_: TaskId,
    state: Instance,
    reads: list[int],
    *,
    after: list[int] | None = None,
    work: Work,
    encoded: Work = NO_WORK,
    copies: int | None = None,
) -> int:
    """Add a gradient task; its input gradients go to the stages above, its weight gradient to the ordered sum.

    Args:
        state: The forward from whose state it is computed.
        copies: Stacked in the task; default: those of that forward.
    """
    stage = step.graph.stages[id_.stage]
    copies = state.copies if copies is None else copies
    task = step.draft.task(id_, reads, after=after, work=work, encoded=encoded, copies=copies)
    if id_.kind != "W" and step.segmentation.passes[stage.index]:
        hand_back(step, task, id_, state.copies)
    if id_.kind != "I" and stage.parameters:
        partial = step.draft.buffer(
            f"{id_}:partial",
            Category.TEMP,
            step.plan.parameters.bytes_for(stage.parameters),
            stage.index,
            producer=task,
            accumulator=f"{stage.index}:grad",
            rank=len(step.partials[stage.index]),
        )
        step.partials[stage.index].append(partial)
    return task


def lr_gradient(step: Step, microbatch: int, one: Instance, stage_index: int, group: int) -> None:
    """G of a segment's end, or B of a stage inside an LR segment, weighed by one instance's losses."""
    stage, segmentation = step.graph.stages[stage_index], step.segmentation
    by_lr = segmentation.trainable[stage_index] and not segmentation.is_exact(stage_index)
    if not by_lr or segmentation.on_weights(stage_index):
        return
    state = step.instances.clean if step.layerwise and step.instances.clean is not None else one
    if not segmentation.exits(stage_index):
        bp_gradient(step, microbatch, state, stage, group)
        return
    kept = step.kept[stage_index, state.group]
    reads = gradient_inputs(step, stage_index, group) + kept
    if not kept:
        reads += [value(step, edge, state) for edge in step.incoming[stage_index]]
    param = step.param[stage_index]
    if param is not None and not is_product(step, stage):
        reads.append(param)
    reads += signal_reads(step, one, stage_index) if one.noisy else step.sums[stage_index]
    work, encoded = gradient_work(step, stage, one, state)
    id_ = TaskId(stage_index, "G", microbatch, group)
    after = [step.forwards[stage_index, state.group]]
    add_gradient(step, id_, state, reads, after=after, work=work, encoded=encoded, copies=one.copies)


def gradient_work(step: Step, stage: Stage, one: Instance, state: Instance) -> tuple[Work, Work]:
    """(work in the activation precision, product of codes) of a G task.

    Where the copies share one clean input (``state`` is not ``one``) their noise is summed first and multiplied
    once; otherwise the product runs over every copy.
    """
    through = stage.input_gradient if step.segmentation.passes[stage.index] else stage.interior_gradient
    again = NO_WORK if is_product(step, stage) else stage.forward
    around = (again + through).stacked(state.copies)
    product = stage.weight_gradient.stacked(state.copies)
    if not one.noisy:
        return around + product, NO_WORK
    elements = noise_elements(step, stage.index)
    read = elements * one.copies
    weighing = Work(elementwise=redrawing(step, elements, one.draws) + read, activation_reads=read, launches=1)
    coded = step.plan.saved.bits < 16 and step.plan.noise.bits < 16
    if coded and is_product(step, stage) and state is one:
        return around + weighing, product
    return around + weighing + product, NO_WORK


def parameter_gradient(step: Step, microbatch: int, one: Instance, stage_index: int) -> None:
    """G of a stage with noise on its parameters: add every draw's weighted noise into the weight gradient.

    A draw's weight is one number, its weighed losses over the micro-batch (of both of an antithetic pair).
    """
    elements = noise_elements(step, stage_index)
    regenerated = step.plan.noise is Precision.REGENERATED
    work = Work(
        elementwise=redrawing(step, elements, one.draws) + 2 * elements * one.draws,
        param_reads=elements,
        param_writes=elements,
        activation_reads=0 if regenerated else elements * one.draws,
        launches=1,
    )
    id_ = TaskId(stage_index, "G", microbatch, one.group)
    reads = signal_reads(step, one, stage_index)
    after = [step.forwards[stage_index, one.group]]
    add_gradient(step, id_, one, reads, after=after, work=work)


def accumulate(step: Step, microbatch: int, one: Instance, stage: int) -> None:
    """C: add one copy group's weighted noise into the stage's estimated cotangent."""
    elements = noise_elements(step, stage)
    regenerated = step.plan.noise is Precision.REGENERATED
    work = Work(
        elementwise=redrawing(step, elements, one.draws) + 2 * elements * one.draws,
        activation_reads=elements * (1 if regenerated else 1 + one.draws),
        activation_writes=elements,
        launches=1,
    )
    id_ = TaskId(stage, "C", microbatch, one.group)
    reads = signal_reads(step, one, stage)
    task = step.draft.task(id_, reads, work=work, copies=one.copies)
    terms = step.sums.setdefault(stage, [])
    term = step.draft.buffer(
        f"{id_}:cotangent",
        Category.TEMP if terms else Category.ACTIVATION,
        Precision.FP32.bytes_for(elements),
        stage,
        producer=task,
        accumulator=f"{stage}:cotangent{microbatch}",
        rank=len(terms),
    )
    terms.append(term)


def signal_reads(step: Step, one: Instance, stage: int) -> list[int]:
    """A stage's stored noise of one copy group, and before it the losses that weigh it, by the baseline.

    Where the loss is no task its value is there as soon as the model's outputs are, so those are read instead.
    """
    if step.options.baseline == "copy-mean":
        # The mean runs over the copies of one segment's noise only.
        same = [other for other in step.instances.noisy if other.source == one.source]
    else:
        clean = step.instances.clean if step.options.baseline == "clean" else None
        same = [one, *([] if clean is None else [clean])]
    reads: list[int] = []
    for instance in same:
        loss = step.losses.get(instance.group)
        reads += [value(step, edge, instance) for edge in step.incoming[step.count]] if loss is None else [loss]
    stored = step.noise.get((stage, one.group))
    return reads if stored is None else [*reads, stored]
