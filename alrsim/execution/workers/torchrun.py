"""The executor ``torchrun``: a rank of torch.distributed per unit.

In a program that torchrun itself started, perhaps on several hosts, its ranks are the units, and each calls this
(:mod:`alrsim.execution.workers.rank_session`). In any other program the session forks them, as ``processes`` does; they
meet through a file in a folder that only this user can read, and reach each other over this host's loopback alone.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import distributed

from alrsim.execution.prepared import Scheduled
from alrsim.execution.session import Limits, Session
from alrsim.execution.workers.arena import Arena
from alrsim.execution.workers.forking import frozen_heap, missing_fork
from alrsim.execution.workers.gloo import TRANSPORT, GroupTransport, join_on_this_host
from alrsim.execution.workers.process_worker import Jobs, LostUnitError
from alrsim.execution.workers.processes import forked_session
from alrsim.execution.workers.rank_session import RankSession
from alrsim.execution.workers.ranks import join, rank_place
from alrsim.execution.workers.unit_actions import Transport
from alrsim.timeline.facts import Facts


@contextmanager
def torchrun(jobs: Sequence[Scheduled], limits: Limits) -> Iterator[Session]:
    """Fork ranks; or, under torchrun, join the other ranks and agree on the jobs.

    Raises:
        ExecutionError: the system cannot fork, a rank never came, there are too few ranks, or ranks have prepared
            different jobs.
    """
    if rank_place() is not None:
        session = RankSession(join(limits.join_seconds), jobs, limits)
        gc.collect()
        with frozen_heap():  # collections between runs look at what runs made, not at the whole program
            yield session
        return
    with ExitStack() as stack:
        with TemporaryDirectory(prefix="alrsim-") as folder:  # mode 0700, gone before anything runs
            connect = partial(_connect, str(Path(folder) / "meeting"))
            facts = Facts(executor="torchrun", transport=TRANSPORT, ranks=max(len(job.schedule.lanes) for job in jobs))
            forked = stack.enter_context(forked_session(jobs, limits, connect, facts))
        yield forked


def _connect(meeting: str, units: int, _arena: Arena, work: Jobs) -> Callable[[int], Transport]:
    return lambda unit: GroupTransport(join_on_this_host(unit, units, meeting), unit, work, _lost)


def missing_gloo() -> str:
    """Why this host cannot run ranks; empty if it can."""
    if not (distributed.is_available() and distributed.is_gloo_available()):
        return "this build of torch has no gloo"
    return "" if rank_place() is not None else missing_fork()


def _lost(cause: str, unit: int) -> LostUnitError:
    return LostUnitError(f"lost unit {unit}: {cause}")
