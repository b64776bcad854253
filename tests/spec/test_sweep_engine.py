"""The engine and the file of a sweep: failures, dead workers, a real Dask cluster, locks."""

import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import alrsim as al
from alrsim.errors import FileError, OptionError
from alrsim.following import end_with
from alrsim.study.sweep_calls import unpack
from alrsim.sweeps.engine import Evaluate, Job, evaluate_job, require_tls, run_jobs
from alrsim.sweeps.grid import Configuration
from alrsim.sweeps.store import Result, open_store

JOBS = [Job(f"d{number}", {"number": number}) for number in range(12)]


def squares(deadly: int = -1) -> Evaluate:
    """Defined inside a function, so that it travels to workers by value."""

    def evaluate(configuration: Configuration, extra: Any) -> Mapping[str, Any]:
        from alrsim.errors import OptionError

        number = configuration["number"]
        assert isinstance(number, int)
        if number == deadly:
            os._exit(9)
        if number == 3:
            raise OptionError("three\nis refused", where="number", fix="take another")
        if number == 4:
            raise ZeroDivisionError("four")
        return {"square": number**2}

    return evaluate


def as_expected(results: list[Result]) -> None:
    found = {one.digest: one for one in results}
    assert len(found) == len(results) == len(JOBS)
    assert found["d3"].error == "number: three is refused"
    assert found["d4"].error == "bug: ZeroDivisionError: four"
    good = [job for job in JOBS if job.digest not in ("d3", "d4")]
    assert {found[job.digest].outcome["square"] for job in good} == {int(j.digest[1:]) ** 2 for j in good}


def test_a_configuration_that_fails_is_one_line_and_stops_nothing() -> None:
    as_expected(list(run_jobs(JOBS, squares())))


def test_a_worker_that_dies_takes_one_configuration_with_it() -> None:
    results = list(run_jobs(JOBS, squares(deadly=6), workers=2))
    found = {one.digest: one for one in results}
    assert len(results) == len(found) == len(JOBS)
    assert "was killed" in found["d6"].error
    assert [found[f"d{n}"].outcome.get("square") for n in (5, 7, 11)] == [25, 49, 121]


def test_who_follows_a_parent_that_is_gone_by_then_ends() -> None:
    alive, held = os.pipe()
    middle = os.fork()
    if not middle:
        parent = os.getpid()
        if not os.fork():
            while os.getppid() == parent:
                time.sleep(0.01)
            end_with(parent)
            time.sleep(60)
        os._exit(0)
    os.close(held)
    os.waitpid(middle, 0)
    ready, _, _ = select.select([alive], [], [], 20)
    os.close(alive)
    assert ready, "it stayed"


FOREVER = """
import time
from alrsim.sweeps.engine import Job, run_jobs
def evaluate(configuration, extra):
    time.sleep(600)
print("begun", flush=True)
list(run_jobs([Job(str(n), {}) for n in range(4)], evaluate, workers=2))
"""


@pytest.mark.parametrize("delay", [0, 0.2, 0.5, 1.5])
def test_a_sweep_that_is_killed_while_its_workers_start_leaves_none(delay: float) -> None:
    program = subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE, start_new_session=True)
    assert program.stdout is not None
    assert program.stdout.readline() == b"begun\n"
    until = time.monotonic() + 60
    while not psutil.Process(program.pid).children() and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(delay)
    program.send_signal(signal.SIGKILL)
    program.communicate(timeout=60)
    while left := [one.pid for one in psutil.process_iter() if session_of(one.pid) == program.pid]:
        assert time.monotonic() < until + 60, f"{left} outlived the sweep"
        time.sleep(0.05)


def session_of(process: int) -> int:
    try:
        return 0 if psutil.Process(process).status() == psutil.STATUS_ZOMBIE else os.getsid(process)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0


def test_a_dask_cluster_gives_the_same() -> None:
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(host="127.0.0.1", **options) as cluster:
        before, results = listening(), []
        for result in run_jobs(JOBS, squares(), cluster=cluster.scheduler_address):
            results.append(result)
            assert listening() <= before  # a client connects, and lets nobody connect
        as_expected(results)


def test_a_dask_cluster_by_tls_gives_the_same(tmp_path: Path) -> None:
    distributed, dask = pytest.importorskip("dask.distributed"), pytest.importorskip("dask")
    maker = shutil.which("openssl")
    if maker is None:
        pytest.skip("no openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    files = ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=alrsim"]
    subprocess.run([maker, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files], check=True, capture_output=True)
    settings = {"distributed.comm.tls.ca-file": str(certificate)}
    for who in ("scheduler", "worker", "client"):
        settings |= {
            f"distributed.comm.tls.{who}.{what}": str(one) for what, one in (("key", key), ("cert", certificate))
        }
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            host="127.0.0.1", protocol="tls", security=distributed.Security(), **options
        ) as cluster,
    ):
        require_tls(cluster.scheduler_address)
        as_expected(list(run_jobs(JOBS, squares(), cluster=cluster.scheduler_address)))


def listening() -> set[Any]:
    """Addresses at which this process and its children can be reached."""
    found = set()
    for one in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found |= {line.laddr for line in one.net_connections("tcp") if line.status == psutil.CONN_LISTEN}
    return found


def test_a_sweep_on_this_host_opens_no_port() -> None:
    before, results = listening(), []
    for result in run_jobs(JOBS, squares(), workers=2):
        results.append(result)
        assert listening() <= before
    as_expected(results)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "ucx://127.0.0.1:1", "TLS://127.0.0.1:1"])
def test_a_cluster_without_tls_is_refused_before_anything_is_done(address: str, tmp_path: Path) -> None:
    store = tmp_path / "r.sqlite"
    with pytest.raises(OptionError, match="no address of TLS"):
        al.sweep("plan", {"units": [1]}, {"model": "none"}, cluster=address, store=store)
    assert not store.exists()


def test_certificates_that_are_missing_are_a_user_error() -> None:
    pytest.importorskip("dask.distributed")
    with pytest.raises(OptionError, match="certificates"):
        list(run_jobs(JOBS, squares(), cluster="tls://127.0.0.1:1"))


def test_a_cluster_that_does_not_answer_is_a_user_error() -> None:
    pytest.importorskip("dask.distributed")
    with pytest.raises(OptionError, match="no Dask scheduler answers"):
        list(run_jobs(JOBS, squares(), cluster="nonsense://127.0.0.1:1"))


def test_a_result_is_recorded_once_and_failures_can_be_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    good, bad = Result("a", {"n": 1}, {"x": 0.5}, "", 0.1), Result("b", {"n": 2}, {}, "no", 0.2)
    with open_store(path) as store:
        store.begin("1")
        store.record(good)
        store.record(bad)
        with pytest.raises(FileError, match="cannot record"):
            store.record(good)
    assert list(tmp_path.iterdir()) == [path]  # one file, no log
    with open_store(path) as store:
        assert store.results(["a", "b", "c"]) == {"a": good, "b": bad}
        store.forget_failed(["a", "b"])
        assert store.results(["a", "b", "c"]) == {"a": good}


def test_two_sweeps_on_one_file_are_refused_but_readers_are_not(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with open_store(path) as store:
        store.begin("1")
        store.record(Result("a", {}, {}))
        with pytest.raises(FileError, match="another sweep is writing to it"), open_store(path):
            pass
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
        reader.close()
    with open_store(path) as store:
        assert store.results(["a"])


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "text.sqlite", tmp_path / "other.sqlite"
    text.write_text("this is a letter, not a database, and long enough to be read as one" * 20)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    before = text.read_bytes(), other.read_bytes()
    for path, message in ((text, "is no file of a sweep"), (other, "not of a sweep")):
        with pytest.raises(FileError, match=message), open_store(path):
            pass
    assert text.read_bytes() == before[0]
    with pytest.raises(FileError, match="its folder does not exist"), open_store(tmp_path / "none" / "r.sqlite"):
        pass


def store_of(path: Path, outcome: str = "{}") -> bytes:
    """A store with a row, and its bytes."""
    with open_store(path) as store:
        store.begin("1")
        store.record(Result("a", {"n": 1}, {"x": 0.5}))
        store.add_graph("model", b"no model" * 1000)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE results SET outcome = ?", (outcome,))
    connection.commit()
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize("outcome", ["{", "[]", "NaN", '{"x": Infinity}'])
def test_a_row_that_was_damaged_is_named(tmp_path: Path, outcome: str) -> None:
    path = tmp_path / "r.sqlite"
    store_of(path, outcome)
    with open_store(path) as store, pytest.raises(FileError, match="is damaged: the row a"):
        store.results(["a"])


def test_a_damaged_store_is_one_message_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    whole = store_of(path)
    refused = 0
    for place in range(0, len(whole), 512):
        path.write_bytes(whole[:place] + b"\xff" * 64 + whole[place + 64 :])
        try:
            with open_store(path) as store:
                store.results(["a"])
                store.graphs()
        except FileError:
            refused += 1
        assert list(tmp_path.iterdir()) == [path]
    assert refused > 4
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError), open_store(path) as store:
        store.graphs()
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_model_is_a_user_error() -> None:
    for data in (b"no model", zlib.compress(b"{"), zlib.compress(b"{}")):
        with pytest.raises(FileError, match="holds a damaged model"):
            unpack(data)


def test_a_store_is_a_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="is no regular file"), open_store(pipe):
        pass


def test_an_error_without_words_is_still_a_failure() -> None:
    def wordless(_configuration: Any, _extra: Any) -> Any:
        raise OptionError("")

    assert evaluate_job(JOBS[0], wordless).error == "OptionError"
