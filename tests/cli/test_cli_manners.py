"""What the command line does when something is in the way: pipes, interrupts, bugs, terminals, slow imports."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import alrsim.cli.main as main_module
from alrsim.cli.main import main
from alrsim.cli.output import showing_progress
from alrsim.errors import FileError
from alrsim.progress import reporting, stretch

HEAVY = ("torch", "onnx", "onnxscript", "simpy", "matplotlib", "sklearn")


def loaded_by(*argv: str) -> set[str]:
    """Which heavy packages a command line loads, in a fresh interpreter."""
    code = (
        "import sys\nfrom alrsim.cli.main import run\n"
        f"status = run({list(argv)!r})\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("compare", "--help"), ("hardware", "list")])
def test_light_verbs_load_nothing_heavy(argv: tuple[str, ...]) -> None:
    assert loaded_by(*argv) == set()


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ()])
def test_what_lists_the_verbs_imports_none(argv: tuple[str, ...]) -> None:
    code = (
        "import sys, time\nfrom alrsim.cli.main import run\n"
        f"status = run({list(argv)!r})\n"
        "own = [name for name in sys.modules if name.startswith('alrsim.')]\n"
        "verbs = [name for name in own if name.split('.')[1] in ('study', 'steps', 'quality', 'planner', 'training')]\n"
        "print('CPU', time.process_time(), *verbs, *[n for n in ('numpy', 'pydantic', 'rich') if n in sys.modules],"
        " file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    _, seconds, *loaded = done.stderr.split()
    assert loaded == []
    assert float(seconds) < 0.35


def test_a_simulation_of_a_saved_graph_loads_no_torch(graph_file: Path) -> None:
    argv = ("compare", str(graph_file), "--units", "2", "--json", "-")
    assert loaded_by(*argv) == {"simpy"}


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alrsim", "figure2", "--json", "-"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["speedup"] == 1.5
    bad = subprocess.run([sys.executable, "-m", "alrsim", "bogus"], capture_output=True, text=True, timeout=300)
    assert (bad.returncode, bad.stdout) == (1, "")


def test_a_reader_that_goes_away_is_no_error(graph_file: Path) -> None:
    script = f"{sys.executable} -m alrsim graph {graph_file} --json - | head -c 5; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert done.stdout.startswith("{")


def raising(error: BaseException) -> Any:
    """An application that fails in its own way."""

    def dispatch(_arguments: list[str]) -> None:
        raise error

    return dispatch


def test_an_interrupt_says_so_and_exits_130(alrsim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "dispatch", raising(KeyboardInterrupt()))
    ran = alrsim("demo")
    assert ran.status == 130
    assert "interrupted" in ran.err


def test_a_bug_says_that_it_is_one_and_shows_its_place_only_with_debug(
    alrsim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_module, "dispatch", raising(ZeroDivisionError("surprise")))
    ran = alrsim("demo")
    assert ran.status == 2
    assert "this is a bug in alrsim" in ran.err
    assert "surprise" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in alrsim("demo", "--debug").err


def test_too_little_host_memory_is_no_bug(alrsim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "dispatch", raising(MemoryError()))
    assert alrsim("demo").status == 1


def test_main_leaves_the_process_with_the_status() -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0


def test_an_interrupted_write_leaves_no_file(
    alrsim: Any, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_source: Any, _target: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alrsim.writing.os.replace", interrupted)
    ran = alrsim("stages", graph_file, "--json", tmp_path / "stages.json")
    assert ran.status == 130
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_computing_writes_nothing(
    alrsim: Any, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any, **_named: Any) -> bytes:
        raise FileError("no picture today")

    monkeypatch.setattr("alrsim.reports.memory_plot.draw_memory", broken)
    out, file = tmp_path / "out", tmp_path / "r.json"
    ran = alrsim("compare", graph_file, "--units", 2, "--out", out, "--json", file)
    assert ran.status == 1
    assert "no picture today" in ran.err
    assert not out.exists()
    assert not file.exists()


def test_warnings_go_to_stderr_so_that_stdout_stays_json(alrsim: Any, tmp_path: Path) -> None:
    file = tmp_path / "gpipe.csv"
    file.write_text("0F0,0F1,0B0,0B1,0REDUCE_GRAD\n1F0,1F1,1B0,1B1,1REDUCE_GRAD\n")
    ran = alrsim("simulate", file, "--durations", "f=1,b=1,w=1,u=1", "--json", "-")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert document["makespan"] == 3 * 3 + 1
    assert document["schedule"]["u1"].endswith("1U")


def work() -> None:
    with stretch(2, "work") as step:
        step("one")
        step("the last step")


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with showing_progress() as listener, reporting(listener):
        work()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_shows_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("rich.progress.Progress.remove_task", lambda *_: None)  # so that the end still shows it
    with showing_progress() as listener, reporting(listener):
        work()
    assert "work" in capsys.readouterr().err


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("how", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_real_interrupt_inside_a_verb_says_so(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals, status: int, word: str
) -> None:
    def interrupted(*_args: Any, **_options: Any) -> None:
        os.kill(os.getpid(), how)
        time.sleep(60)

    monkeypatch.setattr("alrsim.execution.measuring.calibrate.calibrate_all", interrupted)
    ran = alrsim("compare", "mlp", "--units", 2, "--measure", "--out", tmp_path / "out")
    assert ran.status == status
    assert ran.err.count(f"{word}; no file was left half-written") == 1
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_termination_reaches_who_is_deaf_to_ctrl_c(alrsim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alrsim.cli.main.dispatch", lambda _words: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts its background jobs
    try:
        assert alrsim("zoo").status == 143
    finally:
        signal.signal(signal.SIGINT, before)
