"""A command that torchrun started on every rank: the manners of a rank. Only the first one speaks."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from alrsim.errors import OptionError

if TYPE_CHECKING:
    from alrsim.execution.workers.ranks import Ranks

_TORCHRUN = "torchrun"


def take_place(executor: str, units: int, join_seconds: float) -> None:
    """Under torchrun: join the other ranks. Nothing happens elsewhere.

    Args:
        units: Of the machine.
        join_seconds: Longest time to wait for the others.

    Raises:
        OptionError: there are more or fewer ranks than units.
        ExecutionError: a rank never came.
    """
    if executor != _TORCHRUN:
        return
    from alrsim.execution.workers.ranks import join, rank_place

    place = rank_place()
    if place is None:
        return
    if place.rank:  # other ranks say the same things
        with contextlib.suppress(OSError):
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    if place.world != units:
        raise OptionError(
            f"there are {units} units, but torchrun started {place.world} rank{'s' * (place.world > 1)}",
            field="executor",
            fix=f"`units={place.world}`, or start {units} ranks",
        )
    join(join_seconds)


def writes() -> bool:
    """Whether this process writes files and prints results: of ranks only the first."""
    return not (
        os.environ.get("RANK", "0") != "0"
        and "WORLD_SIZE" in os.environ
        and any(_TORCHRUN in argument for argument in sys.argv[1:])
    )


def may_complain() -> bool:
    """Whether this process tells its error: of ranks the first that asks, so that it is told once."""
    ranks = _joined()
    if ranks is None:  # what was wrong so far is wrong for all ranks
        return writes()
    told = ranks.watch.speaks()
    if told and sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__
    return told


def broken() -> bool:
    """Whether this process is a rank of a run that failed: what is left of it is not worth an orderly end, which can
    take seconds after everything has been told."""
    ranks = _joined()
    return ranks is not None and ranks.watch.failure is not None


def _joined() -> "Ranks | None":
    module = sys.modules.get("alrsim.execution.workers.ranks")
    found: Ranks | None = None if module is None else module.joined()
    return found
