"""``plan``: the paper's example, real models, files that later verbs take, targets, levers, and what is refused."""

import json
import re
from importlib.util import find_spec

import pytest
from jsonschema import Draft202012Validator

from alrsim.errors import AlrsimError
from alrsim.hardware.described import LinkSpec, UnitSpec
from alrsim.hardware.machine import Machine
from alrsim.planner.planning import plan
from alrsim.planner.search import DoesNotFitError
from alrsim.reports.plan_result import PlanResult
from alrsim.steps.model import load_model
from alrsim.study.calibration import calibrate
from alrsim.study.stepping import load_schedule

PAPER = {"durations": "f=1,b=1,g=1,u=1,l=1", "stages": 4, "units": 5, "loss_unit": 4, "microbatches": 3}
QUICK = {"search": {"effort": "0.05"}, "what_if": False}
FIXED = {"placement": "fixed"}
GRADIENTS = {"placement": "fixed", "gradients": "free"}
FREE = {"placement": "free"}


@pytest.fixture(scope="module")
def mlp():
    return load_model("mlp")


@pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
@pytest.mark.parametrize(
    ("freedom", "row", "rule", "steps"),
    [
        (FIXED, True, "bp", 15),
        (FIXED, False, "lr", 10),
        (FIXED, True, "lr", 11),
        (GRADIENTS, False, "lr", 9),
        (GRADIENTS, True, "lr", 10),
        (FREE, False, "bp", 10),
        (FREE, True, "bp", 11),
        (FREE, False, "lr", 9),
    ],
)
def test_the_papers_example_is_proved(freedom, row, rule, steps):
    found = plan(**PAPER, search=freedom, rules=rule, loss_row=row)
    chosen = found.chosen
    assert (chosen.makespan, chosen.bound, chosen.gap, chosen.status) == (steps, steps, 0, "OPTIMAL")
    assert found.step.makespan == steps


def test_rules_are_ranked_and_the_chosen_schedule_simulates_to_the_same_makespan(tmp_path):
    durations = "f=1,b=1,w=1,transfer=1/4"
    found = plan(durations=durations, units=3, microbatches=4, search=FIXED)
    spans = [one.makespan for one in found.ranked]
    assert spans == sorted(spans)
    assert {one.rule for one in found.ranked} == {"bp", "bp-split", "lr"}
    assert found.chosen == found.ranked[0]
    assert found.runner_up == found.ranked[1]
    found.write(tmp_path / "best.json")
    assert load_schedule(tmp_path / "best.json", durations=durations).makespan == spans[0]
    assert "a step of LR with one copy is not a step of BP in progress" in found.table()


@pytest.mark.parametrize("rules", ["bp,bp-split", "lr"])
@pytest.mark.parametrize("target", ["step-time", "memory", "energy"])
def test_a_plan_of_a_model_is_what_its_file_simulates_to(mlp, tmp_path, rules, target):
    path = tmp_path / "plan.json"
    found = plan(mlp, "h100", units=2, batch=8, microbatches=2, target=target, rules=rules, **QUICK)
    chosen = found.chosen
    found.step.write(path)
    simulated = load_schedule(path, mlp, "h100", units=2).simulate()
    assert simulated.makespan == chosen.makespan == found.step.simulate().makespan
    assert simulated.peak_memory_bytes == chosen.peak_memory_bytes
    assert simulated.schedule == found.schedule
    numbers = {
        "step-time": chosen.makespan,
        "memory": max(chosen.peak_memory_bytes.values()),
        "energy": chosen.energy_joules,
    }
    assert found.value == pytest.approx(numbers[target])
    assert 0 < found.bound <= found.value
    assert found.gap == pytest.approx(found.value / found.bound - 1)
    assert all(row.bound >= found.bound for row in found.ranked)


@pytest.mark.filterwarnings("ignore:the host was busy")
def test_a_plan_is_executed_as_it_was_planned(mlp):
    found = plan(mlp, units=2, batch=8, microbatches=2, rules="lr", modes="bits", **QUICK)
    assert found.step.execute(repeats=1).schedule == found.schedule
    simulated = found.step.simulate(costs=calibrate(found.step, repeats=1))
    assert simulated.schedule == found.schedule
    assert simulated.cost_model != found.cost_model


def test_the_document_reads_back_and_every_plan_that_was_carried_out_is_a_step(mlp):
    found = plan(mlp, "h100", units=2, batch=8, search={"effort": "0.05"})
    document = json.loads(found.to_json())
    Draft202012Validator(PlanResult.schema()).validate(document)
    again = PlanResult.from_dict(document)
    assert again == found
    assert again.table() == found.table()
    with pytest.raises(AlrsimError, match="was read from a file"):
        _ = again.step
    assert all(row.step.timeline.makespan == row.makespan for row in found.ranked)
    assert found.chosen in found.ranked
    assert [row["label"] for row in found.frame().to_dict("records")] == [row.label for row in found.ranked]


def test_the_text_says_plan_runner_up_bound_gap_bottleneck_one_more_unit_and_what_a_step_of_lr_is(mlp):
    text = plan(mlp, "h100", units=2, batch=8, search={"effort": "0.05"}).table()
    for words in (
        r"chosen: ",
        r"runner-up: .*x",
        r"lower bound .*, gap [\d.]+ % over all \d+ candidates",
        r"why: unit u\d+ is the bottleneck: stage \d+ \w+",
        r"one more unit \(3\) would give [\d.]+x",
        r"is not a step of BP in progress",
    ):
        assert re.search(words, text), words


def test_a_model_is_exported_once_for_all_plans(mlp):
    for units in (1, 2):
        plan(mlp, "h100", units=units, batch=8, microbatches=[2, 4], rules="bp", **QUICK)
    assert {2, 4} <= set(mlp._sizes) <= {2, 4, 8, 64}


def test_a_cosine_is_reached_by_bp_in_one_step_and_by_lr_with_the_copies_that_it_takes(mlp):
    wanted = {"units": 2, "batch": 8, "target": "time-to-cosine", **QUICK}
    every = plan(mlp, "h100", cosine=0.3, **wanted)
    assert every.chosen.rule.startswith("bp")
    assert every.chosen.expected_cosine == 1
    few = plan(mlp, "h100", cosine=0.3, rules="lr,segments", noise_per_dim=0.1, **wanted)
    many = plan(mlp, "h100", cosine=0.6, rules="lr,segments", noise_per_dim=0.1, **wanted)
    assert 0.3 <= few.chosen.expected_cosine < 1
    assert 0.6 <= many.chosen.expected_cosine < 1
    assert every.value <= few.value <= many.value
    assert all(row.copies >= 1 for row in (*few.ranked, *many.ranked))


def test_what_does_not_fit_is_told_with_demand_capacity_shortage_and_computed_levers(mlp):
    unit = UnitSpec("small", peak={"fp32": 1e12, "fp16": 2e12}, memory=240_000, bandwidth="100 GB/s")
    machine = Machine.of(unit, count=2, link=LinkSpec(bandwidth="10 GB/s", latency="1 us"))
    with pytest.raises(DoesNotFitError, match=r"unit u\d needs [\d.]+ .?B, has 240.00 KB; short by [\d.]+ .?B") as told:
        plan(mlp, machine, batch=64, microbatches=1, rules="bp")
    found = {one.words: one for one in told.value.levers}
    assert found["2 micro-batches"].short > 0
    assert found["3 units"].short > 0
    assert found["state in fp16"].fits
    again = plan(mlp, machine, batch=64, microbatches=1, rules="bp", precision="fp16", target="memory", what_if=False)
    assert again.value <= found["state in fp16"].peak


def test_constants_of_the_law_come_from_gradcheck(mlp, tmp_path):
    path = tmp_path / "quality.json"
    curve = {"kind": "whole", "noise_of_one_copy": {"value": 532.0}}
    method = {"method": "lr", "input_code": "plain", "weight_noise": [], "scope": "joint", "curves": [curve]}
    path.write_text(json.dumps({"cut": "layer", "methods": [method]}))
    wanted = {"units": 2, "batch": 8, "microbatches": 1, "target": "time-to-cosine", "cosine": 0.3, "rules": "lr"}
    found = plan(mlp, "h100", quality=path, **wanted, **QUICK)
    assert (
        f"quality model: 2 per noise dimension; {path}: 532 for one copy of lr at 266 noise dimensions" in found.notes
    )


def test_a_machine_of_ones_own_grows_by_a_twin(mlp):
    fast, slow = (UnitSpec("own", peak={"fp32": peak}, bandwidth="100 GB/s") for peak in (1e12, 1e11))
    link = LinkSpec(bandwidth="10 GB/s", latency="1 us")
    machine = Machine.of(fast, count=2, link=link)
    found = plan(mlp, machine, batch=8, microbatches=2, rules="bp", search={"effort": "0.05"})
    assert found.one_more_unit.units == 3
    slower = Machine.of(fast, slow, link=link)
    assert plan(mlp, slower, batch=8, microbatches=2, rules="bp", **QUICK).value >= found.value


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, r"needs a model, or durations"),
        ({"model": "mlp", "target": "speed"}, r"target: 'speed' is not a choice"),
        ({"model": "mlp", "target": "time-to-cosine"}, r"time-to-cosine needs a cosine"),
        ({"model": "mlp", "cosine": 0.3}, r"time-to-cosine needs a cosine, and no other target has one"),
        ({"model": "mlp", "target": "time-to-cosine", "cosine": 1.5}, r"cosine: is 1.5, must be between 0 and 1"),
        ({"model": "mlp", "rules": "bp,magic"}, r"rules: 'magic' is not a choice"),
        ({"model": "mlp", "modes": "none"}, r"modes: 'none' is not a choice"),
        ({"model": "mlp", "hardware": "unit-grid"}, r"abstract units of unit-grid count tasks, not time"),
        ({"model": "mlp", "microbatches": 3}, r"cannot be split evenly into 3 micro-batches"),
        ({"model": "mlp", "microbatches": "0"}, r"is no list of whole numbers"),
        ({"model": "mlp", "noise_per_dim": 1}, r"noise_per_dim: is for target=time-to-cosine"),
        ({"model": "mlp", "idle_power": 1}, r"idle_power: is for target=energy"),
        ({"model": "mlp", "target": "energy"}, r"has no power, so that energy cannot be estimated"),
        ({"model": "mlp", "stages": 4}, r"stages: is for durations"),
        ({"model": "mlp", "durations": "f=1"}, r"got a model \(mlp\) and durations"),
        ({"durations": "f=1"}, r"needs units or stages"),
        ({"durations": "f=1", "hardware": "h100"}, r"hardware: is for a model"),
        ({"durations": "f=1", "units": 2, "batch": 4}, r"batch: is for a model"),
        ({"durations": "f=1", "units": 2, "rules": "segments"}, r"a table of durations has no segments"),
        ({"durations": "f=1", "units": 2, "microbatches": "2,4"}, r"got 2 numbers of micro-batches"),
        ({"durations": "f=1", "units": 2, "copies": 2}, r"copies: is for a model"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_message(keywords, message):
    with pytest.raises(AlrsimError, match=message):
        plan(**keywords)
