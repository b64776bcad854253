"""What can be asked of the schedulers that search, and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, Literal, get_args

from alrsim.errors import OptionError
from alrsim.schedule.proof import Proof
from alrsim.schedule.schedule import Schedule

Placing = Literal["fixed", "stages", "free"]
Gradients = Literal["fixed", "free"]
Priority = Literal["critical-path", "most-successors", "longest-task", "backward-first", "depth-first", "reference"]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of the schedulers that search. A scheduler ignores those that say nothing to it.

    Attributes:
        placement: ``fixed``: stages in contiguous blocks, as the schedulers without a search place them; ``stages``: a
            stage may go to any unit as a whole; ``free``: every task may. ``None``: the scheduler's own default.
        gradients: ``free``: with placement ``fixed``, LR gradients (G and C) may run on any unit.
        priority: What ``list`` runs first of what is ready.
        live: Most micro-batches (or chunks) that a unit holds, from the start of the forward to the end of the last
            gradient of the stage: one number for all units, or one each. ``None``: no cap.
        memory: Respect the units' capacity in bytes, where the machine has one.
        effort: Deterministic work limit, in about a second each on an idle core. The same effort gives the same
            schedule on every host, as long as ``time_limit`` is not hit.
        time_limit: Seconds on the clock; ``None``: a guard that is not hit in practice, twenty times the effort and
            at least 20.
        seed: Of every random choice.
        workers: Threads of the exact solver; more than one is faster and not reproducible.
        base: Scheduler that ``local-search`` starts from; ``None``: the best of ``list``'s priorities.
        exact: ``auto`` may use the exact solver where it is installed.
    """

    placement: Placing | None = None
    gradients: Gradients | None = None
    priority: Priority = "critical-path"
    live: int | tuple[int, ...] | None = None
    memory: bool = True
    effort: float = 2.0
    time_limit: float | None = None
    seed: int = 0
    workers: int = 1
    base: str | None = None
    exact: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.effort < inf or (self.time_limit is not None and not 0 < self.time_limit < inf):
            raise OptionError("effort and time limit must be above 0, and finite", where="search options")
        if self.workers < 1:
            raise OptionError(f"workers is {self.workers}, must be at least 1", where="search options")
        caps = self.live if isinstance(self.live, tuple) else () if self.live is None else (self.live,)
        if any(cap < 1 for cap in caps):
            raise OptionError("a unit must be allowed at least one live micro-batch", where="search options, live")

    @property
    def seconds(self) -> float:
        """The limit on the clock."""
        return max(20.0, 20 * self.effort) if self.time_limit is None else self.time_limit


@dataclass(frozen=True, slots=True)
class Solution:
    """A schedule, and what its scheduler proved of it (``None``: nothing)."""

    schedule: Schedule
    proof: Proof | None = None
    notes: tuple[str, ...] = field(default=())


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "placement": get_args(Placing),
    "gradients": get_args(Gradients),
    "priority": get_args(Priority),
}


def parse_search(pairs: Mapping[str, str], *, time_limit: float | None = None) -> SearchOptions:
    """Options from text, such as ``{"placement": "free", "live": "4"}``.

    Args:
        time_limit: Seconds on the clock; the effort follows it unless it is given too.

    Raises:
        OptionError: an unknown key or value.
    """
    known = [entry.name for entry in fields(SearchOptions)]
    values: dict[str, Any] = {}
    for key, text in pairs.items():
        if key not in known:
            raise OptionError(f"{key!r} is no search option", field="search", fix=f"use {', '.join(known)}")
        values[key] = _value(key, text)
    if time_limit is not None:
        values = {"effort": max(time_limit, 1e-3), "time_limit": time_limit, **values}
    return replace(SearchOptions(), **values)


def _value(key: str, text: str) -> object:
    where = f"search option {key}"
    if key in _CHOICES:
        if text not in _CHOICES[key]:
            raise OptionError(f"{text!r} is no choice", where=where, fix=f"choose from {', '.join(_CHOICES[key])}")
        return text
    if key in ("memory", "exact"):
        if text not in ("yes", "no"):
            raise OptionError(f"{text!r} is neither yes nor no", where=where)
        return text == "yes"
    try:
        if key in ("effort", "time_limit"):
            return float(text)
        if key == "live":
            caps = tuple(int(part) for part in text.split("+"))
            return caps[0] if len(caps) == 1 else caps
        return text if key == "base" else int(text)
    except ValueError:
        raise OptionError(f"{text!r} is not a number", where=where, fix=f"`search={key}=4`") from None
