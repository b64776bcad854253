"""``alrsim sweep``: the numbers are those of the verbs; a sweep that is killed loses nothing and repeats nothing."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from alrsim.documents import document_type, kind_of

SMALL = """\
fixed: {{model: "{model}", hardware: h100}}
grid:
  method: ["bp:1f1b", "bp:zb-h1", "lr:lr-fixed"]
  units: [2, 3]
  copies: [1, 4]
quality: {{noise_to_signal: 12}}
"""


def swept(alrsim: Any, spec: Path, *argv: object) -> dict[str, Any]:
    ran = alrsim("sweep", spec, "--workers", 1, *argv, "--json", "-")
    assert ran.status == 0, ran.err
    document: dict[str, Any] = json.loads(ran.out)
    Draft202012Validator(document_type(kind_of(document)).schema()).validate(document)
    return document


def written(tmp_path: Path, text: str) -> Path:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text, encoding="utf-8")
    return spec


def test_every_row_is_what_compare_says_and_exact_gradients_have_no_copies(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    document = swept(alrsim, written(tmp_path, SMALL.format(model=graph_file)))
    rows = document["results"]
    assert (document["configurations"], document["failed"], len(rows)) == (8, 0, 8)  # 2 x 2 for BP, 2 x 2 for LR
    for row in rows:
        asked = row["configuration"]
        copies = ("--copies", asked["copies"]) if "copies" in asked else ()
        line = ("--methods", asked["method"], "--units", asked["units"], *copies, "--hardware", "h100")
        (method,) = json.loads(alrsim("compare", graph_file, *line, "--json", "-").out)["methods"]
        assert row["outcome"]["makespan"] == method["makespan_ns"]
        assert row["outcome"]["peak_memory_bytes"] == max(method["peak_memory_bytes"].values())
        assert row["outcome"]["idle_fraction"] == method["idle_fraction"]
        assert row["outcome"]["cosine"] == (1 if not copies else pytest.approx((1 + 12 / asked["copies"]) ** -0.5))
    outcomes = [row["outcome"] for row in rows]
    points = [(one["makespan"], one["peak_memory_bytes"], -one["cosine"]) for one in outcomes]
    for row, mine in zip(rows, points, strict=True):
        beaten = any(one != mine and all(a <= b for a, b in zip(one, mine, strict=True)) for one in points)
        assert row["pareto"] is not beaten
    assert document["fronts"] == [
        {"time_unit": "ns", "quality": "cosine", "results": 8, "best": sum(row["pareto"] for row in rows)}
    ]


def test_the_second_run_evaluates_nothing_and_a_wider_grid_only_what_is_new(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    spec = written(tmp_path, SMALL.format(model=graph_file))
    first = swept(alrsim, spec)
    times = dict(sqlite3.connect(tmp_path / "spec.sqlite").execute("SELECT digest, seconds FROM results"))
    assert swept(alrsim, spec) == first
    spec.write_text(spec.read_text().replace("units: [2, 3]", "units: [2, 3, 4]"), encoding="utf-8")
    wider = swept(alrsim, spec)
    assert wider["configurations"] == 12
    after = dict(sqlite3.connect(tmp_path / "spec.sqlite").execute("SELECT digest, seconds FROM results"))
    assert {digest: after[digest] for digest in times} == times
    known = {row["digest"]: row["outcome"]["makespan"] for row in first["results"]}
    assert {row["digest"]: row["outcome"]["makespan"] for row in wider["results"] if row["digest"] in known} == known


def test_failures_are_recorded_in_one_line_and_tried_again_when_asked(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    text = f'fixed: {{model: "{graph_file}"}}\ngrid: {{method: ["bp:1f1b", "bp:none"], batch: [16, 32]}}\n'
    spec = written(tmp_path, text)
    document = swept(alrsim, spec)
    errors = {
        (row["configuration"]["method"], row["configuration"]["batch"]): row["error"] for row in document["results"]
    }
    assert document["failed"] == 3
    assert errors["bp:1f1b", 32] is None
    assert "'none' is not a scheduler" in errors["bp:none", 32]
    assert "are 32 samples, not 16" in errors["bp:1f1b", 16]
    ran = alrsim("sweep", spec, "--retry", "--workers", 1)
    assert "3 failed" in ran.out
    runs = sqlite3.connect(tmp_path / "spec.sqlite").execute("SELECT run, count(*) FROM results GROUP BY run")
    assert runs.fetchall() == [(1, 1), (2, 3)]


def test_table_csv_and_picture(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    text = SMALL.format(model=graph_file).replace("quality: {noise_to_signal: 12}\n", "")
    ran = alrsim("sweep", written(tmp_path, text), "--workers", 1, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert "copies, for want of noise constants" in ran.out
    assert "exact" in ran.out
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["pareto"] for row in rows} == {"0", "1"}
    assert all(float(row["makespan"]) > 0 for row in rows)
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_sample_of_plans(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    text = f"""\
verb: plan
fixed: {{model: "{graph_file}", hardware: h100, rules: bp}}
ranges: {{units: {{from: 1, to: 3}}}}
sample: {{count: 2, seed: 1, method: latin-hypercube}}
"""
    document = swept(alrsim, written(tmp_path, text))
    assert document["failed"] == 0, document["results"]
    for row in document["results"]:
        asked = ("--hardware", "h100", "--rules", "bp", "--units", row["configuration"]["units"])
        plan = json.loads(alrsim("plan", graph_file, *asked, "--no-what-if", "--json", "-").out)
        assert (row["outcome"]["value"], row["outcome"]["gap"]) == (plan["value"], plan["gap"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixed: {model: mlp, colour: red}\n", "'colour' is not a keyword of compare"),
        ("fixed: {model: mlp, measure: true}\n", "'measure' is not a keyword of compare"),
        ("grid: {units: 3}\n", "must be a list"),
        ('fixed: {model: mlp}\ngrid: {units: [1, "1/3"]}\n', "grid: units: is '1/3', must be a whole number"),
        ("fixed: {model: 3}\n", "fixed: model: is 3, must be a text"),
        ("fixed: {model: mlp, cut: 3}\n", "fixed: cut: is 3, must be a text"),
        ("fixed: {model: mlp, overlap: .nan}\n", "fixed: overlap: 'nan' is not a number"),
        ("fixed: {model: mlp, precision: true}\n", "fixed: precision: 'true' is not a number format"),
        ("ranges: {copies: {from: 1, to: 2.5}}\nsample: {count: 3}\n", "ranges: copies: is 1.0, must be a whole"),
        ("ranges: {batch: {from: 1, to: 64}}\nsample: {count: 100000000}\n", "asks for 100,000,000 configurations"),
        ("grid: {method: ['bp:1f1b'], batch: %s, units: %s, copies: %s}\n" % ((list(range(1, 60)),) * 3), "205,379"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused_at_once(
    alrsim: Any, tmp_path: Path, text: str, message: str
) -> None:
    ran = alrsim("sweep", written(tmp_path, text))
    assert ran.status == 1
    assert message in ran.err
    assert not (tmp_path / "spec.sqlite").exists()


def test_more_configurations_than_usual_are_evaluated_where_somebody_asks(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    spec = written(tmp_path, SMALL.format(model=graph_file))
    ran = alrsim("sweep", spec, "--workers", 1, "--most", 11)
    assert "asks for 12 configurations, at most 11 are evaluated" in ran.err
    assert "--most 12" in ran.err
    swept(alrsim, spec, "--most", 12)


def test_a_dask_cluster_gives_what_this_host_gives(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("dask.distributed")
    spec = written(tmp_path, SMALL.format(model=graph_file).replace("units: [2, 3]", "units: [2]"))
    expected = swept(alrsim, spec)
    target = tmp_path / "cluster.sqlite"
    with distributed.LocalCluster(
        host="127.0.0.1", n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        where = ("--cluster", cluster.scheduler_address)
        refused = alrsim("sweep", spec, "-o", target, *where)
        assert (refused.status, "add --trust-network" in refused.err, target.exists()) == (1, True, False)
        ran = alrsim("sweep", spec, "-o", target, *where, "--trust-network", "--json", "-")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out) == {**expected, "file": str(target)}


LONG = """\
fixed: {{model: "{model}", hardware: h100}}
grid:
  method: ["bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed"]
  units: [1, 2, 3, 4, 5]
  precision: [fp32, bf16]
  transfer_semantics: [link, blocking]
"""


def started(spec: Path, target: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "alrsim", "sweep", str(spec), "-o", str(target), "--workers", "2", "--json", "-"]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def recorded(target: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{target}?mode=ro", uri=True)
        count = connection.execute("SELECT count(*) FROM results").fetchone()[0]
        connection.close()
    except sqlite3.Error:
        return 0
    return int(count)


def stopped(spec: Path, target: Path, rows: int, how: signal.Signals) -> tuple[int, bytes]:
    """Start a sweep, stop it once so many rows are there, and wait until all its processes are gone."""
    process = started(spec, target)
    deadline = time.monotonic() + 300
    while recorded(target) < rows and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it was too fast to be stopped"
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    process.send_signal(how)
    error = process.communicate(timeout=120)[1]
    deadline = time.monotonic() + 60
    while any(_alive(pid) for pid in family):
        assert time.monotonic() < deadline, "a worker outlived the sweep"
        time.sleep(0.05)
    return process.returncode, error


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("interruptible")
def test_a_sweep_killed_interrupted_and_terminated_ends_as_if_nothing_had_happened(
    alrsim: Any, graph_file: Path, tmp_path: Path
) -> None:
    spec, target = written(tmp_path, LONG.format(model=graph_file)), tmp_path / "killed.sqlite"
    whole = swept(alrsim, spec, "-o", tmp_path / "whole.sqlite")
    assert whole["configurations"] == 80
    seen: dict[str, tuple[int, float]] = {}
    for rows, how in ((5, signal.SIGKILL), (15, signal.SIGINT), (25, signal.SIGTERM)):
        status, error = stopped(spec, target, max(rows, len(seen) + 2), how)  # not before it has begun anew
        assert status == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(how, -how)
        if how != signal.SIGKILL:
            assert b"are recorded; the same call goes on" in error
            assert b"Traceback" not in error
        connection = sqlite3.connect(target)
        now = {d: (run, s) for d, run, s in connection.execute("SELECT digest, run, seconds FROM results")}
        connection.close()
        assert rows <= len(now) < 80
        assert seen.items() <= now.items()  # nothing lost, nothing run again
        seen = now
    resumed = swept(alrsim, spec, "-o", target)
    assert resumed == {**whole, "file": str(target)}
    connection = sqlite3.connect(target)
    runs = dict(connection.execute("SELECT run, count(*) FROM results GROUP BY run"))
    connection.close()
    assert sum(runs.values()) == 80
    assert set(runs) == {1, 2, 3, 4}


@pytest.mark.parametrize("later", [0.0, 0.4, 0.8, 1.2])
def test_a_sweep_killed_while_its_workers_start_leaves_none_of_them(
    graph_file: Path, tmp_path: Path, later: float
) -> None:
    process = started(written(tmp_path, LONG.format(model=graph_file)), tmp_path / "killed.sqlite")
    family: list[psutil.Process] = []
    while not family:
        assert process.poll() is None
        family = psutil.Process(process.pid).children(recursive=True)
    time.sleep(later)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs(family, timeout=60)[1], "a worker outlived the sweep"
