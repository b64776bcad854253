"""Recorded runs on disk: what is written reads back, and whatever else lies there gives one clear error."""

import gzip
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alrsim.errors import FileError
from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.schedulers import SCHEDULERS
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem
from alrsim.validation.cells import Cell
from alrsim.validation.records import Host, blank_prediction, predicted, step_of
from alrsim.validation.replaying import accepted, replay_run
from alrsim.validation.trace import RecordedRun, find_traces, read_trace, trace_bytes, trace_name

HOST = Host("cuda", "H100", 16, "2.9", "0.1.0", "abc", "cuda", 1, 0, "events")


def small_run(slower: int = 1) -> RecordedRun:
    """A chain of three stages, predicted by the simulator and "measured" by it at ``slower`` times the durations."""
    stages, options, cell = chain(3), RuleOptions(microbatches=3), Cell("chain", 3, "bp:gpipe")
    tasks = RULES["bp"](stages, options)
    ticks = {"F": 1000, "B": 2000, "L": 300, "U": 100}
    rows = {kind: (time,) * 3 for kind, time in ticks.items()}
    problem = Problem(tasks, abstract_machine(3, 50), tuple(rows[task.id.kind] for task in tasks.tasks), "calibrated")
    schedule = SCHEDULERS["gpipe"].function(problem)
    blank = blank_prediction(cell, "2026-01-01T00:00:00Z", options, (), stages, schedule, problem, "link", "c0ffee")
    measured = replace(problem, durations=tuple(tuple(slower * time for time in row) for row in problem.durations))
    line = replace(simulate(measured, schedule, semantics="link"), source="measured")
    step = replace(step_of(0, schedule, tasks, line), at="2026-01-01T00:00:01Z")
    return RecordedRun(HOST, predicted(blank, problem), step, (step.makespan_ns,), step.peaks)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / trace_name(small_run())
    path.write_bytes(trace_bytes(small_run()))
    return path


def test_a_recorded_run_reads_back_equal_and_is_small(written: Path) -> None:
    assert read_trace(written) == small_run()
    assert trace_bytes(read_trace(written)) == written.read_bytes()
    assert written.stat().st_size < 4000
    assert written.name == "chain-m3-bp_gpipe.trace.json.gz"


def test_a_replay_predicts_the_same_to_the_nanosecond(written: Path) -> None:
    again = replay_run(written)
    assert again.now == again.run.prediction
    assert again.error_now == again.error_then == 0
    assert again.verdict == "same"
    assert accepted(again) is None, "nothing to write"


def test_a_prediction_that_gets_worse_is_noticed_and_not_accepted(tmp_path: Path) -> None:
    run = small_run()
    prediction = replace(run.prediction, makespan_ns=run.step.makespan_ns + 1)
    path = tmp_path / "better.trace.json.gz"
    path.write_bytes(trace_bytes(replace(run, prediction=prediction)))
    better = replay_run(path)
    assert better.verdict == "better"
    data = accepted(better)
    assert data is not None
    path.write_bytes(data)
    assert read_trace(path) == run, "the prediction of today, the same measurement"

    slow = small_run(slower=2)
    lucky = replace(slow.prediction, makespan_ns=slow.step.makespan_ns - 1)
    path.write_bytes(trace_bytes(replace(slow, prediction=lucky)))
    worse = replay_run(path)
    assert worse.verdict == "worse"
    assert accepted(worse) is None


def edited(data: bytes, change: Any) -> bytes:
    """The file with its document changed, the checksum left as it was."""
    document = json.loads(gzip.decompress(data))
    return gzip.compress(json.dumps(change(document)).encode())


def signed(document: dict[str, Any]) -> bytes:
    """A file with a checksum that is right."""
    from alrsim.validation.trace import _checksum

    return gzip.compress(json.dumps({**document, "sha256": _checksum(document["value"])}).encode())


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    here = document
    for key in path[:-1]:
        here = here[key]
    del here[path[-1]]
    return document


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "was cut off"),
        (lambda data: data[:5], "was cut off"),
        (lambda data: b"", "was cut off|holds no JSON"),
        (lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], "was damaged|was edited|holds no JSON"),
        (lambda data: b"not gzip at all", "is no recorded run"),
        (lambda data: gzip.decompress(data), "is no recorded run"),
        (lambda data: gzip.compress(b"\x80\x04not json"), "holds no JSON"),
        (lambda data: pickle.dumps({"format": "alrsim.recorded-run/1"}), "is no recorded run"),
        (lambda data: gzip.compress(pickle.dumps({"format": "alrsim.recorded-run/1"})), "holds no JSON"),
        (lambda data: gzip.compress(b"[1, 2]"), "no format tag"),
        (lambda data: edited(data, lambda d: {**d, "format": "alrsim.schedule/1"}), "holds 'alrsim.schedule/1'"),
        (lambda data: edited(data, lambda d: {**d, "format": "alrsim.recorded-run/2"}), "is of version 2"),
        (lambda data: edited(data, lambda d: {**d, "value": {**d["value"], "makespans": [5]}}), "was edited"),
        (lambda data: edited(data, lambda d: {**d, "sha256": "0"}), "was edited"),
        (lambda data: edited(data, lambda d: without(d, "value")), "was edited"),
        (lambda data: signed(without(json.loads(gzip.decompress(data)), "value", "step")), "step: "),
        (lambda data: signed(without(json.loads(gzip.decompress(data)), "value", "prediction", "costs")), "costs: "),
    ],
)
def test_a_file_that_is_none_gives_one_clear_error(written: Path, change: Any, words: str) -> None:
    written.write_bytes(change(written.read_bytes()))
    with pytest.raises(FileError, match=words) as caught:
        read_trace(written)
    assert caught.value.where == str(written)


def test_a_pickle_is_never_loaded(written: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harm",)

    for data in (pickle.dumps(Harm()), gzip.compress(pickle.dumps(Harm()))):
        written.write_bytes(data)
        with pytest.raises(FileError):
            read_trace(written)
    assert not (tmp_path / "harm").exists()


def test_folders_are_searched_and_empty_ones_refused(written: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    other = deep / written.name
    other.write_bytes(written.read_bytes())
    assert find_traces([tmp_path]) == sorted([written, other])
    assert find_traces([written, tmp_path / "a"]) == [written, other]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no recorded run"):
        find_traces([tmp_path / "empty"])
    with pytest.raises(FileError, match="no such file"):
        find_traces([tmp_path / "none"])


def test_replaying_needs_neither_torch_nor_onnx(written: Path) -> None:
    code = (
        "import sys\n"
        "from alrsim.cli.main import run\n"
        f"assert run(['replay', {str(written)!r}]) == 0\n"
        "print([name for name in ('torch', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_one_clear_error(written: Path, number: str) -> None:
    text = gzip.decompress(written.read_bytes()).decode()
    changed = re.sub(r'"makespan_ns":\d+', f'"makespan_ns":{number}', text)
    assert changed != text
    written.write_bytes(gzip.compress(changed.encode()))
    with pytest.raises(FileError, match="is no finite number"):
        read_trace(written)
