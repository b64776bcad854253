"""The same two stages for torch's schedule runtime and for this program's executors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alrsim.execution.executor import Batch, Scheduled, prepare
from alrsim.frontend.torch_model import TorchModel
from alrsim.hardware.machine import abstract_machine
from alrsim.models import build
from alrsim.schedulers import schedule
from alrsim.steps.draft import draft_step, workload
from alrsim.steps.method import parse_method
from alrsim.steps.model import load_model
from alrsim.steps.options import StepOptions
from alrsim.tasks.problem import Problem


class Tail(nn.Module):
    """ResNet-5 from its third convolution on."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        for name in ("conv3", "conv4", "pool", "flatten", "linear"):
            setattr(self, name, getattr(whole, name))

    def forward(self, features: Tensor) -> Tensor:
        trunk = self.conv3(features)
        logits: Tensor = self.linear(self.flatten(self.pool(trunk + self.conv4(trunk))))
        return logits


@dataclass(frozen=True)
class Subject:
    """A model in two parts.

    Attributes:
        parts: Each becomes a stage.
        sample: Shape of one input.
        classes: Of the logits.
        size: Samples of a micro-batch.
    """

    parts: tuple[nn.Module, nn.Module]
    sample: tuple[int, ...]
    classes: int
    size: int

    def batch(self, microbatches: int) -> Batch:
        generator = torch.Generator().manual_seed(3)
        samples = self.size * microbatches
        inputs = torch.randn(samples, *self.sample, generator=generator)
        return Batch((inputs,), torch.randint(0, self.classes, (samples,), generator=generator))


def tiny() -> Subject:
    """Two linear layers of eight numbers: nearly nothing to compute."""
    torch.manual_seed(1)
    return Subject((nn.Linear(8, 8), nn.Linear(8, 4)), (8,), 4, 2)


def resnet5() -> Subject:
    """ResNet-5 of width 8 behind its second convolution."""
    torch.manual_seed(1)
    whole = build("resnet5", width=8, image_size=16, norm="none").module
    first, second = whole.conv1, whole.conv2
    assert isinstance(first, nn.Module)
    assert isinstance(second, nn.Module)
    return Subject((nn.Sequential(first, second), Tail(whole)), (3, 16, 16), 10, 4)


SUBJECTS = {"tiny": tiny, "resnet5": resnet5}


def jobs_of(subject: Subject, microbatches: int, orders: tuple[str, ...]) -> Mapping[str, Scheduled]:
    """BP's step on two units under each order; updates are left to the optimizer, as in torch's runtime."""
    model = TorchModel(
        "stages", nn.Sequential(*subject.parts), lambda batch: (torch.zeros(batch, *subject.sample),), subject.classes
    )
    split = {"batch": subject.size * microbatches, "microbatches": microbatches}
    asked = StepOptions.take({**split, "cut": "module", "update": False})
    work = workload(load_model(model), abstract_machine(2), asked)
    draft = draft_step(work, parse_method("bp"))
    assert len(draft.stages.stages) == 2, [stage.ops for stage in draft.stages.stages]
    program = work.model.program(work.sized, draft.stages)
    prepared = prepare(program, draft.tasks, subject.batch(microbatches), draft.options)
    problem = Problem(draft.tasks, work.machine, tuple((1, 1) for _ in draft.tasks.tasks), "benchmark")
    return {order: Scheduled(prepared, problem, schedule(problem, order)) for order in orders}
