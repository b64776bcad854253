"""The registry of executors. Each file is one function: jobs and limits to a session."""

from alrsim.errors import OptionError
from alrsim.execute.cuda import cuda
from alrsim.execute.processes import missing_fork, processes
from alrsim.execute.session import Executor
from alrsim.execute.streams import missing_cuda
from alrsim.execute.threads import threads
from alrsim.execute.torchrun import missing_gloo, torchrun

EXECUTORS: dict[str, Executor] = {"threads": threads, "processes": processes, "torchrun": torchrun, "cuda": cuda}


def find_executor(name: str) -> Executor:
    """By name.

    Raises:
        OptionError: there is no such executor.
    """
    if name not in EXECUTORS:
        raise OptionError(f"there is no executor {name!r}", where="--executor", fix=f"choose {', '.join(EXECUTORS)}")
    return EXECUTORS[name]


def unavailable(name: str) -> str:
    """Why this host cannot run an executor; empty if it can."""
    reasons = {"processes": missing_fork, "torchrun": missing_gloo, "cuda": missing_cuda}
    return reasons[name]() if name in reasons else ""
