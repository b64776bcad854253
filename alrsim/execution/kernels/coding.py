"""What a forward keeps of its stage's input for an LR gradient, and how the gradient reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from alrsim.estimators.codes import Code, decode, encode
from alrsim.execution.job import Run
from alrsim.execution.kernels.inputs import Input, read_inputs
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.products import Operand, input_operands
from alrsim.execution.programs.stage_function import StageCode
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.rules.options import is_coded
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def keep_codes(
    run: Run,
    task: int,
    id_: TaskId,
    one: Instance,
    code: StageCode,
    inputs: Sequence[Input],
    interior: Mapping[str, Any],
) -> None:
    """Keep what the LR gradient multiplies: a linear map's own input, else every input of the stage."""
    job, stage = run.job, id_.stage
    direct, product = job.direct_map(stage), job.products.get(stage)
    values = list(inputs)
    if direct is not None:
        held = [value for value, name in zip(inputs, code.inputs, strict=True) if name == direct.value]
        values = held or [Input(interior[direct.value], None)]
    if not all(value.tensor.is_floating_point() for value in values):
        return  # whole numbers (tokens) have no code, and are there anyhow
    plan, kind = job.options.precision, job.options.input_code
    found: Sequence[Code | Operand] = ()
    if product is not None:
        found = input_operands(product, values[0].tensor, plan.saved, kind, one)
    elif is_coded(job.options, job.program.stages.incoming(stage)):
        unsigned = job.is_unsigned(stage, one)
        found = [encode(v.tensor, plan.saved, kind, copies=one.copies, unsigned=unsigned) for v in values]
    elif direct is not None and not held and job.shares_input(stage):
        found = [encode(values[0].tensor[: job.program.batch].clone(), Precision.FP32)]
    elif direct is not None and values[0].key is None and not job.shares_input(stage):
        found = [encode(values[0].tensor, Precision.FP32)]
    if found:
        size = sum(item.nbytes for item in found)
        key: Key = ("code", stage, id_.microbatch, id_.group)
        run.store.put(task, key, list(found), Category.ACTIVATION, size, stage)


def coded_inputs(run: Run, task: int, id_: TaskId, state: Instance, code: StageCode) -> list[Tensor]:
    """What the local VJP runs on: decoded codes, or the stage's inputs where they were not kept apart."""
    key: Key = ("code", id_.stage, id_.microbatch, state.group)
    if key in run.store.ledger.entries:
        return [decode(item) for item in run.store.get(task, key)]
    values = read_inputs(run, task, id_, state)
    direct = run.job.direct_map(id_.stage)
    names = [value for value in code.inputs if direct is None or value == direct.value]
    return [value.tensor for value, name in zip(values, code.inputs, strict=True) if name in names]
