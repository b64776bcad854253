"""``execute`` when it is interrupted, killed, or a task of it fails: exit status, files, processes that stay behind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from alrsim.execution.kernels.registry import KERNELS
from alrsim.files import load_value
from alrsim.steps.model import load_model
from alrsim.study import comparison, stepping
from alrsim.timeline.timeline import Timeline

PROGRAM = Path(__file__).with_name("faulty_program.py")
EXECUTE = ("execute", "mlp", "--method", "bp:1f1b", "--units", 2, "--repeats", 50)
HANGS_SECONDS = 120
"""A program that gets stuck says where, before a test gives it up."""


def members(session):
    """Processes of a session other than zombies that init has yet to take."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(folder.name))
    return sorted(found)


def wait_until(condition, seconds=300.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


@pytest.fixture
def hanging(interruptible, tmp_path):
    """A function: a program of its own session that is in the middle of a run, with its folder for files."""
    started = []
    folder = tmp_path / "files"
    folder.mkdir()

    def start(executor):
        marker = tmp_path / "marker"
        argv = [*EXECUTE, "--limit", HANGS_SECONDS, "--executor", executor, "--json", "-"]
        argv += ["-o", folder / "run.json", "--out", folder / "out"]
        program = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(marker), *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(program)
        wait_until(lambda: (marker.exists() and marker.read_text()) or program.poll() is not None)
        assert program.poll() is None, program.communicate()
        return program, folder

    yield start
    for program in started:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_sigterm_is_as_orderly_as_ctrl_c(hanging, executor):
    program, folder = hanging(executor)
    os.killpg(program.pid, signal.SIGTERM)  # as who ends a whole service does: to every process
    out, err = program.communicate(timeout=120)
    assert program.returncode == 143
    assert out == "printed once\n"
    assert "terminated; no file was left half-written" in err
    assert "tasks done; the partial timeline is in " in err
    assert "Traceback" not in err
    assert members(program.pid) == []
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"run.json", "out/partial.json", "out/partial.trace.json.gz"}


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_ctrl_c_keeps_the_partial_timeline_and_leaves_nothing_else(hanging, executor):
    program, folder = hanging(executor)
    assert len(members(program.pid)) == (3 if executor == "processes" else 1)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to every process
    out, err = program.communicate(timeout=120)
    assert program.returncode == 130
    assert out == "printed once\n"
    assert "interrupted; no file was left half-written" in err
    assert "tasks done; the partial timeline is in " in err
    assert "Traceback" not in err
    assert members(program.pid) == []
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"run.json", "out/partial.json", "out/partial.trace.json.gz"}
    line = load_value("timeline", Timeline, folder / "run.json")
    assert line.facts.partial is True
    assert line.facts.executor == executor
    assert line.facts.tasks_done == len(line.spans) > 0
    assert "1F2" not in {str(span.task) for span in line.spans}


def test_a_killed_program_leaves_no_worker_and_no_file(hanging):
    program, folder = hanging("processes")
    assert len(members(program.pid)) == 3
    os.kill(program.pid, signal.SIGKILL)
    program.communicate(timeout=120)
    assert program.returncode == -signal.SIGKILL
    wait_until(lambda: not members(program.pid), 60)
    assert list(folder.iterdir()) == []


@pytest.fixture
def one_model(monkeypatch):
    """The model is exported once for all tests here."""
    for module in (comparison, stepping):
        monkeypatch.setattr(module, "load_model", load_once)


LOADED = {}


def load_once(model, **options):
    if not isinstance(model, str):
        return load_model(model, **options)
    key = repr((model, options))
    if key not in LOADED:
        LOADED[key] = load_model(model, **options)
    return LOADED[key]


@pytest.fixture
def fault(monkeypatch, one_model):
    """A function: plants a fault in the kernel of a token, from the third time that it runs."""

    def plant(token, action):
        def planted(kernel):
            calls = []

            def run(run_, index, id_):
                if str(id_) == token:
                    calls.append(1)
                    if len(calls) > 2:
                        action()
                kernel(run_, index, id_)

            return run

        for kind, kernel in KERNELS.items():
            monkeypatch.setitem(KERNELS, kind, planted(kernel))

    return plant


def kill_worker():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("executor", "action", "message"),
    [
        ("threads", fail, "error: unit u1, task 1F2: ValueError: boom"),
        ("processes", fail, "error: unit u1, task 1F2: ValueError: boom"),
        ("processes", kill_worker, "error: unit u1, task 1F2: the worker was killed by signal 9"),
        ("processes", lambda: time.sleep(600), "error: unit u1, task 1F2: hung: nothing began or ended for 1.5 s"),
    ],
    ids=["raises, threads", "raises, processes", "killed", "hangs"],
)
def test_a_run_that_fails_is_one_error_and_a_partial_timeline(alrsim, fault, tmp_path, executor, action, message):
    fault("1F2", action)
    limit = 1.5 if "hung" in message else 60
    target, out = tmp_path / "run.json", tmp_path / "out"
    argv = [*EXECUTE, "--executor", executor, "--limit", limit, "--json", "-", "-o", target, "--out", out]
    ran = alrsim(*argv)
    assert (ran.status, ran.out) == (1, "")
    assert message in ran.err
    assert f"the partial timeline is in {target} and {out / 'partial.json'} and " in ran.err
    assert load_value("timeline", Timeline, target).facts.partial is True
    assert {path.name for path in out.iterdir()} == {"partial.json", "partial.trace.json.gz"}


def test_without_a_file_the_error_says_how_to_keep_the_timeline(alrsim, fault):
    fault("1F2", fail)
    ran = alrsim(*EXECUTE)
    assert ran.status == 1
    assert "the partial timeline is in no file (-o FILE keeps it)" in ran.err


def test_a_first_task_that_fails_leaves_no_timeline(alrsim, fault, tmp_path):
    fault("0F0", fail)
    ran = alrsim(*EXECUTE, "-o", tmp_path / "run.json")
    assert ran.status == 1
    assert "no partial timeline: no task of a schedule had ended" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_that_fails_names_the_schedule_and_keeps_what_it_has(alrsim, fault, tmp_path):
    fault("1F2", fail)
    argv = ["compare", "mlp", "--units", 2, "--measure", "--methods", "bp:gpipe,bp:1f1b", "--repeats", 2]
    ran = alrsim(*argv, "--executor", "processes", "--out", tmp_path, "--json", "-")
    assert (ran.status, ran.out) == (1, "")
    assert "ValueError: boom" in ran.err


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.usefixtures("one_model")
def test_the_report_says_which_executor_ran(alrsim, executor):
    ran = alrsim("execute", "mlp", "--method", "bp:1f1b", "--units", 2, "--repeats", 1, "--executor", executor)
    assert ran.status == 0
    assert f"run by executor {executor}: " in ran.out
    argv = ["compare", "mlp", "--units", 2, "--measure", "--methods", "bp:gpipe", "--repeats", 1]
    ran = alrsim(*argv, "--executor", executor, "--json", "-")
    assert ran.status == 0
    assert json.loads(ran.out)["methods"][0]["measured"]["executor"] == executor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--executor", "thread"), "--executor: 'thread' is not a known executor"),
        (("--limit", 0), "--limit: is 0 s, must be positive"),
        (("--limit", -3), "--limit: is -3 s, must be positive"),
        (("--limit", "nan"), "--limit: is nan, must be a number"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_model_is_loaded(alrsim, options, message):
    for argv in (["execute", "no-such-model", "--method", "bp:1f1b"], ["compare", "no-such-model", "--measure"]):
        ran = alrsim(*argv, *options)
        assert (ran.status, ran.out) == (1, "")
        assert message in ran.err


def test_an_executor_that_this_host_lacks_says_why(alrsim, monkeypatch):
    from alrsim.execution import executors

    monkeypatch.setattr(executors, "unavailable", lambda name: "no such device" if name == "cuda" else "")
    monkeypatch.setitem(executors.EXECUTORS, "cuda", executors.EXECUTORS["threads"])
    ran = alrsim("execute", "no-such-model", "--method", "bp:1f1b", "--executor", "cuda")
    assert ran.status == 1
    assert "--executor: cuda cannot run here: no such device" in ran.err
    assert "--executor threads or --executor processes" in ran.err


@pytest.mark.parametrize("option", ["--executor", "--limit"])
def test_options_about_measuring_are_refused_where_nothing_is_measured(alrsim, graph_file, option):
    ran = alrsim("compare", graph_file, option, "threads" if option == "--executor" else 3)
    assert ran.status == 1
    assert f"{option}: says how schedules are measured" in ran.err
