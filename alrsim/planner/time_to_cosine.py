"""Time to a cosine: for every cut of LR, the segments and copies that reach it soonest, and a bound on all others.

For given copies the best segments follow from :mod:`alrsim.planner.segments`. Copies go up from the fewest with which
any segments reach the cosine; a task with more copies takes no less time, so between two numbers of copies the time is
at least that of the smaller one with the noise allowed by the larger one. That ends as soon as the bound is no better
than what is known already, and no cut, no number of copies and no segment is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.planner.candidate import MODES, Candidate, options_of
from alrsim.planner.evaluate import Setting
from alrsim.planner.gradient import most_noise, shares
from alrsim.planner.segments import Choice, Part, best_cuts
from alrsim.planner.space import Space
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation, segmentation_of
from alrsim.schedule.bounds import heads
from alrsim.tasks.token import NONE
from alrsim.units import Ns

STEP = 1.15
"""Copies go up by this factor."""

MOST_STEPS = 40
NEVER = 1 << 62
"""Ticks that nothing takes."""

MOST_COPIES = 1 << 16
_GRADIENTS = frozenset("BGI")


@dataclass(frozen=True)
class Cost:
    """What a stage costs in one role.

    Attributes:
        each: Ticks of its tasks for one micro-batch, each on its fastest unit.
        once: Ticks of its update.
        forward: Ticks of its forward with noise.
        gradient: Ticks of its shortest gradient task that has a signal to hand on.
        forwards: Ticks of all its forwards for one micro-batch.
    """

    each: Ns
    once: Ns
    forward: Ns
    gradient: Ns
    forwards: Ns


Role = tuple[int, tuple[tuple[str, int], ...], bool, bool]
"""Stage, values that get noise, whether it passes a gradient up, whether its gradient is exact."""


def lr_candidates(
    setting: Setting, space: Space, target: float, per_dim: float, known: Ns
) -> tuple[list[Candidate], Ns]:
    """LR and segments that might reach a cosine before ``known`` ticks.

    Args:
        per_dim: Noise-to-signal of one copy per noise dimension.
        known: Ticks of a plan that reaches the cosine; from :data:`NEVER` on only the fewest copies are listed.

    Returns:
        What is worth carrying out, each the best segments for its cut, micro-batches, mode, groups and copies; and
        ticks that none of those left out can beat.
    """
    found: list[Candidate] = []
    floor = known
    for name in (name for name in space.layers if name in space.cuts):
        for count in space.microbatches:
            cuts = possible(setting.source.stages(space.cuts[name], count), per_dim, segments="segments" in space.rules)
            for mode, groups in product(space.modes, space.groups):
                base = Candidate("segments", name, space.cuts[name], count, groups, mode=mode)
                try:
                    chosen, least = _climb(setting, cuts, base, groups, target, known)
                except OptionError:  # a combination that does not exist
                    continue
                found += chosen
                floor = min(floor, least)
    return found, floor


def _climb(
    setting: Setting, cuts: "Possible", base: Candidate, groups: int, target: float, known: Ns
) -> tuple[list[Candidate], Ns]:
    """From the fewest copies up: candidates, and what all others in between and beyond cannot beat."""
    mode = MODES[base.mode]
    room = most_noise(1, target, mode)
    if room <= 0 or cuts.least is None:
        return [], known
    copies = _round_up(max(1.0, -(-cuts.least // room)), groups)
    found: list[Candidate] = []
    floor = known
    for _ in range(1 if known >= NEVER else MOST_STEPS):
        if copies > MOST_COPIES:
            break
        after = max(copies + groups, _round_up(copies * STEP, groups))
        one = replace(base, copies=copies, group=None if groups == 1 else copies // groups)
        table = Table(setting, cuts, options_of(one, setting.base), base.microbatches)
        if table.forwards_bound() >= known:
            return found, floor  # more copies take no less time
        table.price()
        least = table.best(most_noise(after, target, mode))
        if least is None or least.time >= known:
            return found, floor
        floor = min(floor, least.time)
        chosen = table.best(most_noise(copies, target, mode))
        if chosen is not None and chosen.time < known:
            found.append(as_candidate(one, chosen, len(cuts.graph.stages)))
        copies = after
    return found, floor


def as_candidate(base: Candidate, chosen: Choice, stages: int) -> Candidate:
    """The candidate with the segments chosen; one stage each and no exact head is plain LR."""
    if not chosen.exact and len(chosen.starts) == stages - 1:
        return replace(base, rule="lr", segments=None)
    return replace(base, segments=chosen.starts, exact_head=chosen.exact)


def _round_up(value: float, groups: int) -> int:
    return -(-int(value) // groups) * groups


@dataclass(frozen=True)
class Possible:
    """Every part that a cut of a model allows.

    Attributes:
        shapes: The segmentation that each part was looked up in: itself, and the rest around it.
        parts: Their noise; costs are 0.
        least: The least r of one copy that any segments have.
    """

    graph: StageGraph
    shapes: dict[tuple[int, int, bool], Segmentation]
    parts: dict[tuple[int, int, bool], Part]
    least: float | None


def possible(graph: StageGraph, per_dim: float, *, segments: bool) -> Possible:
    """Parts and their noise.

    Args:
        per_dim: Noise-to-signal of one copy per noise dimension.
        segments: Parts may have several stages, and an exact head; else every stage is one.
    """
    share, count = shares(graph), len(graph.stages)
    shapes: dict[tuple[int, int, bool], Segmentation] = {}
    parts: dict[tuple[int, int, bool], Part] = {}
    for first in range(count):
        for last in range(first, count) if segments else (first,):
            for exact in (False, True) if segments and first and last == count - 1 else (False,):
                starts = tuple(start for start in (first, last + 1) if 0 < start < count)
                options = RuleOptions(segments=starts, exact_head=exact)
                try:
                    shape = segmentation_of("segments", graph, options)
                except OptionError:  # marked places that do not cut every path
                    continue
                weight = sum(share[stage] * per_dim for stage in range(first, last + 1))
                dims = sum(elements for stage in range(first, last + 1) for _, elements in shape.noised[stage])
                noise = 0.0 if exact else weight * dims / max(1, graph.batch)
                shapes[first, last, exact] = shape
                parts[first, last, exact] = Part(noise, 0, 0, exact, int(not exact and dims > 0))
    found = best_cuts(parts, count, 1, float("inf"))  # all costs are 0: the choice with least noise
    return Possible(graph, shapes, parts, None if found is None else found.noise)


class Table:
    """Parts with their costs at given copies, from a few tilings of the stages by segments of equal length."""

    def __init__(self, setting: Setting, cuts: Possible, options: RuleOptions, microbatches: int) -> None:
        self.setting, self.cuts, self.graph, self.options = setting, cuts, cuts.graph, options
        self.microbatches = microbatches
        self.costs: dict[Role, Cost] = {}
        self.loss = 0
        cores = setting.machine.shared_cores
        units = len(setting.machine.units)
        self.units = units if cores is None else min(units, cores)
        self.parts: dict[tuple[int, int, bool], Part] = {}
        self.forward = 0

    def forwards_bound(self) -> Ns:
        """Ticks that the forwards alone take, whatever the segments, from two ways to cut that hardly add noise."""
        count = len(self.graph.stages)
        for starts, exact in (((), False), ((1,), True)) if count > 1 else (((), False),):
            self._learn(starts, exact)
        each = [min(cost.forwards for role, cost in self.costs.items() if role[0] == s) for s in range(count)]
        return max(-(-self.microbatches * sum(each) // self.units), self._forward_path())

    def _forward_path(self) -> Ns:
        count = len(self.graph.stages)
        ticks = [min(cost.forward for role, cost in self.costs.items() if role[0] == s) for s in range(count)]
        before = [[(edge.source, 0) for edge in self.graph.incoming(s) if edge.source >= 0] for s in range(count)]
        return max((head + tick for head, tick in zip(heads(ticks, before), ticks, strict=True)), default=0)

    def best(self, limit: float) -> Choice | None:
        """The best segments with at most so much noise."""
        count = len(self.graph.stages)
        shared = self.microbatches * self.loss
        return best_cuts(self.parts, count, self.units, limit, forward=self.forward, shared=shared)

    def price(self) -> None:
        """Make the parts."""
        count, known = len(self.graph.stages), self.cuts.shapes
        longest = max(last - first for first, last, _ in known) + 1
        for starts, exact in _tilings(count, {key[2] for key in known}, longest):
            self._learn(starts, exact)
        for (first, last, exact), shape in known.items():
            roles = [_role(shape, stage) for stage in range(first, last + 1)]
            if any(role not in self.costs for role in roles):
                self._learn(tuple(start for start in (first, last + 1) if 0 < start < count), exact)
            costs = [self.costs[role] for role in roles]
            work = sum(self.microbatches * cost.each + cost.once for cost in costs)
            part = self.cuts.parts[first, last, exact]
            self.parts[first, last, exact] = replace(part, work=work, path=self._path(shape, first, costs))
        self.forward = self._forward_path()

    def _path(self, shape: Segmentation, first: int, costs: list[Cost]) -> Ns:
        """Gradients one after the other from the end of a segment as far as each hands on to the stage above it."""
        longest = ticks = 0
        for stage in reversed(range(first, first + len(costs))):
            cost = costs[stage - first]
            if not shape.trainable[stage]:
                break
            ticks += cost.gradient
            longest = max(longest, ticks + cost.once)
            linked = any(edge.source == stage - 1 for edge in self.graph.incoming(stage))
            if not (shape.passes[stage] and linked):
                break
        return longest

    def _learn(self, starts: tuple[int, ...], exact: bool) -> None:
        """Price one micro-batch under some segments; every stage teaches the cost of its role."""
        options = replace(self.options, segments=starts, exact_head=exact, microbatches=1)
        shape = segmentation_of("segments", self.graph, options)
        if all(_role(shape, stage) in self.costs for stage in range(len(self.graph.stages))):
            return
        problem = self.setting.price(self.graph, "segments", options)
        count = len(self.graph.stages)
        rows: list[list[tuple[str, bool, Ns]]] = [[] for _ in range(count + 1)]
        for task, row in zip(problem.tasks.tasks, problem.durations, strict=True):
            rows[task.id.stage].append((task.id.kind, task.id.microbatch == NONE, min(row)))
        for stage in range(count):
            role = _role(shape, stage)
            if role not in self.costs:
                self.costs[role] = _cost(rows[stage])
        loss = sum(ticks for _, once, ticks in rows[count] if not once)
        self.loss = loss if not self.loss else min(self.loss, loss)


def _cost(rows: list[tuple[str, bool, Ns]]) -> Cost:
    return Cost(
        sum(ticks for _, once, ticks in rows if not once),
        sum(ticks for _, once, ticks in rows if once),
        max((ticks for kind, _, ticks in rows if kind == "F"), default=0),
        min((ticks for kind, _, ticks in rows if kind in _GRADIENTS), default=0),
        sum(ticks for kind, _, ticks in rows if kind == "F"),
    )


def _role(shape: Segmentation, stage: int) -> Role:
    return stage, shape.noised[stage], shape.passes[stage], shape.is_exact(stage)


def _tilings(count: int, exact: set[bool], longest: int) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Segments of lengths 1, 2 and 3 at every offset, and every exact head behind single stages."""
    for length in range(1, min(3, longest, count) + 1):
        for offset in range(length):
            yield tuple(start for start in range(offset, count, length) if start > 0), False
    if True in exact:
        for first in range(1, count):
            yield tuple(range(1, first + 1)), True
