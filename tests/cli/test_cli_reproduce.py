"""``alrsim reproduce``: what it prints, writes, resumes and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import alrsim as al
from alrsim.errors import AlrsimError, ExecutionError, FileError
from alrsim.experiments.claim import Claim
from alrsim.experiments.context import Context, Memo, open_memo
from alrsim.experiments.registry import CLAIMS
from alrsim.experiments.result import ReproduceResult
from alrsim.experiments.rules import Measured, Rule
from alrsim.experiments.run import examine, from_plain, open_run, run_claims

CHEAP = "alr.fig2.speedup,alr.fig2.lr-idle,alr.sec43.memory,alr.tab3.levels,alr.tab1.levels"


def document_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    Draft202012Validator(ReproduceResult.schema()).validate(found)
    return found


def test_cheap_claims_from_measurement_to_report_and_nothing_twice(alrsim: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = alrsim("reproduce", "--quick", "--claims", CHEAP, "--out", out)
    assert ran.status == 0
    names = {"claims.jsonl", "parts.jsonl", "result.json", "report.md", "overview.png"}
    assert {path.name for path in out.iterdir()} == names
    document = document_of((out / "result.json").read_text())
    verdicts = {row["id"]: row["verdict"] for row in document["claims"]}
    assert verdicts == {
        "alr.fig2.lr-idle": "reproduced",
        "alr.fig2.speedup": "reproduced",
        "alr.sec43.memory": "reproduced",
        "alr.tab1.levels": "not testable here",
        "alr.tab3.levels": "not testable here",
    }
    by_id = {row["id"]: row for row in document["claims"]}
    assert by_id["alr.sec43.memory"]["measured"]["detail"]["predicted ratio"] == pytest.approx(4.0, rel=0.01)
    assert "CIFAR-100" in by_id["alr.tab1.levels"]["why"]
    assert (out / "overview.png").read_bytes().startswith(b"\x89PNG")
    report = (out / "report.md").read_text()
    assert all(f"`{name}`" in report for name in verdicts)
    assert "5 claims: 3 reproduced, 2 not testable here" in ran.out
    assert f"wrote {out / 'overview.png'}" in ran.out

    lines = (out / "claims.jsonl").read_text()
    again = alrsim("reproduce", "--quick", "--claims", CHEAP, "--out", out, "--resume", "--json", "-")
    assert (again.status, again.err) == (0, "")
    assert document_of(again.out) == document
    assert (out / "claims.jsonl").read_text() == lines, "nothing is measured again"
    assert alrsim("reproduce", "--quick", "--claims", "alr.fig2.speedup", "--out", out, "--seed", 1).status == 0
    assert len((out / "claims.jsonl").read_text()) > len(lines), "another seed is another measurement"


def test_python_gets_what_the_command_writes(tmp_path: Path) -> None:
    told: list[str] = []
    names = ["alr.fig2.lr-idle", "alr.tab3.levels"]
    found = al.reproduce(claims=names, quick=True, out=tmp_path, progress=lambda state: told.append(state.step))
    assert [step.partition(":")[0] for step in told if step] == names
    assert al.load(tmp_path / "result.json") == found
    assert (found["alr.fig2.lr-idle"].verdict, len(found), len(found.frame())) == ("reproduced", 2, 2)
    assert found.plot().get_xlim()[1] > 10
    assert "2 claims: 1 reproduced, 1 not testable here." in found.table()


def test_list_measures_nothing(alrsim: Any) -> None:
    ran = alrsim("reproduce", "--list")
    assert (ran.status, ran.err) == (0, "")
    for name in CLAIMS:
        assert name in ran.out
    listed = document_of(alrsim("reproduce", "--list", "--claims", "alr.fig2", "--json", "-").out)
    assert [row["id"] for row in listed["claims"]] == [name for name in CLAIMS if name.startswith("alr.fig2")]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--claims", "alr.fig9"), ("no claim 'alr.fig9'", "--list")),
        (("--claims", "alr.tab4.acc-lrr"), ("did you mean alr.tab4.acc-lr",)),
        (("--claims", ","), ("names no claim",)),
        (("--resume",), ("--resume", "add --out")),
        (("--data-folder", "/nowhere/at/all"), ("--data-folder", "/nowhere/at/all is no folder")),
        (("--data-dir", "/nowhere"), ("use --data-folder",)),
        (("--json", ""), ("--json",)),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(alrsim: Any, argv: tuple[str, ...], words: Any) -> None:
    ran = alrsim("reproduce", *argv)
    assert (ran.status, ran.out) == (1, "")
    assert all(word in ran.err for word in words)


def _claim(name: str, **more: Any) -> Claim:
    return Claim(f"alr.test.{name}", "ALR", "nowhere", "a claim", 1.0, "x", "speed", Rule("equals"), "x:y", **more)


def test_a_failure_is_kept_with_its_message_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: dict[str, Exception] = {
        "alr.test.ours": ExecutionError("no such layer", where="stage 3", fix="use another"),
        "alr.test.bug": RuntimeError("shape mismatch"),
        "alr.test.memory": MemoryError(),
        "alr.test.nan": ValueError("measured nan"),
    }

    def measure(claim: Claim) -> Any:
        def run(_context: Context) -> Measured:
            if claim.id in faults:
                raise faults[claim.id]
            return Measured(1.0, None, None, "by hand")

        return run

    monkeypatch.setattr("alrsim.experiments.run.measure_of", measure)
    claims = [_claim(name) for name in ("ours", "bug", "memory", "nan", "fine")]
    found = list(run_claims(claims, Context("quick"), {}, lambda _one: None))
    assert [one.outcome.verdict for one in found] == ["failed"] * 4 + ["reproduced"]
    assert "stage 3: no such layer try: use another" in found[0].outcome.why
    assert found[1].outcome.why == "RuntimeError: shape mismatch"


def test_an_interrupt_keeps_what_is_finished_and_the_rerun_does_the_rest(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    names = "alr.fig2.speedup,alr.fig2.free-rows,alr.fig2.bp-idle"

    def examined(claim: Claim, context: Context, key: str = "") -> Any:
        calls.append(claim.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return examine(claim, context, key)

    monkeypatch.setattr("alrsim.experiments.run.examine", examined)
    ran = alrsim("reproduce", "--quick", "--claims", names, "--out", tmp_path)
    assert ran.status == 130
    assert "stopped with 2 of 3 claims to do; the same call goes on" in ran.err
    ran = alrsim("reproduce", "--quick", "--claims", names, "--out", tmp_path)
    assert ran.status == 0
    order = ["alr.fig2.bp-idle", "alr.fig2.speedup", "alr.fig2.speedup", "alr.fig2.free-rows"]
    assert calls == order, "only the finished claim is not done twice"


def test_a_failed_claim_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alrsim.experiments.run import keeper

    def broken(_claim: Claim) -> Any:
        raise AlrsimError("broken")

    claim = CLAIMS["alr.fig2.speedup"]
    with monkeypatch.context() as patch:
        patch.setattr("alrsim.experiments.run.measure_of", broken)
        list(run_claims([claim], Context("quick"), {}, keeper(tmp_path)))
    context, done = open_run(Context("quick"), tmp_path)
    assert done == {}
    (found,) = run_claims([claim], context, done, keeper(tmp_path))
    assert found.outcome.verdict == "reproduced"
    assert list(open_run(Context("quick"), tmp_path)[1].values()) == [found], "what is read is what was kept"


def test_a_disturbed_measurement_is_not_kept_for_later_runs(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    context = Context("quick", memo=Memo(path))
    assert context.once({"part": 1}, lambda: 50, lambda value: value > 90) == 50
    assert context.once({"part": 1}, lambda: pytest.fail("known in this run")) == 50
    assert Context("quick", memo=open_memo(path)).once({"part": 1}, lambda: 95, lambda value: value > 90) == 95
    assert Context("quick", memo=open_memo(path)).once({"part": 1}, lambda: 0) == 95


def test_parts_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "parts.jsonl"
    context = Context("quick", memo=Memo(path))
    assert context.once({"part": 1}, lambda: [1.5]) == [1.5]
    with path.open("a") as file:
        file.write('{"key": "abc", "val')
    context = Context("quick", memo=open_memo(path))
    assert context.once({"part": 1}, lambda: pytest.fail("this part is done")) == [1.5]
    assert context.once({"part": 2}, lambda: (2, 3)) == [2, 3], "as JSON gives it, read or computed"
    assert len(path.read_text().splitlines()) == 2
    assert Context("quick", version="other", memo=open_memo(path)).once({"part": 1}, lambda: 9) == 9


@pytest.mark.parametrize("text", ["{}\n", "[1]\n", "no json\n", '{"key": 1}\n'])
def test_a_file_that_is_not_ours_is_refused(alrsim: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.jsonl").write_text(text)
    ran = alrsim("reproduce", "--claims", "alr.fig2", "--out", tmp_path)
    assert ran.status == 1
    assert "line 1 is not a finished measurement" in ran.err
    with pytest.raises(FileError, match="no finished claim"):
        from_plain({"id": "a", "key": "b", "outcome": {}, "measured": None, "seconds": 1}, tmp_path)


def test_a_data_set_that_is_there_is_used(tmp_path: Path) -> None:
    from alrsim.experiments.measures.training import SETTINGS, job_for

    (tmp_path / "cifar100").mkdir()
    context = Context("quick", folder=tmp_path)
    job = job_for(context, SETTINGS["cifar100"], "LR w A", 3)
    assert (job.model, job.data, job.data_folder) == ("resnet9", "cifar100", str(tmp_path / "cifar100"))
    assert (job.method, job.seed, job.model_options["seed"]) == ("alr", 3, "3")
    stand_in = job_for(context, SETTINGS["tiny-imagenet"], "LR w A", 3)
    assert (stand_in.data, stand_in.copies) == ("digits", 4 * SETTINGS["tiny-imagenet"].quick.copies)
    failed = examine(CLAIMS["alr.tab1.levels"], context)
    assert failed.outcome.verdict == "failed", "an empty folder is an error of its own, not a missing data set"
    assert "cifar100" in failed.outcome.why
