"""Forward and loss tasks, and what a forward keeps for its stage's gradient."""

from alrsim.graph.stages import Stage
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance, keeps_state
from alrsim.rules.noise import forward_work, injected_by_reader, store_noise
from alrsim.rules.options import is_coded
from alrsim.rules.step import Step, hand_back, is_product, made, value
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def forward(step: Step, microbatch: int, one: Instance) -> None:
    for stage in step.graph.stages:
        if stage.index in one.stages:
            forward_stage(step, microbatch, one, stage)
    if one.loss:
        loss(step, microbatch, one)


def forward_stage(step: Step, microbatch: int, one: Instance, stage: Stage) -> None:
    reads = [] if step.param[stage.index] is None else [step.param[stage.index]]
    reads += [value(step, edge, one) for edge in step.incoming[stage.index]]
    work = forward_work(step, stage, one) + injected_by_reader(step, stage.index, one)
    id_ = TaskId(stage.index, "F", microbatch, one.group)
    task = step.draft.task(id_, [r for r in reads if r is not None], work=work, copies=one.copies)
    step.forwards[stage.index, one.group] = task
    if one.noisy or step.segmentation.on_weights(stage.index):
        step.noisy_forwards[stage.index].append(task)
    for name, elements in {edge.value: edge.elements for edge in step.outgoing[stage.index]}.items():
        size = step.plan.activations.bytes_for(elements * one.copies)
        step.values[name, one.group] = made(step, task, id_, name, Category.ACTIVATION, size)
    keep(step, task, id_, one, stage)
    store_noise(step, task, microbatch, one, stage.index)


def loss(step: Step, microbatch: int, one: Instance) -> None:
    loss = step.graph.loss
    reads = [value(step, edge, one) for edge in step.incoming[step.count]]
    work = loss.forward.stacked(one.copies) + injected_by_reader(step, step.count, one)
    exact = not one.noisy and any(
        step.segmentation.joined(edge.source, step.count) for edge in step.incoming[step.count]
    )
    if exact and not step.options.loss_gradient:
        work = work + loss.input_gradient
    id_ = TaskId(step.count, "L", microbatch, one.group)
    task = step.draft.task(id_, reads, work=work, copies=one.copies)
    store_noise(step, task, microbatch, one, step.count)
    size = Precision.FP32.bytes_for(step.graph.batch * one.copies)
    step.losses[one.group] = made(step, task, id_, "losses", Category.ACTIVATION, size)
    if not exact:
        return
    if step.options.loss_gradient:
        id_ = TaskId(step.count, "B", microbatch, one.group)
        task = step.draft.task(id_, [*reads, step.losses[one.group]], work=loss.input_gradient)
        step.loss_cells.append(task)
    hand_back(step, task, id_, one.copies)


def keep(step: Step, task: int, id_: TaskId, one: Instance, stage: Stage) -> None:
    """What a forward keeps for the stage's gradient, depending on who computes it."""
    if not keeps_state(step.segmentation, step.options, stage.index, one):
        return
    kept = []
    if step.segmentation.exits(stage.index):
        size = code_bytes(step, stage, one)
        if size:
            kept.append(made(step, task, id_, "code", Category.ACTIVATION, size))
    elif stage.saved:
        size = step.plan.activations.bytes_for(stage.saved * one.copies)
        kept.append(made(step, task, id_, "saved", Category.ACTIVATION, size))
    step.kept[stage.index, one.group] = kept


def code_bytes(step: Step, stage: Stage, one: Instance) -> int:
    """Bytes of what an LR gradient keeps of its stage's input; 0 if it reads the stage's inputs as they are."""
    if stage.lr_whole:
        return 0
    product, incoming = is_product(step, stage), step.incoming[stage.index]
    elements = stage.lr_saved if product else sum(edge.elements for edge in incoming)
    options, plan = step.options, step.plan
    if is_coded(options, incoming):
        scales = stage.lr_scales * one.copies if options.input_code == "sign-scaled" else 0
        # A packed threshold code of values with signs has three levels and takes two bits; noise makes values signed.
        unsigned = stage.lr_unsigned_noisy if one.noisy else stage.lr_unsigned
        signed = options.input_code == "threshold" and plan.saved is Precision.SIGN1 and not unsigned
        bits = (2 if signed else plan.saved.bits) * elements * one.copies
        return -(-bits // 8) + Precision.FP32.bytes_for(scales)
    if not product:
        return 0
    if options.input_code != "plain":  # the model's own input, which is the same for all copies
        return 0 if stage.direct else plan.activations.bytes_for(elements)
    stored = one.copies == 1 or all(edge.source in one.stages for edge in incoming)
    return 0 if stage.direct and stored else plan.activations.bytes_for(elements * one.copies)
