"""``--executor torchrun``: one command that starts its own ranks, and a rank's manners: only the first one speaks."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alrsim.errors import ExecutionError, OptionError

if TYPE_CHECKING:
    from alrsim.cli.running import Running

_INTERRUPTED, _TORCHRUN = 130, "torchrun"


def take_place(running: "Running", units: int, arguments: Sequence[str]) -> None:
    """Under torchrun: join the other ranks. Without it: run the same command under torchrun, one rank per unit, and
    leave with its exit code.

    Nothing happens for other executors.

    Args:
        units: Of the machine.
        arguments: The command line, without the program's name.

    Raises:
        OptionError: there are more or fewer ranks than units.
        ExecutionError: a rank never came, or torchrun could not start.
        SystemExit: the ranks are through.
    """
    if running.executor != _TORCHRUN:
        return
    from alrsim.execution.workers.ranks import join, rank_place

    place = rank_place()
    if place is None:
        raise SystemExit(launch(units, arguments))
    if place.rank:
        _be_quiet()
    if place.world != units:
        raise OptionError(
            f"there are {units} units, but torchrun started {place.world} rank{'s' * (place.world > 1)}",
            where="--executor torchrun",
            fix=f"--units {place.world}, or start {units} ranks",
        )
    join(running.limits.join_seconds)


def writes() -> bool:
    """Whether this process writes files and prints results: of ranks only the first."""
    return not _is_later_rank()


def may_complain() -> bool:
    """Whether this process tells its error: of ranks the first that asks, so that it is told once."""
    ranks = sys.modules.get("alrsim.execution.workers.ranks")
    joined = ranks.joined() if ranks is not None else None
    if joined is None:  # what was wrong so far is wrong for all ranks
        return not _is_later_rank()
    told: bool = joined.watch.speaks()
    if told and sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__
    return told


def broken() -> bool:
    """Whether this process is a rank of a run that failed: what is left of it is not worth an orderly end, which can
    take seconds after everything has been told."""
    ranks = sys.modules.get("alrsim.execution.workers.ranks")
    joined = ranks.joined() if ranks is not None else None
    return joined is not None and joined.watch.failure is not None


def launch(units: int, arguments: Sequence[str]) -> int:
    """``torchrun --standalone`` with this very command; its exit code.

    Raises:
        ExecutionError: torchrun could not start the ranks, or a rank died and none was left to say so.
    """
    import logging

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, who says so at length
    logging.disable(logging.CRITICAL)  # torchrun's report of a failure is a table and a traceback
    own = ["--standalone", f"--nproc-per-node={units}", "--module", "alrsim", *arguments]
    try:
        run.run(run.parse_args(own))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        return _ending(error)
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (RuntimeError, OSError, ValueError) as error:
        raise ExecutionError(
            f"torchrun could not start {units} ranks: {str(error).splitlines()[0]}", where="--executor torchrun"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _ending(error: Any) -> int:
    """Exit code of ranks that failed; one of them has told why, unless none was left to."""
    codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    if _INTERRUPTED in codes.values():
        return _INTERRUPTED
    if all(code < 0 for code in codes.values()):
        rank, code = next(iter(codes.items()))
        raise ExecutionError(f"was killed by signal {-code}", where=f"rank {rank}", fix="see the system's log")
    return next((code for code in codes.values() if code > 0), 1)


def _be_quiet() -> None:
    """Other ranks say the same things."""
    with contextlib.suppress(OSError):
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process


def _is_later_rank() -> bool:
    return (
        os.environ.get("RANK", "0") != "0"
        and "WORLD_SIZE" in os.environ
        and any(_TORCHRUN in argument for argument in sys.argv[1:])
    )
