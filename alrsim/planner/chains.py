"""A model as a chain of its smallest pieces on a machine, for the exact :mod:`alrsim.planner.placement`."""

from collections import Counter
from dataclasses import replace
from math import prod

from alrsim.errors import AlrsimError
from alrsim.planner.candidate import Candidate, options_of
from alrsim.planner.evaluate import Setting
from alrsim.planner.placement import MOST_ORDERS, Chain, Order, best_chain, classes
from alrsim.steps.chain import build_tasks
from alrsim.steps.model import CutKey
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE


def placed_cuts(setting: Setting, microbatches: int) -> list[tuple[CutKey, tuple[int, ...]]]:
    """The best cuts into contiguous stages with the unit of each, for step time and for throughput.

    Empty where no such placement fits into memory. Times of a stage are taken as the sum of its pieces' (a cost model
    may make the stage a little faster), which only decides the cut: the plan is timed with its own stages.
    """
    pieces = setting.source.cut("operator")
    chain = chain_of(setting, pieces, microbatches)
    order: Order = "any" if _orders(chain) <= MOST_ORDERS else "given"
    found: dict[tuple[CutKey, tuple[int, ...]], None] = {}
    for plan in (best_chain(chain, "step", order), best_chain(chain, "bottleneck", order)):
        if plan is not None:
            ends = [*plan.starts[1:], len(pieces)]
            cut = tuple(
                tuple(name for piece in pieces[first:end] for name in piece)
                for first, end in zip(plan.starts, ends, strict=True)
            )
            found[cut, plan.units] = None
    return list(found)


def _orders(chain: Chain) -> int:
    """Sets of units that a search in any order meets, at most."""
    alike = Counter(classes(chain))
    return prod(count + 1 for count in alike.values()) * len(alike)


def chain_of(setting: Setting, pieces: CutKey, microbatches: int) -> Chain:
    """Pieces with their BP costs for one micro-batch."""
    machine = setting.machine
    options = options_of(Candidate("bp", "pieces", pieces, microbatches), setting.base)
    graph = setting.source.stages(pieces, microbatches)
    problem = setting.price(graph, "bp", replace(options, microbatches=1))
    tasks = problem.tasks
    units, count = range(len(machine.units)), len(pieces)
    ticks = [[0] * count for _ in units]
    for task, row in zip(tasks.tasks, problem.durations, strict=True):
        if task.id.microbatch != NONE:
            piece = min(task.id.stage, count - 1)
            for unit in units:
                ticks[unit][piece] += row[unit]
    resident, kept = _bytes(tasks, count)
    crossing = [
        options.precision.activations.bytes_for(
            sum({(e.source, e.value): e.elements for e in graph.edges if 0 <= e.source < at <= e.target}.values())
        )
        for at in range(count)
    ]

    def way(source: int, target: int, boundary: int) -> int | None:
        down, up = machine.link(source, target), machine.link(target, source)
        if down is None or up is None:
            return None
        return down.delay_ns(crossing[boundary]) + up.delay_ns(crossing[boundary])

    capacity = tuple(unit.memory_bytes for unit in machine.units)
    return Chain(tuple(map(tuple, ticks)), resident, kept, capacity, way, microbatches)


def _bytes(tasks: TaskGraph, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Resident bytes, and bytes that a micro-batch makes in its forward, per piece."""
    resident, kept = [0] * count, [0] * count
    for buffer in tasks.buffers:
        piece = min(buffer.stage, count - 1)
        if buffer.resident:
            resident[piece] += buffer.bytes
        elif buffer.producer == NONE or tasks.tasks[buffer.producer].id.kind == "F":
            kept[piece] += buffer.bytes
    return tuple(resident), tuple(kept)


def placed_candidates(setting: Setting, counts: tuple[int, ...], rules: tuple[str, ...]) -> list[Candidate]:
    """BP candidates on those cuts, each with its units."""
    found = []
    for count in counts:
        try:
            cuts = placed_cuts(setting, count)
        except AlrsimError:  # a unit that cannot compute in the format asked for is refused with a better message
            continue
        for cut, units in cuts:
            name = f"chain:{len(cut)}"
            found += [Candidate(rule, name, cut, count, units=units) for rule in ("bp", "bp-split") if rule in rules]
    return found


def is_tight(setting: Setting) -> bool:
    """Whether the whole model with one batch in flight would not fit on the smallest unit."""
    least = min((unit.memory_bytes for unit in setting.machine.units if unit.memory_bytes is not None), default=None)
    if least is None:
        return False
    source = setting.source
    graph = source.stages(source.cut("operator"), source.batch // max(source.graphs))
    tasks = build_tasks(graph, "bp", replace(setting.base, microbatches=1))
    return sum(buffer.bytes for buffer in tasks.buffers) > least
