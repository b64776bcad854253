"""The registry of executors. Each file is one function: jobs and limits to a session."""

from alrsim.errors import OptionError
from alrsim.execute.session import Executor
from alrsim.execute.threads import threads

EXECUTORS: dict[str, Executor] = {"threads": threads}


def find_executor(name: str) -> Executor:
    """By name.

    Raises:
        OptionError: there is no such executor.
    """
    if name not in EXECUTORS:
        raise OptionError(f"there is no executor {name!r}", where="--executor", fix=f"choose {', '.join(EXECUTORS)}")
    return EXECUTORS[name]
