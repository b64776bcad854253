"""What a forward keeps of its stage's input for an LR gradient, and how the gradient reads it."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from alrsim.estimators.codes import decode, encode
from alrsim.execute.inputs import Input, read_inputs
from alrsim.execute.job import Run
from alrsim.execute.ledger import Key
from alrsim.execute.operators import LinearMap
from alrsim.execute.stagecode import StageCode
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def keep_codes(
    run: Run,
    task: int,
    id_: TaskId,
    one: Instance,
    code: StageCode,
    inputs: Sequence[Input],
    interior: Mapping[str, Tensor],
) -> None:
    """Code what the LR gradient multiplies: a linear map's own input, else every input of the stage."""
    plan, signs = run.job.options.precision, run.job.options.signs
    direct = direct_map(run, id_.stage, code)
    values = list(inputs)
    if direct is not None:
        held = [value for value, name in zip(inputs, code.inputs, strict=True) if name == direct.value]
        values = held or [Input(interior[direct.value], None)]
    if not all(value.tensor.is_floating_point() for value in values):
        return  # tokens: there is no code of whole numbers, and they are there anyhow
    as_is = plan.saved is plan.activations and not signs
    if as_is and all(value.key is not None for value in values):
        return  # the gradient reads the values themselves
    if as_is and direct is None:
        return  # it repeats the clean values or the model's input again
    codes = [encode(value.tensor, plan.saved, signs=signs, copies=one.copies) for value in values]
    size = sum(item.nbytes for item in codes)
    run.store.put(task, ("code", id_.stage, id_.microbatch, id_.group), codes, Category.ACTIVATION, size, id_.stage)


def direct_map(run: Run, stage: int, code: StageCode) -> LinearMap | None:
    """The stage's linear map, if its gradient is one product and no input gradient is wanted."""
    segmentation = run.job.segmentation
    return None if segmentation.passes[stage] or segmentation.inside(stage) else code.direct


def coded_inputs(run: Run, task: int, id_: TaskId, state: Instance, code: StageCode) -> list[Tensor]:
    """What the local VJP runs on: decoded codes, or the values themselves where they were kept as they are."""
    job = run.job
    plan, signs = job.options.precision, job.options.signs
    direct = direct_map(run, id_.stage, code)
    as_is = plan.saved is plan.activations and not signs
    key: Key = ("code", id_.stage, id_.microbatch, state.group)
    from_input = direct is None or (direct.value in code.inputs and _stored(run, id_, state, direct.value))
    kept = key in run.store.ledger.entries
    if kept and (not as_is or not from_input):
        return [decode(item) for item in run.store.get(task, key)]
    values = read_inputs(run, task, id_, state)
    if direct is not None:
        return [value.tensor for value, name in zip(values, code.inputs, strict=True) if name == direct.value]
    return [value.tensor for value in values]


def _stored(run: Run, id_: TaskId, state: Instance, name: str) -> bool:
    """Whether a stage's input is a buffer of the state's forward itself, not derived from the clean one."""
    edge = next(edge for edge in run.job.program.stages.incoming(id_.stage) if edge.value == name)
    return state.copies == 1 or edge.source in state.stages
