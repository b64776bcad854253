"""One suite for every method: any schedule gives the bits of the sequential run, copies can be accumulated instead of
stacked, policies survive a file, and the rules know the bytes that the executor keeps."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.estimators.policy import PRESETS, Plan, preset
from alrsim.execution.executor import Batch, execute_prepared, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import Program, build_program
from alrsim.files import from_json, load_value, save_value, to_json
from alrsim.frontend.torch_export import export_model
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.precision import Precision
from alrsim.models import build
from alrsim.rules import RULES, RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Category

METHODS = tuple(PRESETS)
ESTIMATED = tuple(name for name in PRESETS if name != "bp")
TICKS = {"F": 2, "L": 1, "B": 4, "I": 2, "W": 2, "G": 2, "C": 1, "U": 1}
MODELS = {
    "mlp": {"features": 12, "hidden": 8},
    "resnet5": {"width": 4, "image_size": 16},
    "gru": {"vocabulary": 20, "embedding": 4, "hidden": 4, "sequence": 3},
}


@dataclass(frozen=True)
class Staged:
    """A small model with two micro-batches of data."""

    stages: StageGraph
    program: Program
    batch: Batch


@cache
def staged(name: str) -> Staged:
    model = build(name, **MODELS[name])
    exported = export_model(model, 3)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"), batch=3)
    program = build_program(exported.graph, exported.program, stages)
    targets = torch.randint(0, model.classes, (6,), generator=torch.Generator().manual_seed(1))
    return Staged(program.stages, program, Batch(model.example(6), targets))


def options_of(method: str, stages: StageGraph, **changes: object) -> RuleOptions:
    plan = preset(method).plan([stage.parameters > 0 for stage in stages.stages], copies=4, **changes)
    options = plan_options(plan, RuleOptions(microbatches=2, copies=4, group=2))
    return options if method == "bp" else replace(options, precision=default_precision(options))


def rule_of(method: str, stages: StageGraph) -> str:
    return plan_rule(preset(method).plan([stage.parameters > 0 for stage in stages.stages]))


def gradients(one: Staged, method: str, sigma: float, **changes: object) -> dict[str, torch.Tensor]:
    options = options_of(method, one.stages, **changes)
    tasks = RULES[rule_of(method, one.stages)](one.stages, options)
    return dict(sequential(one.program, tasks, one.batch, options, Settings(sigma=sigma, seed=5)).gradients)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_schedule_gives_the_bits_of_the_sequential_run(method: str, model: str) -> None:
    one = staged(model)
    rule, options = rule_of(method, one.stages), options_of(method, one.stages)
    tasks = RULES[rule](one.stages, options)
    reference = sequential(one.program, tasks, one.batch, options)
    assert set(reference.gradients) == set(one.program.parameters)
    assert all(bool(value.isfinite().all()) for value in reference.gradients.values())
    assert any(bool(value.any()) for value in reference.gradients.values())
    prepared = prepare(one.program, tasks, one.batch, options)
    problem = Problem(tasks, abstract_machine(2), tuple((TICKS[task.id.kind],) * 2 for task in tasks.tasks), "test")
    names = [name for name, entry in SCHEDULERS.items() if rule in entry.rules and entry.chunks is None]
    assert len(names) >= 2
    for name in names:
        made = schedule(problem, name)
        done = execute_prepared(prepared, problem, made, repeats=1, warmup=0, dispatch_overhead_ns=0)
        for key, value in reference.gradients.items():
            assert torch.equal(done.gradients[key], value), f"{name}: {key}"


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over that of the first."""
    total = sum(float((value - second[name]).square().sum()) for name, value in first.items())
    return (total / sum(float(value.square().sum()) for value in first.values())) ** 0.5


@pytest.mark.parametrize("method", ESTIMATED)
def test_accumulated_copies_are_stacked_copies_up_to_sigma(method: str) -> None:
    """Stacked copies multiply their own noisy inputs, accumulated ones the clean input: no difference as sigma falls.
    (Signs flip where an input is about zero, so that they differ longer.)"""
    one = staged("mlp")
    far, near = (
        distance(*(gradients(one, method, sigma, scope="joint", reduction=how) for how in ("stack", "accumulate")))
        for sigma in (0.1, 0.0005)
    )
    assert near < 0.05
    assert near <= max(far / 4, 1e-5)


@pytest.mark.parametrize("method", ESTIMATED)
def test_behind_a_clean_prefix_accumulated_copies_are_stacked_copies(method: str) -> None:
    one = staged("mlp")
    found = [gradients(one, method, 0.1, scope="layerwise", reduction=how) for how in ("stack", "accumulate")]
    assert distance(*found) < 2e-3, "one-bit formats of noise and int8 scales round differently, nothing else does"


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_survives_json_and_a_file(method: str, tmp_path) -> None:
    plan = preset(method).plan([True, False, True, True], copies=7)
    assert from_json("plan", Plan, to_json("plan", plan), where="here") == plan
    save_value("plan", plan, tmp_path / "plan.json")
    again = load_value("plan", Plan, tmp_path / "plan.json")
    assert again == plan
    base = RuleOptions(copies=7)
    assert plan_options(again, base) == plan_options(plan, base)
    options = plan_options(plan, base)
    assert from_json("options", RuleOptions, to_json("options", options), where="here") == options


@pytest.mark.parametrize("method", ESTIMATED)
def test_the_rules_know_the_bytes_that_the_executor_keeps(method: str) -> None:
    one = staged("resnet5")
    options = options_of(method, one.stages)
    tasks = RULES["lr"](one.stages, options)
    prepared = prepare(one.program, tasks, one.batch, options)
    predicted: Counter[str] = Counter()
    for buffer in tasks.buffers:
        what = buffer.name.rpartition(":")[2]
        if buffer.category is Category.NOISE or what in ("code", "losses"):
            predicted[what] += buffer.bytes
    found: Counter[str] = Counter()
    for key, entry in prepared.ledger.entries.items():
        if key[0] in ("noise", "code", "loss"):
            found["losses" if key[0] == "loss" else str(key[0])] += entry.bytes
    if options.precision.noise is Precision.REGENERATED:
        assert not found["noise"]
    for what in {*predicted, *found}:
        # A scale per copy and tensor is too little to plan with.
        scales = 4 * 2 * 4 * 3 * len(one.stages.stages) if what != "losses" else 0
        assert predicted[what] <= found[what] <= predicted[what] + scales, what
