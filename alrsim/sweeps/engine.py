"""Evaluate configurations in parallel: on this host's cores, or on a Dask cluster; results come as they finish.

Both go through joblib. Workers neither write nor share anything: the parent records what comes back.
"""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alrsim.errors import AlrsimError, OptionError
from alrsim.extras import require
from alrsim.following import end_with
from alrsim.sweeps.grid import Configuration
from alrsim.sweeps.store import Result

Evaluate = Callable[[Configuration, Any], Mapping[str, Any]]
"""A configuration and what it needs besides (its model, as bytes) to its numbers. Importable by name in a worker.

Raises:
    AlrsimError: the configuration makes no sense, or does not fit.
"""


@dataclass(frozen=True)
class Job:
    """One configuration to evaluate; ``extra`` travels with it."""

    digest: str
    configuration: Configuration
    extra: Any = None


def run_jobs(
    jobs: Sequence[Job], evaluate: Evaluate, *, workers: int = 1, cluster: str | None = None
) -> Generator[Result, None, None]:
    """Results as they finish. Closing the iterator ends the workers.

    A configuration that fails, or that takes its worker down, gives a result with an error.

    Args:
        workers: Processes on this host; 1 stays in this process.
        cluster: Address of a Dask scheduler, instead.

    Raises:
        OptionError: Dask is not installed, or nobody answers there.
    """
    if cluster is not None:
        with _dask(cluster):
            yield from _parallel(jobs, evaluate, -1)
    elif workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield evaluate_job(job, evaluate)
    else:
        yield from _local(jobs, evaluate, min(workers, len(jobs)))


def evaluate_job(job: Job, evaluate: Evaluate) -> Result:
    """Evaluate one configuration; every error becomes one line."""
    start = time.perf_counter()
    outcome: Mapping[str, Any] = {}
    error = ""
    try:
        outcome = evaluate(job.configuration, job.extra)
    except AlrsimError as found:
        place = found.where or found.field
        error = (f"{place}: {found.what}" if place else found.what) or type(found).__name__
    except Exception as found:  # a bug in one corner of the space must not end the sweep
        error = f"bug: {type(found).__name__}: {found}"
    line = " ".join(error.split())
    return Result(job.digest, job.configuration, outcome if not error else {}, line, time.perf_counter() - start)


def _parallel(jobs: Sequence[Job], evaluate: Evaluate, workers: int) -> Iterator[Result]:
    from joblib import Parallel, delayed

    run = Parallel(n_jobs=workers, batch_size=1, pre_dispatch="3 * n_jobs", return_as="generator_unordered")
    yield from run(delayed(evaluate_job)(job, evaluate) for job in jobs)


def _local(jobs: Sequence[Job], evaluate: Evaluate, workers: int) -> Iterator[Result]:
    from joblib import parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    left = {job.digest: job for job in jobs}
    alone: list[Job] = []
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1, **_as_follower()):
            while left:
                waiting = list(left.values())
                try:
                    for result in _parallel(waiting, evaluate, workers):
                        del left[result.digest]
                        yield result
                except BrokenProcessPool:  # a worker died; whoever was running is tried alone
                    alone = [job for job in waiting if job.digest in left][: 4 * workers]
                for job in alone:
                    del left[job.digest]
                    yield _evaluate_alone(job, evaluate)
                alone = []
    finally:
        _end_workers()


def _evaluate_alone(job: Job, evaluate: Evaluate) -> Result:
    """In a worker of its own, which may die."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with ProcessPoolExecutor(max_workers=1, **_as_follower()) as pool:
        try:
            found: Result = pool.submit(evaluate_job, job, evaluate).result()
        except BrokenProcessPool:
            return Result(job.digest, job.configuration, {}, "its process was killed (out of memory?)")
        return found


def _end_workers() -> None:
    """Kill what still runs, and wait until it is gone."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _as_follower() -> dict[str, Any]:
    """What a worker does before it waits for its first job: a parent that is killed by then would leave it waiting."""
    return {"initializer": _follow, "initargs": (os.getpid(),)}


def _follow(parent: int) -> None:
    """End this worker when its parent is gone; leave interrupts to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def require_tls(address: str) -> None:
    """Refuse a Dask scheduler whose port authenticates nobody.

    Raises:
        OptionError: its address is not that of TLS.
    """
    if not address.startswith("tls://"):
        raise OptionError(
            f"{address} is no address of TLS: whoever reaches such a port can run code as you",
            field="cluster",
            fix="give tls://HOST:PORT, with the certificates in Dask's configuration (distributed.comm.tls), or on a "
            "network of yours alone add `trust_network`",
        )


@contextmanager
def _dask(address: str) -> Iterator[None]:
    require("dask", "a sweep on a cluster")
    from dask.distributed import Client
    from joblib import parallel_config

    try:
        client: Any = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # a TypeError: there are no certificates
        raise OptionError(
            f"no Dask scheduler answers at {address}: {error}",
            field="cluster",
            fix="give tls://HOST:PORT, with the certificates in Dask's configuration (distributed.comm.tls)",
        ) from None
    with client, parallel_config(backend="dask", wait_for_workers_timeout=30):
        yield
