"""``alrsim plan``: the words of the command, and files that later verbs take; numbers are tested on the function."""

import json
import re

import pytest

QUICK = ("--search", "effort=0.05", "--no-what-if")


def asked(alrsim, *argv):
    """The JSON of a call."""
    ran = alrsim(*argv, "--json", "-")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_simulate_and_execute_take_the_file_of_a_torch_model(alrsim, tmp_path):
    path = tmp_path / "plan.json"
    wanted = ("--hardware", "h100", "--units", 2, "--batch", 8, "-m", 2, "--rules", "lr", "--modes", "bits")
    document = asked(alrsim, "plan", "mlp", *wanted, *QUICK, "-o", path)
    simulated = asked(alrsim, "simulate", "mlp", path, "--hardware", "h100", "--units", 2)
    assert simulated["makespan"] == document["chosen"]["makespan"]
    measured = asked(alrsim, "execute", "mlp", "--schedule", path, "--units", 2, "--repeats", 1)
    assert measured["schedule"] == document["schedule"]


def test_the_text_says_what_is_chosen_and_why(alrsim, graph_file):
    ran = alrsim("plan", graph_file, "--hardware", "h100", "--units", 2, "--search", "effort=0.05")
    assert ran.status == 0, ran.err
    assert re.search(r"why: unit u\d+ is the bottleneck: stage \d+ \w+", ran.out)
    assert "--target time-to-cosine compares at equal quality" in ran.out


def test_constants_of_the_law_come_from_gradcheck(alrsim, graph_file, tmp_path):
    path = tmp_path / "quality.json"
    ran = alrsim("gradcheck", "mlp", "--methods", "lr", "--batch", 8, "--draws", 3, "--copies", "4,16", "--json", path)
    assert ran.status == 0, ran.err
    wanted = ("plan", graph_file, "--hardware", "h100", "--units", 2, "-m", "1", *QUICK)
    document = asked(alrsim, *wanted, "--target", "time-to-cosine", "--cosine", 0.3, "--rules", "lr", "--quality", path)
    (note,) = [note for note in document["notes"] if note.startswith("quality model")]
    assert str(path) in note
    assert "266 noise dimensions" in note


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), r"needs a model, or --durations"),
        (("mlp", "--target", "speed"), r"--target: 'speed' is not a choice"),
        (("mlp", "--cosine", "0.3"), r"time-to-cosine needs a cosine, and no other target has one"),
        (("mlp", "--rules", "bp,magic"), r"--rules: 'magic' is not a choice"),
        (("mlp", "--noise-per-dim", "1"), r"--noise-per-dim: is for --target time-to-cosine"),
        (("mlp", "--durations", "f=1"), r"got a model \(mlp\) and durations"),
        (("--durations", "f=1"), r"needs --units or --stages"),
        (("--durations", "f=1", "--units", "2", "-m", "2,4"), r"got 2 numbers of micro-batches"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_message(alrsim, argv, message):
    ran = alrsim("plan", *argv)
    assert (ran.status, ran.out) == (1, "")
    assert re.search(message, ran.err), ran.err
    assert "bug" not in ran.err
