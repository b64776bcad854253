"""Where to cut BP by LR: the best segments of a run of stages, by dynamic programming over labels.

A *part* is a segment that a cut could make: stages ``first..last`` with a signal at their end, or an exact head that
reaches the loss. What a choice of parts costs adds up (work), or is the worst of them (the way from the losses through
a part's gradients), and its noise adds up, too, times the number of parts with noise. A label holds those three numbers
for the parts up to some stage; a label that is no better in any of them than another with as many noisy parts is
dropped. All three only make things worse, so nothing optimal is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from alrsim.units import Ns


@dataclass(frozen=True, slots=True)
class Part:
    """A possible segment.

    Attributes:
        noise: Its share of the noise of one copy, if it were the only noisy part; 0 for an exact head.
        work: Ticks of all tasks of its stages in the step, each on its fastest unit.
        path: Ticks from the losses through its gradients and one update, at least.
        exact: An exact head.
        places: 1 if noise is added at its end; 0 for an exact head, and where there are no parameters.
    """

    noise: float
    work: Ns
    path: Ns
    exact: bool = False
    places: int = 1


Parts = Mapping[tuple[int, int, bool], Part]
"""By ``(first stage, last stage, exact)``; exact parts end at the last stage."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Segments of all stages.

    Attributes:
        starts: First stage of every segment after the first.
        exact: The last segment is an exact head.
        noise: r of one copy: the parts' noise times the number of noisy parts.
        time: Lower bound on the step: work shared out evenly, or the forward and the longest part, if that is longer.
    """

    starts: tuple[int, ...]
    exact: bool
    noise: float
    time: Ns


@dataclass(frozen=True, slots=True)
class _Label:
    noise: float
    work: Ns
    path: Ns
    starts: tuple[int, ...]
    exact: bool = False

    def beats(self, other: "_Label") -> bool:
        return self.noise <= other.noise and self.work <= other.work and self.path <= other.path


def best_cuts(parts: Parts, stages: int, units: int, limit: float, *, forward: Ns = 0, shared: Ns = 0) -> Choice | None:
    """The segments with the least time among those whose noise is at most ``limit``; ``None`` if there are none.

    Ties: less noise, then fewer segments, then earlier cuts. A single exact head is BP and no choice here.

    Args:
        units: Over which work is shared out.
        forward: Ticks from the start of the step to the losses, at least.
        shared: Work beside that of the parts.
    """
    found = (
        Choice(
            label.starts,
            label.exact,
            noisy * label.noise,
            max(-(-(shared + label.work) // units), forward + label.path),
        )
        for noisy, labels in _labels(parts, stages).items()
        for label in labels
        if noisy and noisy * label.noise <= limit
    )
    return min(found, key=lambda one: (one.time, one.noise, len(one.starts), one.exact, one.starts), default=None)


def _labels(parts: Parts, stages: int) -> dict[int, list[_Label]]:
    """Labels of all stages by the number of noisy parts."""
    at: list[dict[int, list[_Label]]] = [{} for _ in range(stages + 1)]
    at[0][0] = [_Label(0.0, 0, 0, ())]
    for end in range(1, stages + 1):
        for first in range(end):
            for exact in (False, True) if end == stages else (False,):
                part = parts.get((first, end - 1, exact))
                if part is None:
                    continue
                for noisy, labels in at[first].items():
                    row = at[end].setdefault(noisy + part.places, [])
                    for label in labels:
                        starts = (*label.starts, first) if first else label.starts
                        noise, work = label.noise + part.noise, label.work + part.work
                        _add(row, _Label(noise, work, max(label.path, part.path), starts, part.exact))
    return at[stages]


def _add(row: list[_Label], label: _Label) -> None:
    """Keep the labels that no other beats."""
    if any(other.beats(label) for other in row):
        return
    row[:] = [other for other in row if not label.beats(other)]
    row.append(label)
