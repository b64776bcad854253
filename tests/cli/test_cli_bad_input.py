"""Bad input: one clear message on stderr, exit 1, no traceback, and no file left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from alrsim.files import to_json
from alrsim.rules import RuleOptions
from alrsim.schedule.recipe import Recipe

# (command line, what the message must contain); {tmp} is an empty folder but for the files of `folder` below
CASES: list[tuple[str, str]] = [
    # the command itself
    ("bogus", "No such command 'bogus'"),
    ("compare", "Missing argument 'MODEL'"),
    ("hardware", "Missing command"),
    ("hardware lits", "No such command 'lits'"),
    ("compar {graph}", "did you mean compare?"),
    ("hardware lst", "did you mean list?"),
    ("compare {graph} --unit 2", "No such option: --unit; did you mean --units"),
    ("compare {graph} --plan {tmp}/ok.json", "No such option: --plan; use --estimators"),
    ("gradcheck mlp --data digits", "No such option: --data; use --dataset"),
    ("gradcheck mlp -o {tmp}/plan.json", "--output: what it writes is made by --suggest"),
    ("plan mlp --target time-to-cosine 0.3", "an option of its own: --cosine 0.3"),
    ("calibrate --host", "Missing option '--output'"),
    ("calibrate --host -o {tmp}/host.yml", "does not end in .yaml"),
    ("compare {graph} --units two", "Invalid value for '--units'"),
    ("compare {graph} --json", "requires an argument"),
    ("figure2 surplus", "unexpected extra argument"),
    # MODEL
    ("graph resnet55", "try: resnet5 or"),
    ("graph nothing-like-it", "choose from"),
    ("graph {tmp}/none.onnx", "no such file"),
    ("graph {tmp}/none.json", "no such file"),
    ("graph {tmp}/none.py:make", "none.py"),
    ("graph {tmp}/cut.json", "is not valid JSON"),
    ("graph {tmp}/ok.json", "expected 'alrsim.graph/1'"),
    ("graph {tmp}/empty.onnx", "empty"),
    ("graph {tmp}/text.onnx", "ONNX"),
    ("graph mlp --option depht=3", "no option 'depht'"),
    ("graph mlp --option classes", "not of the form KEY=VALUE"),
    ("graph mlp --option seed=1 --option seed=2", "given twice"),
    ("graph {graph} --option norm=group", "only zoo models have options"),
    ("graph mlp --bind N=3", "only .onnx files have dynamic dimensions"),
    ("graph {tmp}/none.onnx --bind N=0", "whole number of at least 1"),
    ("graph mlp --batch 0", "--batch: is 0, must be at least 1"),
    ("compare {graph} --batch 7", "holds 8 samples"),
    ("compare mlp --batch 10 -m 4", "cannot be split evenly into 4 micro-batches"),
    # machine
    ("compare {graph} --hardware h10", "no hardware profile is called 'h10'"),
    ("compare {graph} --hardware {tmp}/none.yaml", "no such file"),
    ("compare {graph} --hardware {tmp}/bad.yaml", "surprise"),
    ("compare {graph} --units 0", "--units: is 0, must be at least 1"),
    ("hardware show nope", "no hardware profile is called 'nope'"),
    ("hardware validate nope", "neither a shipped profile nor a file"),
    # options of the rules
    ("compare {graph} --microbatches 0", "--microbatches"),
    ("compare {graph} --copies 0", "--copies: is 0, must be at least 1"),
    ("compare {graph} --copies 4 --group 3 --methods lr:list", "do not divide"),
    ("compare {graph} --baseline mean", "choose from clean, copy-mean, antithetic, none"),
    ("compare {graph} --baseline copy-mean --methods lr:list", "needs at least 2 copies"),
    ("compare {graph} --scope layer-wise", "try: layerwise;"),
    ("compare {graph} --reduce sum", "choose from stack, accumulate"),
    ("compare {graph} --optimizer adamw", "try: adam;"),
    ("compare {graph} --precision fp23", "'fp23' is not a number format"),
    ("compare {graph} --precision weights=fp32", "'weights' is not a kind of state"),
    ("compare {graph} --precision saved=regenerated", "only noise can"),
    ("compare {graph} --precision activations=sign1", "activations cannot be sign1"),
    ("compare {graph} --segments 1;2 --methods segments:list", "not a list of stage numbers"),
    ("compare {graph} --segments 9 --methods segments:list", "not ascending stages"),
    ("compare {graph} --methods segments:list", "needs the first stage of every segment"),
    ("compare {graph} --cut slices", "unknown cut 'slices'"),
    ("compare {graph} --cut balanced:1000", "balanced"),
    ("compare {graph} --overlap 2", "--overlap: 2 is not above 0 and at most 1"),
    ("compare {graph} --overlap abc", "'abc' is not a number"),
    ("compare {graph} --transfer-semantics linked", "try: link;"),
    # methods
    ("compare {graph} --methods ,", "--methods: needs at least one"),
    ("compare {graph} --methods gpipe", "not of the form rule:scheduler"),
    ("compare {graph} --methods pb:gpipe", "try: bp;"),
    ("compare {graph} --methods bp:gpip", "try: gpipe;"),
    ("compare {graph} --methods bp:lr-free", "takes rule lr or segments, not bp"),
    ("compare {graph} --methods alr:zb-v", "takes rule bp-split, not alr"),
    ("compare {graph} --methods bp:gpipe,bp:gpipe", "listed twice"),
    ("compare {graph} --methods bp:gpipe --cut operator --units 2", "one stage on each unit"),
    # measuring
    ("compare mlp --hardware h100 --measure", "measuring runs on this host"),
    ("compare {graph} --measure", "only torch models can be run"),
    ("compare mlp --measure --repeats 0", "--repeats"),
    ("execute mlp", "needs a schedule file or a method"),
    ("execute mlp --method bp:gpipe --precision bf16 --units 2 --batch 4", "cannot be executed"),
    # targets
    ("compare {graph} --json {tmp}/no/such/r.json", "its folder does not exist"),
    ("compare {graph} --json {tmp}", "is a folder, not a file"),
    ("compare no-such-model --json {tmp}/{long}", "File name too long"),
    ("compare no-such-model --json /proc/sys/r.json", "--json /proc/sys/r.json: cannot be written"),
    ("compare no-such-model --out /proc/sys/r", "--out /proc/sys/r: cannot be written"),
    ("train no-such-model --out /proc/sys/r", "--out /proc/sys/r: cannot be written"),
    ("validate --out /proc/sys/r", "--out /proc/sys/r: cannot be written"),
    ("graph {tmp}/{long}.onnx", "cannot be read: File name too long"),
    ("replay {tmp}/{long}", "no such file"),
    ("simulate {tmp}/recipe.json {graph}", "rule: '' is no rule"),
    ("schedule {graph} --units 2 --method bp:auto --time-limit inf", "--time-limit: inf is no number"),
    ("schedule {graph} --units 2 --method bp:auto --search time_limit=inf", "must be above 0, and finite"),
    ("compare {graph} --out {tmp}/ok.json/deeper", "is a file, not a folder"),
    ("export mlp -o {tmp}/mlp.pt", "does not end in .onnx"),
    ("export {graph} -o {tmp}/again.onnx", "is a file already"),
    ("schedule {graph} --units 2 -o {tmp}/order.txt", "neither in .json nor in .csv"),
    # simulate
    ("simulate", "needs a model, or durations"),
    ("simulate {graph}", "needs a schedule file or a method"),
    ("simulate {graph} {graph} --method bp:gpipe", "got 2 models"),
    ("simulate {tmp}/ok.json {tmp}/ok.json --durations f=1", "got 2 schedule files"),
    ("simulate {graph} --method bp:gpipe --durations f=1", "give one of the two"),
    ("simulate {tmp}/ok.json --method bp:gpipe --durations f=1", "got a schedule file"),
    ("simulate --method bp:gpipe --units 2 --durations b=1", "needs at least f"),
    ("simulate --method bp:gpipe --units 2 --durations f=1,q=2", "'q' is not a duration"),
    ("simulate --method bp:gpipe --units 2 --durations f=-1", "is negative"),
    ("simulate --method bp:gpipe --units 2 --durations f=1/0", "is not a number"),
    ("simulate --method bp:gpipe --units 2 --durations f=nan", "is not a number"),
    ("simulate --method bp:gpipe --durations f=1", "--units: of a textbook problem without a schedule file"),
    ("simulate --method bp:gpipe --units 2 --durations f=1 --repair", "--repair: is for schedule files"),
    ("simulate --method lr:lr-fixed --units 2 --loss-unit 7 --durations f=1,l=1", "loss unit 7 does not exist"),
    ("simulate {tmp}/ok.json --durations f=1 --units 1", "--units: is 1, but"),
    ("simulate {tmp}/ok.json --durations f=1 --microbatches 3", "--microbatches: is 3, but"),
    ("simulate {tmp}/ok.json --durations f=1 --stages 3", "--stages: is 3, but"),
    ("simulate {tmp}/none.csv --durations f=1", "no such file"),
    ("simulate {tmp}/empty.csv --durations f=1", "is empty"),
    ("simulate {tmp}/cut.json --durations f=1", "is not valid JSON"),
    ("simulate {tmp}/list.json --durations f=1", "is not a schedule"),
    ("simulate {tmp}/token.json --durations f=1", "'0Q0' is not a task token"),
    ("simulate {tmp}/moves.json --durations f=1", "0X0"),
    ("simulate {tmp}/missing.json --durations f=1", "missing: 1B0"),
    ("simulate {tmp}/double.json --durations f=1", "double: 0F0"),
    ("simulate {tmp}/deadlock.json --durations f=1", "->"),
    ("simulate {tmp}/backwards.json --durations f=1", "no forward task"),
    ("simulate {tmp}/action.csv --durations f=1", "is not an action of PyTorch's pipelining"),
    ("simulate {tmp}/ok.json {graph} --cut operator", "but cut operator makes"),
    ("figure2 --layers 0", "must be at least 1"),
    ("figure2 --microbatches -1", "must be at least 1"),
    ("figure2 --layers 100 --microbatches 100", "cannot be drawn readably"),
]


RECIPE = {
    "format": "alrsim.schedule/1",
    "value": {"lanes": [{"unit": "u0", "tasks": ["0F0", "0B0"]}], "name": "serial", "overlaps": []},
    "recipe": to_json("recipe", Recipe("mlp", 1, "", RuleOptions(), (("a",),))),
}
"""A schedule whose recipe names no rule."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bad files to read."""
    texts = {
        "ok.json": json.dumps({"u0": "0F0 0B0", "u1": "1F0 1B0"}),
        "cut.json": '{"u0": "0F0',
        "list.json": "[1, 2]",
        "token.json": json.dumps({"u0": "0F0 0Q0"}),
        "moves.json": json.dumps({"u0": "0F0 0X0 0B0"}),
        "missing.json": json.dumps({"u0": "0F0 0B0", "u1": "1F0"}),
        "double.json": json.dumps({"u0": "0F0 0F0 0B0", "u1": "1F0 1B0"}),
        "deadlock.json": json.dumps({"u0": "0B0 0F0", "u1": "1F0 1B0"}),
        "backwards.json": json.dumps({"u0": "0B0"}),
        "recipe.json": json.dumps(RECIPE),
        "empty.csv": "",
        "action.csv": "0F0,0DANCE0\n",
        "empty.onnx": "",
        "text.onnx": "this is no model\n",
        "bad.yaml": "name: bad\ndevice: none\nkind: host\nsurprise: 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_there_are_many_bad_inputs_and_each_is_another() -> None:
    assert len(CASES) >= 60
    assert len({line for line, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line for line, _ in CASES])
def test_bad_input_gets_one_message_and_leaves_no_file(
    alrsim: Any, folder: Path, graph_file: Path, line: str, message: str
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    argv = [word.format(tmp=folder, graph=graph_file, long="x" * 5000) for word in line.split()]
    targets = () if "--json" in argv else ("--json", folder / "result.json")
    ran = alrsim(*argv, *(targets if argv[0] != "hardware" and argv[0] != "bogus" else ()))
    assert ran.status == 1, ran.err
    assert message in ran.err
    assert ran.out == ""
    assert ran.err.count("error: ") == 1
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) < 40
    assert len(ran.err) < 4000
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compare {graph} --units 99999999999999999999", "a machine has 1 to 1048576 units"),
        ("simulate --method bp:gpipe --units 100000000 --durations f=1", "a machine has 1 to 1048576 units"),
        ("simulate --method bp:gpipe --units 2 -m 10000000000 --durations f=1", "tasks are more than 2,147,483,647"),
        ("simulate --method bp:zb-v --units 4 --chunks 99999999999 --durations f=1", "a chain has 1 to"),
        ("compare {graph} --copies 99999999999 --group 1", "forward tasks, more than"),
        ("simulate --method bp:gpipe --units 2 --durations f=1e999999999", "is not a number between"),
        ("simulate --method bp:gpipe --units 2 --durations f=1e400,b=1/3", "is not a number between"),
        ("simulate --method bp:gpipe --units 2 --durations f=1_000", "is not a number between"),
        ("simulate --method bp:gpipe --units 2 --durations f=1/0", "is not a number between"),
        ("simulate --method bp:gpipe --units 2 --durations f=１", "is not a number between"),
        ("simulate --method bp:gpipe --units 2 --durations f=1 --hardware h100", "is for a model, not for durations"),
        ("simulate --method bp:gpipe --units 2 --durations f=1 --cut layer", "is for a model, not for durations"),
        ("compare {graph} --methods bp:gpipe,,bp:1f1b", "has an item without a word"),
        ("stages {graph} --cut names:", "needs at least one operator"),
        ("compare {graph} --seed -1", "--seed: is -1, must be at least 0"),
    ],
)  # fmt: skip
def test_numbers_beyond_sense_are_refused_at_once(alrsim: Any, graph_file: Path, command: str, message: str) -> None:
    ran = alrsim(*command.format(graph=graph_file).split())
    assert ran.status == 1, ran.err
    assert message in ran.err
    assert not ran.out
