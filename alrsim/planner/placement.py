"""PipeDream's problem: a chain of pieces onto unlike units, contiguous stages, memory included. Exact.

Narayanan et al., "PipeDream", SOSP 2019, section 3.1, without replication of stages. A stage with d stages from itself
to the last holds min(d, m) micro-batches (1F1B), so the dynamic programme goes from the last piece to the first and
knows d. Labels hold the two numbers that the objectives need, the slowest stage or link and the sum of all of them;
one that is no better in either than another with the same rest is dropped, so both objectives are exact.

``bottleneck``: the slowest stage or link per micro-batch (steady throughput). ``step``: the sum over stages and links
plus (m - 1) times the slowest of them: the time of m micro-batches through the pipeline.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

from alrsim.units import Bytes, Ns

Objective = Literal["bottleneck", "step"]
Order = Literal["given", "any"]

MOST_ORDERS = 5_000
"""Sets of units that ``any`` order goes through; beyond that the machine's order is taken."""


@dataclass(frozen=True)
class Chain:
    """A chain of pieces and the units for it.

    Attributes:
        ticks: ``ticks[unit][piece]`` for one micro-batch, forward and gradients.
        resident: Bytes of parameters, gradients and optimizer state per piece.
        kept: Bytes that a micro-batch in flight keeps per piece.
        capacity: Bytes per unit; ``None``: no limit.
        way: ``way(source, target, boundary)``: ticks of everything that crosses in front of piece ``boundary`` for one
            micro-batch, values down and gradients up; ``None`` where there is no link.
        microbatches: In one step.
    """

    ticks: tuple[tuple[Ns, ...], ...]
    resident: tuple[Bytes, ...]
    kept: tuple[Bytes, ...]
    capacity: tuple[Bytes | None, ...]
    way: Callable[[int, int, int], Ns | None]
    microbatches: int

    @property
    def pieces(self) -> int:
        return len(self.resident)

    @property
    def units(self) -> int:
        return len(self.capacity)

    @cached_property
    def sums(self) -> tuple[tuple[Ns, ...], ...]:
        """Sums of ticks up to each piece, per unit."""
        return tuple(tuple(accumulate(row, initial=0)) for row in self.ticks)

    @cached_property
    def bytes_sums(self) -> tuple[tuple[Bytes, ...], tuple[Bytes, ...]]:
        """Sums of resident and kept bytes up to each piece."""
        return tuple(accumulate(self.resident, initial=0)), tuple(accumulate(self.kept, initial=0))

    def fits(self, unit: int, first: int, end: int, depth: int) -> bool:
        """Whether a stage of pieces ``first`` to ``end - 1``, with ``depth`` stages from itself to the last, fits on a
        unit."""
        (resident, kept), capacity = self.bytes_sums, self.capacity[unit]
        need = resident[end] - resident[first] + (kept[end] - kept[first]) * min(depth, self.microbatches)
        return capacity is None or need <= capacity


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """Stages of a chain on units.

    Attributes:
        starts: First piece of each stage, ascending from 0.
        units: Unit of each stage.
        slowest: Ticks of the slowest stage or link.
        total: Ticks of all stages and links together.
    """

    starts: tuple[int, ...]
    units: tuple[int, ...]
    slowest: Ns
    total: Ns

    def cost(self, objective: Objective, microbatches: int) -> Ns:
        """The number that an objective minimises."""
        return self.slowest if objective == "bottleneck" else self.total + (microbatches - 1) * self.slowest


def best_chain(chain: Chain, objective: Objective = "step", order: Order = "any") -> ChainPlan | None:
    """The best contiguous stages, one per unit used; ``None`` if no placement fits.

    Args:
        order: ``given``: stages go to units in machine order, which may be skipped; ``any``: in any order.
    """
    alike = list(range(chain.units)) if order == "given" else classes(chain)
    openers = [unit for unit in range(chain.units) if alike.index(alike[unit]) == unit]  # of those alike the first
    found: list[ChainPlan] = []
    # state: (first piece placed, its unit, units used) -> labels (slowest, total, starts, units)
    states: dict[tuple[int, int, int], list[ChainPlan]] = {}
    for first in range(chain.pieces):
        for unit in openers:
            if chain.fits(unit, first, chain.pieces, 1):
                ticks = chain.sums[unit][-1] - chain.sums[unit][first]
                states[first, unit, 1 << unit] = [ChainPlan((first,), (unit,), ticks, ticks)]
    while states:
        ahead: dict[tuple[int, int, int], list[ChainPlan]] = {}
        for (end, unit, used), labels in states.items():
            if end == 0:
                found += labels
                continue
            for other in _nexts(chain, order, alike, unit, used):
                _extend(chain, labels, end, unit, other, used, ahead)
        states = ahead
    return min(
        found,
        key=lambda plan: (plan.cost(objective, chain.microbatches), plan.total, len(plan.units)),
        default=None,
    )


def _extend(
    chain: Chain,
    labels: Sequence[ChainPlan],
    end: int,
    unit: int,
    other: int,
    used: int,
    ahead: dict[tuple[int, int, int], list[ChainPlan]],
) -> None:
    """Put stages in front of labels, on one other unit."""
    way = chain.way(other, unit, end)
    if way is None:
        return
    depth, sums = len(labels[0].units) + 1, chain.sums[other]
    for first in range(end - 1, -1, -1):
        if not chain.fits(other, first, end, depth):
            return  # longer stages need more
        ticks = sums[end] - sums[first]
        row = ahead.setdefault((first, other, used | 1 << other), [])
        for label in labels:
            slowest = max(label.slowest, ticks, way)
            _add(row, ChainPlan((first, *label.starts), (other, *label.units), slowest, label.total + ticks + way))


def _add(row: list[ChainPlan], plan: ChainPlan) -> None:
    if any(other.slowest <= plan.slowest and other.total <= plan.total for other in row):
        return
    row[:] = [other for other in row if not (plan.slowest <= other.slowest and plan.total <= other.total)]
    row.append(plan)


def _nexts(chain: Chain, order: Order, alike: Sequence[int], unit: int, used: int) -> Iterator[int]:
    """Units for the stage in front of one on ``unit``."""
    if order == "given":
        yield from range(unit)
        return
    offered: set[int] = set()
    for other in range(chain.units):
        if not used >> other & 1 and alike[other] not in offered:
            offered.add(alike[other])
            yield other


def classes(chain: Chain) -> list[int]:
    """A number per unit; equal numbers for units that can be exchanged: same ticks, capacity and links."""
    found: list[int] = []
    for unit in range(chain.units):
        found.append(next((found[other] for other in range(unit) if _alike(chain, unit, other)), unit))
    return found


def _alike(chain: Chain, one: int, other: int) -> bool:
    if chain.ticks[one] != chain.ticks[other] or chain.capacity[one] != chain.capacity[other]:
        return False
    thirds = [third for third in range(chain.units) if third not in (one, other)]
    return all(
        chain.way(one, other, boundary) == chain.way(other, one, boundary)
        and all(
            chain.way(one, third, boundary) == chain.way(other, third, boundary)
            and chain.way(third, one, boundary) == chain.way(third, other, boundary)
            for third in thirds
        )
        for boundary in range(1, chain.pieces)
    )
