"""A program for torchrun: steps on ranks against the sequential reference, ``rank_program.py REPORT [hang]``.

Every rank writes what it found to ``REPORT.<rank>``. ``hang``: the second rank says so and hangs in a task.
"""

import json
import os
import sys
import time
from functools import cache
from pathlib import Path

import torch

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import AlrsimError
from alrsim.execution.executor import Batch, execute, sequential
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.programs.program import build_program
from alrsim.frontend.torch_export import export_model
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.models import build
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule
from alrsim.tasks.problem import Problem

REPORT, HANGS = Path(sys.argv[1]), sys.argv[2:] == ["hang"]
INT8 = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
STEPS = {
    "bp:1f1b": ("bp", "1f1b", "balanced:2", RuleOptions(microbatches=4)),
    "alr:lr-free": (
        "lr",
        "lr-free",
        "layer",
        RuleOptions(microbatches=3, copies=2, precision=INT8, noise_code="sign"),
    ),
}


@cache
def exported_once():
    model = build("resnet5", width=4, image_size=16, norm="none")
    return model, export_model(model, 3)


def step(name, kernels):
    rule, scheduler, cut, options = STEPS[name]
    model, exported = exported_once()
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=3)
    program = build_program(exported.graph, exported.program, stages)
    generator = torch.Generator().manual_seed(7)
    samples = 3 * options.microbatches
    inputs = tuple(torch.randn(samples, *value.shape[1:], generator=generator) for value in model.example(1))
    batch = Batch(inputs, torch.randint(0, model.classes, (samples,), generator=generator))
    graph = RULES[rule](stages, options)
    problem = Problem(graph, abstract_machine(2), tuple((1, 1) for _ in graph.tasks), "test")
    lanes = schedule(problem, scheduler)
    found = execute(program, problem, lanes, batch, options, executor="torchrun", repeats=2, warmup=0, kernels=kernels)
    expected = sequential(program, graph, batch, options)
    line = found.timeline
    return {
        "gradients": sorted(found.gradients) == sorted(expected.gradients)
        and all(torch.equal(found.gradients[key], value) for key, value in expected.gradients.items()),
        "parameters": all(torch.equal(found.parameters[key], value) for key, value in expected.parameters.items()),
        "spans": sorted(str(span.task) for span in line.spans),
        "tasks": sorted(str(task.id) for task in graph.tasks),
        "units": sorted({span.unit for span in line.spans}),
        "makespan": line.makespan,
        "facts": {key: getattr(line.facts, key) for key in ("executor", "ranks", "clock", "clock_skew_ns")},
    }


def hanging(kernel):
    def run(step, index, id_):
        if str(id_) == "1F1" and not step.store.recording:
            Path(f"{REPORT}.hangs").touch()
            time.sleep(600)
        kernel(step, index, id_)

    return run


kernels = {kind: hanging(kernel) for kind, kernel in KERNELS.items()} if HANGS else KERNELS
try:
    found = {name: step(name, kernels) for name in STEPS}
    Path(f"{REPORT}.{os.environ['RANK']}").write_text(json.dumps(found))
except AlrsimError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
