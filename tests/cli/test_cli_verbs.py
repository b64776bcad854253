"""Every verb on its good path: what it prints, what it writes, and the schema of its type."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alrsim.cli.entry import Entry
from alrsim.cli.table import VERBS
from alrsim.documents import KINDS, document_type, kind_of


def parsed(text: str) -> dict[str, Any]:
    """The JSON of a verb, valid against the schema of its type; stdout holds nothing else."""
    document: dict[str, Any] = json.loads(text)
    Draft202012Validator(document_type(kind_of(document)).schema()).validate(document)
    return document


@pytest.mark.parametrize("kind", KINDS)
def test_every_document_has_a_schema_that_is_one(kind: str) -> None:
    Draft202012Validator.check_schema(document_type(kind).schema())


def test_graph_counts_the_whole_batch(alrsim: Any, graph_file: Path) -> None:
    ran = alrsim("graph", graph_file, "--json", "-")
    assert (ran.status, ran.err) == (0, "")
    document = parsed(ran.out)
    assert document["batch"] == 8
    matrix = [op["forward"]["macs"] for op in document["operators"] if op["kind"] == "Gemm"]
    assert document["total"]["forward"]["macs"] == sum(matrix) > 0
    assert sum(op["parameters"] for op in document["operators"]) == document["parameters"]
    assert "MACs" in alrsim("graph", graph_file).out
    assert "Gemm" in alrsim("graph", graph_file, "--operators").out


def test_a_model_is_the_same_as_zoo_name_onnx_file_and_saved_graph(
    alrsim: Any, graph_file: Path, onnx_file: Path
) -> None:
    zoo = parsed(alrsim("graph", "mlp", "--batch", "8", "--json", "-").out)
    for source in (graph_file, onnx_file):
        other = parsed(alrsim("graph", source, "--json", "-").out)
        assert other["total"] == zoo["total"]
        assert [op["kind"] for op in other["operators"]] == [op["kind"] for op in zoo["operators"]]


def test_export_writes_a_model_that_says_what_it_holds(alrsim: Any, tmp_path: Path, factory_file: Path) -> None:
    target = tmp_path / "mine.onnx"
    document = parsed(alrsim("export", f"{factory_file}:make", "--batch", 3, "-o", target, "--json", "-").out)
    assert document["bytes"] == target.stat().st_size
    assert (document["model"], document["batch"], document["parameters"]) == ("mine", 3, 8 * 8 + 8 + 8 * 4 + 4)


def test_stages_add_up_to_the_graph(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    whole = parsed(alrsim("graph", graph_file, "--json", "-").out)
    saved = tmp_path / "stages.json"
    document = parsed(alrsim("stages", graph_file, "--cut", "balanced:2", "--json", "-", "-o", saved).out)
    assert len(document["stages"]) == 2
    assert sum(s["forward"]["macs"] for s in document["stages"]) == whole["total"]["forward"]["macs"]
    assert sum(s["parameters"] for s in document["stages"]) == whole["parameters"]
    assert json.loads(saved.read_text())["format"] == "alrsim.stages/1"
    assert "forward MACs" in alrsim("stages", graph_file).out


def test_a_schedule_file_simulates_as_its_method_does(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    shared = ("--units", 2, "--microbatches", 4)
    made = parsed(alrsim("schedule", graph_file, *shared, "--method", "bp:1f1b", "-o", file, "--json", "-").out)
    by_file = parsed(alrsim("simulate", file, graph_file, "--json", "-").out)
    by_method = parsed(alrsim("simulate", graph_file, *shared, "--method", "bp:1f1b", "--json", "-").out)
    assert by_file["spans"] == by_method["spans"]
    assert by_file["schedule"] == made["schedule"] == by_method["schedule"]
    assert by_file["schedule_digest"] == made["digest"]
    assert made["makespan_ns"] == by_file["makespan"] == max(span["end"] for span in by_file["spans"])


@pytest.mark.parametrize(
    ("method", "kinds"),
    [("bp:gpipe", "BFLU"), ("bp:zb-h1", "FILUW"), ("lr:lr-free", "FGLU"), ("alr:lr-fixed", "FGLU")],
)
def test_methods_make_the_kinds_of_task_that_they_should(
    alrsim: Any, graph_file: Path, method: str, kinds: str
) -> None:
    ran = alrsim("simulate", graph_file, "--method", method, "--units", 2, "--json", "-")
    document = parsed(ran.out)
    assert "".join(sorted({span["task"].lstrip("0123456789")[0] for span in document["spans"]})) == kinds


def test_zero_bubble_h1_takes_27_steps_when_typed_in(alrsim: Any) -> None:
    ran = alrsim("simulate", "--method", "bp:zb-h1", "--units", 4, "-m", 8, "--durations", "f=1,b=1,w=1", "--json", "-")
    document = parsed(ran.out)
    assert (document["makespan"], document["time_unit"]) == (27, "user")


@pytest.mark.parametrize(("semantics", "makespan"), [("latency", 30), ("link", 30), ("blocking", 31.75)])
def test_transfer_semantics_change_what_a_sender_waits_for(alrsim: Any, semantics: str, makespan: float) -> None:
    typed = ("--method", "bp:zb-h1", "--units", 4, "-m", 8, "--durations", "f=1,b=1,w=1,transfer=0.25")
    ran = alrsim("simulate", *typed, "--transfer-semantics", semantics, "--json", "-")
    assert parsed(ran.out)["makespan"] == makespan


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_textbook_schedule_needs_nothing_but_its_file_and_durations(alrsim: Any, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"typed.{form}"
    lanes = ("0F0,0F1,,,0B0,0B1", "1F0,1F1,1B0,1B1")
    if form == "csv":
        file.write_text("\n".join(lanes) + "\n")
    else:
        words = [lane.replace(",", " ").split() for lane in lanes]
        file.write_text(json.dumps({"u0": words[0], "u1": " ".join(words[1])}))
    document = parsed(alrsim("simulate", file, "--durations", "f=2,b=3,w=1", "--json", "-").out)
    # GPipe: (m + p - 1)(f + b + w)
    assert document["makespan"] == 3 * 6
    assert document["metrics"]["idle_fraction"] == pytest.approx(1 / 3)
    assert document["units"] == ["u0", "u1"]
    assert document["peak_memory_bytes"] == {}


@pytest.mark.parametrize(
    ("method", "chunks"),
    [
        ("bp:serial", 1), ("bp:gpipe", 1), ("bp:1f1b", 1), ("bp:interleaved-1f1b", 2), ("bp:zb-h1", 1), ("bp:zb-v", 2),
        ("bp-split:gpipe", 1), ("bp-split:list", 1), ("lr:lr-fixed", 1), ("lr:lr-free", 1), ("lr:list", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("durations", ["f=2,b=3,w=1,transfer=0.5", "f=1,b=1,w=1,l=1,u=0.5,g=2,c=0.25"])
def test_a_file_tells_all_that_its_method_knew(
    alrsim: Any, tmp_path: Path, method: str, chunks: int, durations: str
) -> None:
    typed = ("--method", method, "--units", 3, "--stages", 3 * chunks, "-m", 6, "--durations", durations)
    ran = alrsim("simulate", *typed, "--json", "-")
    assert ran.status == 0, ran.err
    by_method = parsed(ran.out)
    file = tmp_path / "lanes.json"
    file.write_text(json.dumps(by_method["schedule"]))
    ran = alrsim("simulate", file, "--durations", durations, "--json", "-")
    assert ran.status == 0, ran.err
    by_file = parsed(ran.out)
    for key in ("spans", "transfers", "makespan", "rule", "microbatches", "stages"):
        assert by_file[key] == by_method[key], key


def test_typed_times_are_exact_rationals(alrsim: Any, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"only": "0F0 0B0 0F1 0B1"}))
    document = parsed(alrsim("simulate", file, "--durations", "f=1/3,b=0.1,w=1/6", "--json", "-").out)
    assert document["makespan"] == pytest.approx(2 * (1 / 3 + 0.1 + 1 / 6), rel=1e-15)
    assert document["spans"][0] == {"task": "0F0", "unit": "only", "start": 0, "end": pytest.approx(1 / 3)}
    whole = parsed(alrsim("simulate", file, "--durations", "f=1/2,b=1/4,w=1/4", "--json", "-").out)
    assert whole["makespan"] == 2
    assert isinstance(whole["makespan"], int)


def test_fused_pairs_take_the_share_that_overlap_says(alrsim: Any, tmp_path: Path) -> None:
    file = tmp_path / "fused.csv"
    file.write_text("0F0,(0F1;0B0)OVERLAP_F_B,0B1\n")
    for share, makespan in (("1", 6), ("0.5", 4.5), ("1/3", 4)):
        ran = alrsim("simulate", file, "--durations", "f=1,b=1,w=1", "--overlap", share, "--json", "-")
        document = parsed(ran.out)
        assert document["makespan"] == makespan
        ends = {span["task"]: span["end"] for span in document["spans"]}
        assert ends["0F1"] == ends["0B0"]


def test_lr_with_a_loss_unit_of_its_own_is_the_papers_figure(alrsim: Any) -> None:
    typed = ("--method", "lr:lr-fixed", "--stages", 4, "--units", 5, "--loss-unit", 4, "-m", 3)
    ran = alrsim("simulate", *typed, "--durations", "f=1,w=1,l=1,u=1", "--json", "-")
    document = parsed(ran.out)
    assert (document["makespan"], document["metrics"]["grid_idle"]) == (10, 0.24)


def test_pytorchs_broken_1f1b_row_is_refused_and_repaired_on_request(alrsim: Any, tmp_path: Path) -> None:
    file = tmp_path / "1f1b.csv"
    file.write_text("0F0,0F1,0B0,0F2,0B1,0B2\n1F1,1B0,1F2,1B1,1F3,1B2\n")
    refused = alrsim("simulate", file, "--durations", "f=1,b=1,w=1")
    assert refused.status == 1
    assert "repair" in refused.err
    repaired = alrsim("simulate", file, "--durations", "f=1,b=1,w=1", "--repair", "--json", "-")
    assert parsed(repaired.out)["makespan"] == (3 + 2 - 1) * 3


def test_what_pytorchs_csv_has_no_word_for_is_said_and_filled_in_again(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "order.csv"
    ran = alrsim("schedule", graph_file, "--method", "bp:1f1b", "--units", 2, "-m", 4, "-o", file)
    assert ran.status == 0
    assert f"PyTorch's CSV has no word for losses and updates: 6 tasks are left out of {file}" in ran.err
    by_file = parsed(alrsim("simulate", file, graph_file, "--json", "-").out)
    typed = ("--method", "bp:1f1b", "--units", 2, "-m", 4, "--first-input-gradient")
    by_method = parsed(alrsim("simulate", graph_file, *typed, "--json", "-").out)
    assert by_file["makespan"] == by_method["makespan"]


def test_simulate_draws_and_saves(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    out, saved = tmp_path / "new" / "folder", tmp_path / "timeline.json"
    ran = alrsim("simulate", graph_file, "--method", "bp:gpipe", "--units", 2, "--out", out, "-o", saved)
    assert ran.status == 0
    assert {path.name for path in out.iterdir()} == {"result.json", "gantt.png", "memory.png", "trace.json.gz"}
    assert json.loads(saved.read_text())["format"] == "alrsim.timeline/1"
    assert "makespan" in ran.out


def test_compare_writes_one_result_in_four_forms(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "result.json"
    ran = alrsim("compare", graph_file, "--units", 2, "--copies", 4, "--group", 2, "--out", out, "--json", file)
    assert ran.status == 0, ran.err
    assert {path.name for path in out.iterdir()} == {"gantt.png", "memory.png", "trace.json.gz", "result.json"}
    document = parsed(file.read_text())
    assert json.loads((out / "result.json").read_text()) == document
    methods = {method["method"]: method for method in document["methods"]}
    assert list(methods) == ["bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed", "alr:lr-free"]
    assert document["cost_model"] == "roofline"
    base = methods["bp:gpipe"]
    for method in methods.values():
        assert method["speedup"] == pytest.approx(base["makespan_ns"] / method["makespan_ns"])
        assert method["measured"] is None
        for unit, peak in method["peak_memory_bytes"].items():
            assert sum(method["memory_by_category"][unit].values()) == peak
    assert methods["lr:lr-fixed"]["forwards_per_step"] == 5  # 4 copies and the clean baseline
    trace = json.loads(gzip.decompress((out / "trace.json.gz").read_bytes()))
    assert {e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"} == {
        f"{name} (predicted)" for name in methods
    }
    for row in ("idle_fraction", "rank_span_bubble", "peak memory u1", "forwards per step"):
        assert row in ran.out
    assert "roofline" in ran.out


def test_the_verdict_names_the_winner_that_the_json_names(alrsim: Any, graph_file: Path) -> None:
    ran = alrsim("compare", graph_file, "--units", 2, "--hardware", "unit-grid", "--methods", "bp:gpipe,lr:lr-fixed")
    assert "steps" in ran.out
    assert " ns" not in ran.out
    assert "Fastest (predicted)" in ran.out
    assert "BP wins" in ran.out  # twice the forwards on more stages than units: LR cannot win here


def test_too_little_memory_is_flagged_with_the_shortage(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    shown = parsed(alrsim("hardware", "show", "t4", "--json", "-").out)
    assert any(figure["figure"] == "unit.memory_gb" for figure in shown["figures"])
    small = tmp_path / "small.yaml"
    small.write_text(
        "name: small\ndevice: tiny chip\nkind: accelerator\nunits: 2\n"
        "unit:\n"
        "  peak_tflops_dense: {fp32: {value: 1, dense: true, source: test, confidence: unverified}}\n"
        "  memory_gb: {value: 1.0e-06, source: test, confidence: unverified}\n"
        "  memory_bandwidth_gb_per_s: {value: 10, source: test, confidence: unverified}\n"
        "  launch_overhead_us: {value: 1, source: test, confidence: unverified}\n"
        "links:\n  topology: all_to_all\n"
        "  bandwidth_gb_per_s_per_direction: {value: 1, source: test, confidence: unverified}\n"
        "  latency_us: {value: 1, source: test, confidence: unverified}\n",
        encoding="utf-8",
    )
    result = tmp_path / "r.json"
    ran = alrsim("compare", graph_file, "--hardware", small, "--methods", "bp:gpipe", "--json", result)
    assert ran.status == 0, ran.err
    (method,) = parsed(result.read_text())["methods"]
    shortage = method["shortages"][0]
    assert shortage["need_bytes"] - shortage["capacity_bytes"] == shortage["short_bytes"]
    assert shortage["need_bytes"] == method["peak_memory_bytes"][shortage["unit"]]
    assert "does not fit" in ran.out
    assert "short by" in ran.out


def test_compare_splits_the_batch_into_microbatches(alrsim: Any, tmp_path: Path, factory_file: Path) -> None:
    file = tmp_path / "r.json"
    for microbatches, batch in ((2, 8), (4, 8)):
        ran = alrsim(
            "compare", f"{factory_file}:make", "--batch", batch, "-m", microbatches, "--units", 2,
            "--methods", "bp:gpipe", "--json", file, "--hardware", "unit-grid", "--no-update",
        )  # fmt: skip
        assert ran.status == 0, ran.err
        (method,) = parsed(file.read_text())["methods"]
        assert method["schedule"]["u0"].count("F") == microbatches


@pytest.mark.parametrize("json_target", ["-", "file"])
def test_a_measured_comparison_fills_every_measured_column(
    alrsim: Any, tmp_path: Path, factory_file: Path, json_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alrsim.execution.measuring.timelines.SHORT", 10**6)  # every task counts as too short
    file = tmp_path / "r.json"
    target = "-" if json_target == "-" else file
    ran = alrsim(
        "compare", f"{factory_file}:make", "--batch", 8, "-m", 2, "--units", 2, "--measure", "--repeats", 2,
        "--methods", "bp:gpipe,lr:lr-fixed", "--json", target,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    document = parsed(ran.out if json_target == "-" else file.read_text())
    assert document["cost_model"] == "calibrated"
    first = document["methods"][0]["measured"]
    assert first["speedup"] == 1
    for method in document["methods"]:
        measured = method["measured"]
        assert measured["repeats"] == 2
        error = method["makespan_ns"] / measured["makespan_ns"] - 1
        assert measured["makespan_error"] == pytest.approx(error)
        assert measured["speedup"] == pytest.approx(first["makespan_ns"] / measured["makespan_ns"])
        assert any("dispatch overhead" in flag for flag in measured["flags"])
    if json_target == "file":
        assert "measured makespan" in ran.out
        assert "prediction error" in ran.out


def test_execute_runs_the_very_schedule_of_a_file(alrsim: Any, tmp_path: Path, factory_file: Path) -> None:
    model, order = f"{factory_file}:make", tmp_path / "order.json"
    shared = ("--batch", 8, "-m", 2)
    made = parsed(alrsim("schedule", model, *shared, "--units", 2, "-o", order, "--json", "-").out)
    ran = alrsim("execute", model, *shared, "--schedule", order, "--repeats", 1, "--json", "-")
    document = parsed(ran.out)
    assert document["source"] == "measured"
    assert document["schedule_digest"] == made["digest"]
    assert document["schedule"] == made["schedule"]
    assert document["facts"]["torch"]
    by_unit: dict[str, list[str]] = {}
    for span in document["spans"]:
        by_unit.setdefault(span["unit"], []).append(span["task"])
    assert {unit: " ".join(tasks) for unit, tasks in by_unit.items()} == made["schedule"]


def test_lanes_of_an_alr_schedule_are_read_as_such_with_signs(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "alr.json"
    shared = ("--units", 2, "-m", 2, "--copies", 2)
    ran = alrsim("schedule", graph_file, *shared, "--method", "alr:lr-free", "-o", file, "--json", "-")
    assert ran.status == 0, ran.err
    asked = ("simulate", graph_file, "--copies", 2, "--json", "-")
    by_method = parsed(alrsim(*asked, *shared[:4], "--method", "alr:lr-free").out)
    by_file = parsed(alrsim(*asked, file).out)  # the file says what it was made with
    assert by_file["spans"] == by_method["spans"]
    assert by_file["peak_memory_bytes"] == by_method["peak_memory_bytes"]
    file.write_text(json.dumps(by_method["schedule"]))
    by_lanes = parsed(alrsim(*asked, file, "--signs").out)
    assert by_lanes["spans"] == by_method["spans"]
    assert by_lanes["peak_memory_bytes"] == by_method["peak_memory_bytes"]
    assert parsed(alrsim(*asked, file).out)["peak_memory_bytes"] != by_method["peak_memory_bytes"]


@pytest.mark.parametrize("baseline", ["clean", "copy-mean", "antithetic", "none"])
@pytest.mark.parametrize("scope", ["joint", "layerwise"])
@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
def test_a_file_gives_back_every_lr_schedule_without_being_told_again(
    alrsim: Any, graph_file: Path, tmp_path: Path, baseline: str, scope: str, reduction: str
) -> None:
    file = tmp_path / "lr.json"
    shared = ("--units", 2, "-m", 2, "--copies", 4, "--group", 2, "--method", "lr:lr-fixed")
    asked = (*shared, "--baseline", baseline, "--scope", scope, "--reduce", reduction)
    ran = alrsim("schedule", graph_file, *asked, "-o", file)
    assert ran.status == 0, ran.err
    by_method = parsed(alrsim("simulate", graph_file, *asked, "--json", "-").out)
    by_file = parsed(alrsim("simulate", graph_file, file, "--json", "-").out)
    for key in ("spans", "transfers", "makespan", "rule", "forwards_per_step", "peak_memory_bytes", "notes"):
        assert by_file[key] == by_method[key], key
    refused = alrsim("simulate", graph_file, file, "--copies", 8, "--json", "-")
    assert refused.status == 1
    assert "--copies: is 8, but" in refused.err


def test_a_file_gives_back_segments_and_split_backwards(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    for asked in (
        ("--method", "segments:list", "--segments", "1", "--cut", "layer", "--copies", 2),
        ("--method", "bp:zb-h1"),
        ("--method", "bp:zb-h1", "--no-loss", "--no-update"),
    ):
        file = tmp_path / "one.json"
        ran = alrsim("schedule", graph_file, "--units", 2, "-m", 2, *asked, "-o", file)
        assert ran.status == 0, ran.err
        by_method = parsed(alrsim("simulate", graph_file, "--units", 2, "-m", 2, *asked, "--json", "-").out)
        by_file = parsed(alrsim("simulate", graph_file, file, "--json", "-").out)
        assert by_file["spans"] == by_method["spans"]
    textbook = parsed(alrsim("simulate", file, "--durations", "f=1,b=1,w=1", "--json", "-").out)
    assert {span["task"] for span in textbook["spans"]} == {span["task"] for span in by_file["spans"]}


def test_a_file_is_refused_for_another_model(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    assert alrsim("schedule", graph_file, "--units", 2, "-m", 2, "-o", file).status == 0
    refused = alrsim("simulate", "resnet5", file)
    assert refused.status == 1
    assert "was made for mlp, whose operators are not those of resnet5" in refused.err
    refused = alrsim("simulate", graph_file, file, "--cut", "layer")
    assert refused.status == 1
    assert "brings its own cut" in refused.err


def test_execute_by_method_draws_what_it_measured(alrsim: Any, tmp_path: Path, factory_file: Path) -> None:
    out = tmp_path / "out"
    ran = alrsim(
        "execute", f"{factory_file}:make", "--batch", 4, "-m", 2, "--method", "lr:lr-fixed", "--units", 1,
        "--repeats", 1, "--out", out,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert "measured" in ran.out
    assert (out / "gantt.png").read_bytes().startswith(b"\x89PNG")


def test_hardware_verbs(alrsim: Any, tmp_path: Path) -> None:
    listed = parsed(alrsim("hardware", "list", "--json", "-").out)
    names = [profile["name"] for profile in listed["profiles"]]
    assert {"unit-grid", "cpu-2core", "h100"} <= set(names)
    assert "h100" in alrsim("hardware", "list").out
    assert parsed(alrsim("hardware", "show", "h100", "--json", "-").out)["name"] == "h100"
    assert "GB/s" in alrsim("hardware", "show", "h100").out
    for name in names:
        assert parsed(alrsim("hardware", "validate", name, "--json", "-").out)["valid"]
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\nkind: host\ndevice: none\nsurprise: 1\n")
    ran = alrsim("hardware", "validate", bad, "--json", "-")
    assert ran.status == 1
    assert not parsed(ran.out)["valid"]
    assert "surprise" in ran.out


def test_figure2_equals_its_golden_file_and_draws_itself(alrsim: Any, tmp_path: Path) -> None:
    golden = json.loads((Path(__file__).parents[1] / "golden" / "figure2.json").read_text(encoding="utf-8"))
    document = parsed(alrsim("figure2", "--json", "-").out)
    assert without_nothing(document) == {"format": "alrsim.figure2/2", **golden}
    assert document["bp"]["steps"] == 15
    assert document["bp"]["idle_fraction"] == pytest.approx(0.5333, abs=5e-5)
    assert document["lr"]["steps"] == 10
    assert document["speedup"] == 1.5
    ran = alrsim("figure2", "--layers", 2, "--microbatches", 2, "--out", tmp_path / "f")
    assert "9 steps" in ran.out  # 2 (L + n) + 1
    assert {path.name for path in (tmp_path / "f").iterdir()} == {"figure2.png", "result.json"}


def without_nothing(value: Any) -> Any:
    """The document without keys whose value is ``None``."""
    if isinstance(value, dict):
        return {key: without_nothing(one) for key, one in value.items() if one is not None}
    return value


def test_version_and_help(alrsim: Any) -> None:
    assert alrsim("--version").out.startswith("alrsim 0.")
    helped = alrsim()
    assert helped.status == 0
    assert helped.out == alrsim("--help").out
    for one in VERBS:
        assert f"  {one.name} " in helped.out


@pytest.mark.parametrize("one", VERBS, ids=[one.name for one in VERBS])
def test_every_page_of_help_fits_80_columns_and_speaks_of_options(alrsim: Any, one: Any) -> None:
    pages = [(one.name,)] if isinstance(one, Entry) else [(one.name, entry.name) for entry in one.entries]
    for page in pages:
        ran = alrsim(*page, "--help")
        assert ran.status == 0
        assert max(map(len, ran.out.splitlines())) <= 80
        assert "``" not in ran.out
        assert "--json" in ran.out


def test_pytorchs_reduce_grad_is_dropped_with_a_note_when_updates_are_off(alrsim: Any, tmp_path: Path) -> None:
    file = tmp_path / "gpipe.csv"
    file.write_text("0F0,0F1,0B0,0B1,0REDUCE_GRAD\n1F0,1F1,1B0,1B1,1REDUCE_GRAD\n")
    ran = alrsim("simulate", file, "--durations", "f=1,b=1,w=1,u=1", "--no-update", "--json", "-")
    document = parsed(ran.out)
    assert document["makespan"] == 9
    assert "dropped 2 REDUCE_GRAD" in ran.err
    assert any("REDUCE_GRAD" in note for note in document["notes"])


def test_pytorchs_schedule_runs_on_a_model_with_its_first_input_gradient_priced(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    file, ours = tmp_path / "gpipe.csv", tmp_path / "ours.json"
    file.write_text("0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n")
    ours.write_text(json.dumps({"u0": "0F0 0F1 0B0 0B1 0U", "u1": "1F0 1F1 2L0 2L1 1B0 1B1 1U"}))
    theirs = parsed(alrsim("simulate", file, graph_file, "--json", "-").out)
    plain = parsed(alrsim("simulate", ours, graph_file, "--json", "-").out)

    def lasting(document: dict[str, Any], task: str) -> float:
        (span,) = [span for span in document["spans"] if span["task"] == task]
        return float(span["end"] - span["start"])

    assert lasting(theirs, "0B0") > lasting(plain, "0B0")
    assert lasting(theirs, "1B0") == lasting(plain, "1B0")
    assert {"2L0", "0U"} <= {span["task"] for span in theirs["spans"]}
