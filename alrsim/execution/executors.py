"""The registry of executors. Each file is one function: jobs and limits to a session."""

from alrsim.errors import OptionError
from alrsim.execution.session import Executor
from alrsim.execution.workers.cuda import cuda
from alrsim.execution.workers.forking import missing_fork
from alrsim.execution.workers.processes import processes
from alrsim.execution.workers.streams import missing_cuda
from alrsim.execution.workers.threads import threads
from alrsim.execution.workers.torchrun import missing_gloo, torchrun
from alrsim.registry import Registry

EXECUTORS: Registry[Executor] = Registry(
    "executor", {"threads": threads, "processes": processes, "torchrun": torchrun, "cuda": cuda}, "alrsim.executors"
)


def find_executor(name: str) -> Executor:
    """By name.

    Raises:
        OptionError: there is no such executor.
    """
    if name not in EXECUTORS:
        raise OptionError(f"there is no executor {name!r}", field="executor", fix=f"choose {', '.join(EXECUTORS)}")
    return EXECUTORS[name]


def unavailable(name: str) -> str:
    """Why this host cannot run an executor; empty if it can."""
    reasons = {"processes": missing_fork, "torchrun": missing_gloo, "cuda": missing_cuda}
    return reasons[name]() if name in reasons else ""
