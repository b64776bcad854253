"""Hold two stacked copies of different data to two single runs, stage by stage."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.fx import Node

from alrsim.execution.programs.stacking import same_numbers
from alrsim.execution.programs.stage_function import StageCode, cannot_stack, compile_stages
from alrsim.execution.programs.staged_graph import Source


def check_stacking(source: Source, single: Sequence[StageCode]) -> None:
    """Run every stage on two different micro-batches apart and stacked.

    Shapes that fit do not prove that samples stay apart: a mean over the batch has the right shape, too. The inputs are
    normal noise, or zeros and ones where they are whole numbers, so that they are valid tokens of any vocabulary.

    Raises:
        ExecutionError: a stage whose stacked values are not the single ones.
    """
    stacked = compile_stages(source, 2)
    generator = torch.Generator().manual_seed(0)
    runs: list[dict[str, Tensor]] = [
        {node.name: _random(node, generator).to(source.device) for node in source.inputs} for _ in range(2)
    ]
    with torch.no_grad():
        for one, both in zip(single, stacked, strict=True):
            inputs = [[values[name] for name in one.inputs] for values in runs]
            joint = [torch.cat(pair) if pair[0].dim() else pair[0] for pair in zip(*inputs, strict=True)]
            apart = [_outputs(source, one, values) for values in inputs]
            for name, value in _outputs(source, both, joint).items():
                if not same_numbers([values[name] for values in apart], value):
                    raise cannot_stack(
                        source, one.index, 2, f"{name} of a stacked micro-batch depends on the other copy's samples"
                    )
            for values, more in zip(runs, apart, strict=True):
                values.update(more)


def _outputs(source: Source, code: StageCode, inputs: Sequence[Tensor]) -> Mapping[str, Tensor]:
    held = [[source.tensors[name] for name in names] for names in (code.parameters, code.buffers)]
    outputs, _, _ = code.run(inputs, *held)
    return dict(zip(code.outputs, outputs, strict=True))


def _random(node: Node, generator: torch.Generator) -> Tensor:
    value = node.meta["val"]
    shape = tuple(value.shape)
    if value.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(value.dtype)
    return torch.randint(0, 2, shape, generator=generator).to(value.dtype)
