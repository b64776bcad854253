"""The one rule with one parameter, the segmentation, from which BP, split BP, LR and mixtures follow.

Reference order of a step: micro-batches ascending; in each the clean forward and its loss, BP gradients of an exact
head, then per copy group forward, loss and its C or G tasks, then whatever had to wait for all groups; updates last.
"""

from alrsim.allocation import collector_paused
from alrsim.errors import OptionError
from alrsim.graph.stages import MODEL_INPUT, Stage, StageGraph
from alrsim.graph.work import NO_WORK, Work
from alrsim.rules.forward import forward
from alrsim.rules.gradient import accumulate, exact_gradients, lr_gradient, parameter_gradient
from alrsim.rules.instances import Instance, Instances, forward_instances, noisy_groups
from alrsim.rules.optimizers import OPTIMIZERS
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation
from alrsim.rules.step import Draft, Step
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import NONE, TaskId

MAX_FORWARDS = 2_000_000
"""Forward tasks in one step; a graph of so many takes a few GB and a minute to build."""


@collector_paused()
def build_tasks(
    graph: StageGraph, segmentation: Segmentation, options: RuleOptions, *, split: bool, rule: str
) -> TaskGraph:
    """Every task of one training step under a segmentation.

    Args:
        split: BP gradients as separate I and W tasks.
        rule: For reports.
    """
    _refuse_too_many(graph, segmentation, options)
    step = begin(graph, segmentation, options, split)
    for microbatch in range(options.microbatches):
        add_microbatch(step, microbatch)
    if options.update:
        add_updates(step)
    return step.draft.freeze(
        rule=rule,
        stages=len(graph.stages),
        microbatches=options.microbatches,
        forwards_per_step=_forwards(graph, step.instances),
        notes=_notes(graph, segmentation, options),
    )


def _refuse_too_many(graph: StageGraph, segmentation: Segmentation, options: RuleOptions) -> None:
    """Count before building: a task is a Python object, and hundreds of millions of them are no answer."""
    forwards = 1 + noisy_groups(segmentation, options)
    count = options.microbatches * (len(graph.stages) + 1) * forwards
    if count > MAX_FORWARDS:
        raise OptionError(
            f"{options.microbatches} micro-batches x {len(graph.stages)} stages x {forwards} "
            f"forwards are {count} forward tasks, more than {MAX_FORWARDS}",
            where=graph.name,
            fix="use fewer micro-batches or larger copy groups (`group`)",
        )


def _forwards(graph: StageGraph, instances: Instances) -> float:
    weight = [stage.forward.macs for stage in graph.stages]
    if not any(weight):
        weight = [1] * len(weight)
    passed = sum(one.copies * weight[stage] for one in instances.ordered for stage in one.stages)
    return passed / sum(weight)


def _notes(graph: StageGraph, segmentation: Segmentation, options: RuleOptions) -> tuple[str, ...]:
    notes = []
    multiplies = any(map(segmentation.exits, range(len(graph.stages))))
    if multiplies and options.reduction == "accumulate" and options.baseline != "clean":
        notes.append("accumulation multiplies the clean input, so one clean forward is added to the noisy ones")
    if segmentation.has_lr and options.baseline == "none":
        notes.append("baseline none: without one an LR gradient is mostly noise at the usual noise scales")
    if any(segmentation.weight_noised) and options.microbatches > 1 and options.precision.noise.bits:
        notes.append("noise on parameters is the same for all micro-batches, but is stored for each of them")
    for stage in graph.stages:
        if stage.points and segmentation.exits(stage.index) and not segmentation.inside(stage.index):
            notes.append(
                f"stage {stage.index} ({stage.name}): its marked places get no noise, because its segment has other "
                "stages, too: BP carries the gradient through them"
            )
        free = stage.parameters and stage.forward != NO_WORK and stage.weight_gradient == NO_WORK
        if (free or stage.unreached) and segmentation.is_exact(stage.index):
            notes.append(
                f"stage {stage.index} ({stage.name}): no gradient reaches its parameters through the operators behind "
                "them, so BP does not train them" + (" and spends no time on them" if free else "")
            )
        elif free and segmentation.exits(stage.index):
            notes.append(
                f"stage {stage.index} ({stage.name}): its noise lies behind operators without a derivative, so its own "
                "parameters get no gradient: cut it there (`cut=layer`), or put the noise on its parameters (ES)"
            )
    return tuple(notes)


def begin(graph: StageGraph, segmentation: Segmentation, options: RuleOptions, split: bool) -> Step:
    """A step with its resident buffers and no task yet."""
    draft, count = Draft(), len(graph.stages)
    return Step(
        graph,
        segmentation,
        options,
        split,
        forward_instances(graph, segmentation, options),
        draft,
        incoming=[graph.incoming(stage) for stage in range(count + 1)],
        outgoing=[graph.outgoing(stage) for stage in range(count)],
        param=[residents(draft, options, stage) for stage in graph.stages],
        partials=[[] for _ in graph.stages],
        noisy_forwards=[[] for _ in graph.stages],
    )


def add_microbatch(step: Step, microbatch: int) -> None:
    step.begin_microbatch()
    for edge in step.graph.edges:
        if edge.source == MODEL_INPUT and (edge.value, NONE) not in step.values:
            size = step.plan.activations.bytes_for(edge.elements)
            name = f"input{microbatch}:{edge.value}"
            step.values[edge.value, NONE] = step.draft.buffer(name, Category.ACTIVATION, size, edge.target)
    clean = step.instances.clean
    if clean is not None:
        forward(step, microbatch, clean)
        exact_gradients(step, microbatch, clean)
    waits_for_all = step.options.baseline == "copy-mean"
    for one in step.instances.noisy:
        forward(step, microbatch, one)
        if not waits_for_all:
            signals(step, microbatch, one)
    if waits_for_all:
        for one in step.instances.noisy:
            signals(step, microbatch, one)
    if clean is not None and step.segmentation.has_lr and step.options.reduction == "accumulate":
        for stage in reversed(range(step.count)):
            lr_gradient(step, microbatch, clean, stage, NONE)


def signals(step: Step, microbatch: int, one: Instance) -> None:
    """What a noisy instance's loss sets off: C tasks, or G tasks of its own (noise on parameters: always)."""
    for stage in reversed(range(step.count)):
        if one.source is not None and step.segmentation.segment[stage] != one.source:
            continue
        if step.segmentation.on_weights(stage):
            parameter_gradient(step, microbatch, one, stage)
        elif step.options.reduction == "stack":
            lr_gradient(step, microbatch, one, stage, one.group)
        elif step.segmentation.noised[stage]:
            accumulate(step, microbatch, one, stage)


def add_updates(step: Step) -> None:
    """U of every stage with parameters, and the loss row's cell where it is asked for."""
    for stage in step.graph.stages:
        param = step.param[stage.index]
        if param is not None:
            optimizer = OPTIMIZERS[step.options.optimizer]
            touched, flops = (2 + optimizer.states) * stage.parameters, optimizer.flops * stage.parameters
            work = Work(elementwise=flops, param_reads=touched, param_writes=stage.parameters, launches=1)
            # Layer-wise noise of other segments, and noise above an exact head, pass through a stage without being
            # part of its gradient, and no gradient of noise on parameters comes from its stage's forwards: the update
            # must not overtake them.
            apart = step.layerwise or step.segmentation.is_exact(stage.index)
            waits = apart or step.segmentation.on_weights(stage.index)
            after = step.noisy_forwards[stage.index] if waits else []
            step.draft.task(TaskId(stage.index, "U"), [param, *step.partials[stage.index]], after=after, work=work)
    if step.options.loss_update and step.loss_cells:
        step.draft.task(TaskId(step.count, "U"), [], after=step.loss_cells)


def residents(draft: Draft, options: RuleOptions, stage: Stage) -> int | None:
    """Buffers that stay for the whole step; returns that of the parameters, ``None`` without any."""
    if not stage.parameters:
        return None
    size = options.precision.parameters.bytes_for(stage.parameters)
    param = draft.buffer(f"{stage.index}:param", Category.PARAM, size, stage.index, resident=True)
    draft.buffer(f"{stage.index}:grad", Category.GRAD, size, stage.index, resident=True)
    states = OPTIMIZERS[options.optimizer].states
    if states and options.update:
        draft.buffer(f"{stage.index}:optimizer", Category.OPTIMIZER, states * size, stage.index, resident=True)
    return param
