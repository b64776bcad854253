"""``alrsim plan``: the paper's example, real models, files that later verbs take, targets, and what is refused."""

import json
import re
from importlib.util import find_spec

import pytest
from jsonschema import Draft202012Validator

from alrsim.documents import document_type, kind_of
from alrsim.hardware.profile import profile_folder

PAPER = ("plan", "--durations", "f=1,b=1,g=1,u=1,l=1", "--stages", 4, "--units", 5, "--loss-unit", 4, "-m", 3)
QUICK = ("--search", "effort=0.05", "--no-what-if")
FIXED, GRADIENTS = ("placement=fixed",), ("placement=fixed", "gradients=free")
FREE = ("placement=free",)


def asked(alrsim, *argv):
    """The JSON of a call, valid against its schema."""
    ran = alrsim(*argv, "--json", "-")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    Draft202012Validator(document_type(kind_of(document)).schema()).validate(document)
    return document


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
def test_the_papers_example_is_proved(alrsim, freedom, row, rule, steps):
    searched = [word for pair in freedom for word in ("--search", pair)]
    document = asked(alrsim, *PAPER, *searched, "--rules", rule, *(["--loss-row"] if row else []))
    (plan,) = document["plans"]
    assert (plan["makespan"], plan["bound"], plan["gap"], plan["status"]) == (steps, steps, 0, "OPTIMAL")


def test_rules_are_ranked_and_the_chosen_schedule_simulates_to_the_same_makespan(alrsim, tmp_path):
    path = tmp_path / "best.json"
    durations = "f=1,b=1,w=1,transfer=1/4"
    document = asked(
        alrsim, "plan", "--durations", durations, "--units", 3, "-m", 4, "--search", "placement=fixed", "-o", path
    )
    spans = [plan["makespan"] for plan in document["plans"]]
    assert spans == sorted(spans)
    assert {plan["rule"] for plan in document["plans"]} == {"bp", "bp-split", "lr"}
    assert document["chosen"] == document["plans"][0]["rule"]
    ran = alrsim("simulate", path, "--durations", durations, "--json", "-")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["makespan"] == spans[0]
    text = alrsim("plan", "--durations", durations, "--units", 3, "-m", 4, "--search", "placement=fixed").out
    assert "A step of LR with one copy is not a step of BP in progress" in text


@pytest.mark.parametrize("rules", ["bp,bp-split", "lr"])
@pytest.mark.parametrize("target", ["step-time", "memory", "energy"])
def test_a_plan_of_a_model_is_what_simulate_makes_of_its_file(alrsim, graph_file, tmp_path, rules, target):
    path = tmp_path / "plan.json"
    machine = ("--hardware", "h100", "--units", 2)
    document = asked(
        alrsim, "plan", graph_file, *machine, "-m", 2, "--target", target, "--rules", rules, *QUICK, "-o", path
    )
    chosen = document["chosen"]
    ran = alrsim("simulate", graph_file, path, *machine, "--json", "-")
    assert ran.status == 0, ran.err
    simulated = json.loads(ran.out)
    assert simulated["makespan_ns"] == chosen["makespan_ns"]
    assert simulated["peak_memory_bytes"] == chosen["peak_memory_bytes"]
    assert simulated["schedule"] == chosen["schedule"]
    numbers = {
        "step-time": chosen["makespan_ns"],
        "memory": max(chosen["peak_memory_bytes"].values()),
        "energy": chosen["energy_joules"],
    }
    assert document["value"] == pytest.approx(numbers[target])
    assert 0 < document["bound"] <= document["value"]
    assert document["gap"] == pytest.approx(document["value"] / document["bound"] - 1)
    assert all(row["bound"] >= document["bound"] for row in document["ranked"])


def test_simulate_and_execute_take_the_file_of_a_torch_model(alrsim, tmp_path):
    path = tmp_path / "plan.json"
    wanted = ("--hardware", "h100", "--units", 2, "--batch", 8, "-m", 2, "--rules", "lr", "--modes", "bits")
    chosen = asked(alrsim, "plan", "mlp", *wanted, *QUICK, "-o", path)["chosen"]
    ran = alrsim("simulate", "mlp", path, "--hardware", "h100", "--units", 2, "--json", "-")
    assert json.loads(ran.out)["makespan_ns"] == chosen["makespan_ns"]
    ran = alrsim("execute", "mlp", "--schedule", path, "--units", 2, "--repeats", 1, "--json", "-")
    assert ran.status == 0, ran.err
    measured = json.loads(ran.out)
    assert measured["schedule"] == chosen["schedule"]


def test_the_text_says_plan_runner_up_bound_gap_bottleneck_one_more_unit_and_what_a_step_of_lr_is(alrsim, graph_file):
    ran = alrsim("plan", graph_file, "--hardware", "h100", "--units", 2, "--search", "effort=0.05")
    assert ran.status == 0, ran.err
    for words in (
        r"chosen: ",
        r"runner-up: .*x",
        r"lower bound .*, gap [\d.]+ % over all \d+ candidates",
        r"why: unit u\d+ is the bottleneck: stage \d+ \w+",
        r"one more unit \(3\) would give [\d.]+x",
        r"is not a step of BP in progress",
    ):
        assert re.search(words, ran.out), words


def test_a_cosine_is_reached_by_bp_in_one_step_and_by_lr_with_the_copies_that_it_takes(alrsim, graph_file):
    wanted = ("plan", graph_file, "--hardware", "h100", "--units", 2, *QUICK, "--target", "time-to-cosine")
    every = asked(alrsim, *wanted, "0.3")
    assert every["chosen"]["rule"].startswith("bp")
    assert every["chosen"]["expected_cosine"] == 1
    few = asked(alrsim, *wanted, "0.3", "--rules", "lr,segments", "--noise-per-dim", 0.1)
    many = asked(alrsim, *wanted, "0.6", "--rules", "lr,segments", "--noise-per-dim", 0.1)
    assert 0.3 <= few["chosen"]["expected_cosine"] < 1
    assert 0.6 <= many["chosen"]["expected_cosine"] < 1
    assert few["value"] <= many["value"]
    assert every["value"] <= few["value"]
    for row in (*few["ranked"], *many["ranked"]):
        assert row["copies"] >= 1


def test_constants_of_the_law_come_from_gradcheck(alrsim, graph_file, tmp_path):
    path = tmp_path / "quality.json"
    ran = alrsim("gradcheck", "mlp", "--methods", "lr", "--batch", 8, "--draws", 3, "--copies", "4,16", "--json", path)
    assert ran.status == 0, ran.err
    wanted = ("plan", graph_file, "--hardware", "h100", "--units", 2, "-m", "1", *QUICK)
    document = asked(alrsim, *wanted, "--target", "time-to-cosine", "0.3", "--rules", "lr", "--quality", path)
    (note,) = [note for note in document["notes"] if note.startswith("quality model")]
    assert str(path) in note
    assert "266 noise dimensions" in note


def test_what_does_not_fit_is_told_with_demand_capacity_shortage_and_computed_levers(alrsim, tmp_path):
    profile = tmp_path / "small.yaml"
    text = (profile_folder() / "t4.yaml").read_text(encoding="utf-8")
    profile.write_text(re.sub(r"(memory_gb:\s+value: )16", r"\g<1>0.00024", text), encoding="utf-8")
    wanted = ["plan", "mlp", "--hardware", profile, "--units", 2, "--batch", 64, "-m", "1", "--rules", "bp"]
    ran = alrsim(*wanted)
    assert ran.status == 1
    assert re.search(r"unit u\d needs [\d.]+ .?B, has 240.00 KB; short by [\d.]+ .?B", ran.err), ran.err
    assert re.search(r"2 micro-batches: does not suffice, short by [\d.]+ KB", ran.err), ran.err
    assert re.search(r"3 units: does not suffice, short by [\d.]+ KB", ran.err), ran.err
    lever = re.search(r"state in fp16: fits, with at most ([\d.]+) KB on a unit", ran.err)
    assert lever is not None, ran.err
    again = asked(alrsim, *wanted, "--precision", "fp16", "--target", "memory", "--no-what-if")
    assert again["value"] <= float(lever[1]) * 1000 * 1.01


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), r"needs a model, or --durations"),
        (("mlp", "--target", "speed"), r"--target: 'speed' is no target"),
        (("mlp", "--target", "time-to-cosine"), r"time-to-cosine needs a cosine"),
        (("mlp", "0.3"), r"time-to-cosine needs a cosine, and no other target has one"),
        (("mlp", "--target", "time-to-cosine", "1.5"), r"COSINE: is 1.5, a cosine is between 0 and 1"),
        (("mlp", "mlp"), r"got mlp and mlp"),
        (("mlp", "--rules", "bp,magic"), r"--rules: 'magic' is no choice"),
        (("mlp", "--modes", "none"), r"--modes: 'none' is no choice"),
        (("mlp", "--hardware", "unit-grid"), r"abstract units count tasks, not time"),
        (("mlp", "-m", "3"), r"cannot be split evenly into 3 micro-batches"),
        (("mlp", "-m", "0"), r"is no list of whole numbers"),
        (("mlp", "--noise-per-dim", "1"), r"--noise-per-dim: is for --target time-to-cosine"),
        (("mlp", "--idle-power", "1"), r"--idle-power: is for --target energy"),
        (("mlp", "--target", "energy", "--hardware", "cpu-2core"), r"has no power, so that energy cannot be estimated"),
        (("mlp", "--stages", "4"), r"--stages: is for --durations"),
        (("mlp", "--durations", "f=1"), r"got a model \(mlp\) and --durations"),
        (("--durations", "f=1"), r"needs --units or --stages"),
        (("--durations", "f=1", "--units", "2", "--batch", "4"), r"--batch: is for a model"),
        (("--durations", "f=1", "--units", "2", "--rules", "segments"), r"a table of durations has no segments"),
        (("--durations", "f=1", "--units", "2", "-m", "2,4"), r"got 2 numbers of micro-batches"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_message(alrsim, argv, message):
    ran = alrsim("plan", *argv)
    assert (ran.status, ran.out) == (1, "")
    assert re.search(message, ran.err), ran.err
    assert "bug" not in ran.err
