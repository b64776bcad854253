"""The decision space: every candidate that a plan may be, listed."""

from collections.abc import Iterator
from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine, Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.planner.candidate import DEFAULT_MODES, Candidate
from alrsim.planner.sized_model import Source
from alrsim.steps.chain import operator_times
from alrsim.steps.model import CutKey

RULES_OF_PLANS = ("bp", "bp-split", "lr", "segments")
MOST_MICROBATCHES = 32


@dataclass(frozen=True)
class Space:
    """What may be chosen from.

    Attributes:
        rules: Of :data:`RULES_OF_PLANS`.
        microbatches: Numbers of micro-batches, each a divisor of the batch.
        cuts: Cuts by name; each gives operator names per stage.
        copies: LR: numbers of copies.
        groups: LR: numbers of copy groups; those that do not divide the copies are left out.
        modes: LR: keys of :data:`~alrsim.planner.candidate.MODES`.
        layers: Names of the cuts that LR takes; its noise lies on what leaves a stage.
    """

    rules: tuple[str, ...]
    microbatches: tuple[int, ...]
    cuts: dict[str, CutKey]
    copies: tuple[int, ...] = (1,)
    groups: tuple[int, ...] = (1, 4)
    modes: tuple[str, ...] = DEFAULT_MODES
    layers: tuple[str, ...] = ("layer", "block")

    def words(self) -> str:
        """The space for people."""
        parts = [f"rules {', '.join(self.rules)}", f"cuts {', '.join(self.cuts)}"]
        parts.append(f"micro-batches {', '.join(map(str, self.microbatches))}")
        if {"lr", "segments"} & set(self.rules):
            parts.append(f"LR copies {', '.join(map(str, self.copies))}, noise {', '.join(self.modes)}")
        return "; ".join(parts)


def candidates(space: Space) -> Iterator[Candidate]:
    """Exact rules on every cut, LR with a signal at every stage on those at its layers."""
    for count in space.microbatches:
        for name, cut in space.cuts.items():
            for rule in ("bp", "bp-split"):
                if rule in space.rules:
                    yield Candidate(rule, name, cut, count)
            if "lr" in space.rules and name in space.layers:
                yield from (
                    Candidate("lr", name, cut, count, copies, None if groups == 1 else copies // groups, mode)
                    for copies in space.copies
                    for groups in sorted({number for number in space.groups if copies % number == 0})
                    for mode in space.modes
                )


def microbatch_counts(batch: int, units: int) -> tuple[int, ...]:
    """Divisors of the batch that are worth a look: powers of two, the units and multiples of them, up to 32 (or the
    units, if they are more)."""
    most = max(MOST_MICROBATCHES, units)
    wanted = {1 << power for power in range(12)} | {units, 2 * units, 3 * units, 4 * units}
    return tuple(sorted(count for count in wanted if count <= most and batch % count == 0))


def cuts_of(source: Source, machine: Machine, precision: PrecisionPlan, *, lr: bool) -> dict[str, CutKey]:
    """Balanced cuts for 1 to U and 2 U stages (time on the machine's units), and LR's layers and blocks.

    On unlike units ``balanced`` is measured on a unit of each kind; which unit runs which stage is decided later.
    """
    found: dict[str, CutKey] = {}
    seen: set[CutKey] = set()
    graph = source.any_graph()
    units = len(machine.units)
    for number, unit in enumerate(kinds_of_units(machine)):
        weights = operator_times(graph, unit, machine, precision)
        for stages in sorted({*range(1, units + 1), 2 * units}):
            try:
                cut = source.cut(f"balanced:{stages}", weights)
            except OptionError:  # fewer pieces than that, and than any larger number
                break
            if cut not in seen:
                seen.add(cut)
                found[f"balanced:{stages}" + (f" on {unit.device}" if number else "")] = cut
    if lr:
        for spec in ("layer", "block"):
            found[spec] = source.cut(spec)
    return found


def kinds_of_units(machine: Machine) -> list[Unit]:
    """One unit of every kind, in machine order."""
    seen: dict[object, Unit] = {}
    for unit in machine.units:
        figures = (unit.device, tuple(unit.peak_flops.items()), unit.memory_bandwidth, unit.launch_overhead_ns)
        seen.setdefault(figures, unit)
    return list(seen.values())
