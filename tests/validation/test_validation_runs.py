"""A validation run: predicted before measured, in turns, resumable at any instant."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alrsim.errors import FileError, OptionError
from alrsim.execution.measuring.calibrate import calibration_job
from alrsim.progress import Progress, reporting
from alrsim.schedule.schedule import Schedule
from alrsim.validation.cells import CALIBRATION_MICROBATCHES, GRIDS, Cell
from alrsim.validation.draft import calibration_draft, draft, open_model, prepare_draft, require_disjoint
from alrsim.validation.journal import JOURNAL, read_journal
from alrsim.validation.records import problem_again, timeline_of
from alrsim.validation.run import run_validation
from alrsim.validation.score import score
from alrsim.validation.trace import recorded_runs, trace_bytes


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def kinds_of(lines: list[dict[str, Any]]) -> list[str]:
    return ["prediction" if "prediction" in one else one["cell"] for one in lines[1:] if "note" not in one]


def test_all_cells_are_predicted_before_one_is_measured_and_measured_in_turn(
    plan: Any, journal: Any, tmp_path: Path
) -> None:
    open_ = journal(tmp_path)
    run_validation(plan(check_gradients=True), open_)
    open_.close()
    names = [cell.name for cell in plan().cells]
    assert kinds_of(lines_of(tmp_path)) == ["prediction", "prediction", *names, *names, *names]
    for name in names:
        assert open_.notes[f"gradients of {name}"] == [], "bit-equal to the reference order"

    first = min(step.at for steps in open_.steps.values() for step in steps)
    assert all(prediction.at < first for prediction in open_.predictions.values())

    again = read_journal(tmp_path / JOURNAL)
    assert again is not None
    assert again.predictions == open_.predictions
    assert again.steps == open_.steps
    found = score(again, plan().cells)
    assert [row.name for row in found.cells] == names
    for row, cell in zip(found.cells, plan().cells, strict=True):
        assert row.predicted_ns > 0
        assert sum(row.terms.values()) == pytest.approx(row.predicted_ns / _middle(again, cell) - 1, abs=1e-9)
    (group,) = found.groups
    (one,) = group.speedups.values()
    first, other = found.cells
    assert one.measured == pytest.approx(first.measured_ns / other.measured_ns)
    assert [run.prediction.cell.name for run in recorded_runs(again, plan().cells)] == names
    assert all(len(trace_bytes(run)) < 8000 for run in recorded_runs(again, plan().cells))


def _middle(journal: Any, cell: Cell) -> int:
    return sorted(step.makespan_ns for step in journal.steps[cell.name])[1]


def test_a_measured_step_is_that_of_its_schedule(plan: Any, journal: Any) -> None:
    kept = journal(None, 1)
    run_validation(plan(1), kept)
    for cell in plan().cells:
        prediction, (step,) = kept.predictions[cell.name], kept.steps[cell.name]
        line = timeline_of(prediction, step)
        assert line.makespan == step.makespan_ns
        assert {span.task for span in line.spans} == {task.id for task in problem_again(prediction).tasks.tasks}
        assert sum(step.shares.values()) == len(line.units) * step.makespan_ns


def test_a_finished_run_is_not_run_again(plan: Any, journal: Any, tmp_path: Path) -> None:
    first = journal(tmp_path, 1)
    run_validation(plan(1), first)
    first.close()
    before = (tmp_path / JOURNAL).read_bytes()
    told: list[Progress] = []
    second = journal(tmp_path, 1)
    with reporting(told.append):
        run_validation(plan(1), second)
    second.close()
    assert told == []
    assert (tmp_path / JOURNAL).read_bytes() == before


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import tiny_journal, tiny_plan
from alrsim.validation.run import run_validation
run_validation(tiny_plan(4000), tiny_journal(Path({folder!r}), 4000))
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(plan: Any, journal: Any, tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    worker = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    path = tmp_path / JOURNAL
    try:
        deadline = time.monotonic() + 300
        while not (path.exists() and path.read_bytes().count(b'"step"') >= 3):
            assert worker.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    with path.open("ab") as file:
        file.write(b'{"cell":"mlp/m2/bp:gpipe","step":{"turn"')  # as if the kill had come in the middle of a line
    kept = path.read_bytes()[: path.read_bytes().rfind(b"\n") + 1]
    measured = Counter(kinds_of([json.loads(line) for line in kept.splitlines()]))
    repeats = max(measured[cell.name] for cell in plan().cells) + 2
    # The same run in the same folder, except that it shall end.
    path.write_bytes(path.read_bytes().replace(b'"repeats":4000', b'"repeats":%d' % repeats, 1))

    resumed = journal(tmp_path, repeats)
    run_validation(plan(repeats), resumed)
    resumed.close()
    after = path.read_bytes()
    assert after.split(b"\n", 1)[1].startswith(kept.split(b"\n", 1)[1]), "nothing is lost"
    found = lines_of(tmp_path)
    assert Counter(kinds_of(found)) == {"prediction": 2, **dict.fromkeys((cell.name for cell in plan().cells), repeats)}
    for cell in plan().cells:
        turns = [one["step"]["turn"] for one in found if one.get("cell") == cell.name]
        assert turns == list(range(repeats)), "nothing is run twice"


def test_another_run_in_the_same_folder_is_refused(plan: Any, journal: Any, tmp_path: Path) -> None:
    journal(tmp_path, 1).close()
    with pytest.raises(FileError, match="holds another run: its repeats is 1, not 2"):
        journal(tmp_path, 2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"not json\n", "line 2 is no line of a validation run"),
        (b"[]\n", "line 2 is no line of a validation run"),
        (b'{"cell": "mlp/m2/bp:gpipe", "step": {}}\n', "line 2 is no line of a validation run"),
        (b'{"prediction": {"at": "now"}}\n', "line 2: cell: Field required"),
    ],
)
def test_a_damaged_journal_gives_one_clear_error(journal: Any, tmp_path: Path, line: bytes, words: str) -> None:
    journal(tmp_path).close()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(line)
    with pytest.raises(FileError, match=words) as caught:
        journal(tmp_path)
    assert "another --out" in caught.value.fix


def test_a_cell_cannot_be_measured_before_it_is_predicted(plan: Any, journal: Any) -> None:
    kept = journal(None, 1)
    run_validation(plan(1), kept)
    cell = plan().cells[0]
    (step,) = kept.steps[cell.name]
    with pytest.raises(ValueError, match="before it was predicted"):
        journal(None).measure(cell, step)
    with pytest.raises(ValueError, match="turn 0 after 1"):
        kept.measure(cell, step)


def test_no_cell_is_predicted_from_a_measurement_of_itself(plan: Any) -> None:
    opened = open_model(plan().models["mlp"], 4, 0)
    drafts = [draft(opened, cell) for cell in plan().cells]
    calibrations = [calibration_draft(opened, one) for one in drafts]
    assert [one.key for one in calibrations] == [one.key for one in drafts], "the same tasks"
    require_disjoint(calibrations, drafts, {})
    run = calibration_job(prepare_draft(opened, calibrations[0]), 2)
    assert run.schedule.digest == calibrations[0].reference.digest, "what is run is what is checked"
    same = draft(opened, replace(plan().cells[1], microbatches=CALIBRATION_MICROBATCHES))
    with pytest.raises(OptionError, match="on the very step that they shall predict"):
        require_disjoint(calibrations, [*drafts, same], {})
    reference = calibrations[0].reference
    with pytest.raises(OptionError, match="on the very step"):
        require_disjoint(calibrations, drafts, {"x": Schedule(reference.lanes, "another name")})


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_disjoint_from_its_calibration_and_has_every_method(name: str) -> None:
    cells = GRIDS[name].cells
    assert CALIBRATION_MICROBATCHES not in {cell.microbatches for cell in cells}
    assert len({cell.name for cell in cells}) == len(cells)
    methods = {"bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed", "lr:lr-free", "alr:lr-free"}
    for model in {cell.model for cell in cells}:
        assert methods <= {cell.method for cell in cells if cell.model == model}
    if name == "full":
        assert len(cells) >= 60
        assert len({cell.model for cell in cells}) == 5
