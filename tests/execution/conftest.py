"""Small models, exported and cut once for all executor tests."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program, build_program
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import abstract_machine
from alrsim.models import build
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph


@dataclass(frozen=True)
class Subject:
    """A model with its staged program and data for ``microbatches`` micro-batches."""

    model: TorchModel
    stages: StageGraph
    program: Program

    def batch(self, microbatches: int) -> Batch:
        samples = self.program.batch * microbatches
        generator = torch.Generator().manual_seed(7)
        inputs = tuple(torch.randn(samples, *value.shape[1:], generator=generator) for value in self.model.example(1))
        return Batch(inputs, torch.randint(0, self.model.classes, (samples,), generator=generator))


@cache
def linear_classifier() -> TorchModel:
    """One linear layer: the smallest model with a closed form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Linear(6, 4)
    return TorchModel("linear", module, lambda batch: (torch.ones(batch, 6),), 4)


@cache
def _exported(name: str, batch: int, options: tuple[tuple[str, object], ...]):
    model = linear_classifier() if name == "linear" else build(name, **dict(options))
    return model, export_model(model, batch)


@cache
def _subject(name: str, cut: str, batch: int, options: tuple[tuple[str, object], ...]) -> Subject:
    model, exported = _exported(name, batch, options)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=batch)
    return Subject(model, stages, build_program(exported.graph, exported.program, stages))


@pytest.fixture(scope="session")
def subject() -> Callable[..., Subject]:
    def get(name: str, cut: str, batch: int = 3, **options: object) -> Subject:
        return _subject(name, cut, batch, tuple(sorted(options.items())))

    return get


@pytest.fixture(scope="session")
def problem_of() -> Callable[[TaskGraph, int], Problem]:
    def get(graph: TaskGraph, units: int) -> Problem:
        ticks = {"F": 2, "L": 1, "B": 4, "I": 2, "W": 2, "G": 2, "C": 1, "U": 1}
        rows = tuple((ticks[task.id.kind],) * units for task in graph.tasks)
        return Problem(graph, abstract_machine(units), rows, "test")

    return get


def autograd_reference(
    model: TorchModel, batch: Batch, microbatches: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the mean loss and buffers afterwards, by the uncut model on the same micro-batches."""
    module = copy.deepcopy(model.module).train()
    size = len(batch.targets) // microbatches
    for index in range(microbatches):
        part = slice(index * size, (index + 1) * size)
        logits = module(*(value[part] for value in batch.inputs))
        (nn.functional.cross_entropy(logits, batch.targets[part]) / microbatches).backward()
    gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
    return gradients, dict(module.named_buffers())


@pytest.fixture(scope="session")
def autograd() -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]:
    return autograd_reference


@pytest.fixture(scope="session")
def pretended() -> ModuleType:
    """The module of the pretended device, ``pretended.py``."""
    found = importlib.util.spec_from_file_location("alrsim_pretended", Path(__file__).with_name("pretended.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module
