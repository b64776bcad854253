"""One unit's part of a run in processes of their own: what it reads, keeps, sums and sends."""

from collections.abc import Sequence
from dataclasses import dataclass

from alrsim.errors import ExecutionError
from alrsim.execution.kernels.ledger import Key, Ledger
from alrsim.execution.kernels.sums import FOLDS
from alrsim.execution.workers.messages import Parcel, Placed, parcels_of, sum_sites, wires_of
from alrsim.schedule.actions import Action, Transport, order_actions
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE


@dataclass(frozen=True)
class Part:
    """A unit's view of the ledger. A parcel that leaves counts as a reader: it is number ``tasks + parcel``.

    Attributes:
        reads: Keys that every task and every parcel reads here.
        terms: Tasks whose terms make up each sum taken here, in reference order.
        sent: ``(sum, task)`` whose term leaves this unit.
        home: Whether the unit is the home of each stage.
    """

    reads: tuple[tuple[Key, ...], ...]
    terms: dict[Key, tuple[int, ...]]
    sent: frozenset[tuple[Key, int]]
    home: tuple[bool, ...]


@dataclass(frozen=True)
class Division:
    """A schedule divided among processes.

    Attributes:
        parcels: All that crosses units.
        items: Items as tasks, numbered lane by lane.
        actions: Of every unit, on items and parcels.
        parts: Of every unit.
        placed: Where tasks and stages are.
    """

    parcels: tuple[Parcel, ...]
    items: tuple[tuple[int, ...], ...]
    actions: tuple[tuple[Action, ...], ...]
    parts: tuple[Part, ...]
    placed: Placed


def divide(
    graph: TaskGraph,
    ledger: Ledger,
    lanes: Sequence[Sequence[tuple[int, ...]]],
    home: Sequence[int],
    transport: Transport = "buffered",
) -> Division:
    """Divide a checked schedule.

    Args:
        lanes: Per unit its items in order, each the tasks that run back to back.
        home: Unit of every stage's parameters, the loss module last.

    Raises:
        ExecutionError: data that cannot leave its process must.
        DeadlockError: lanes and messages have no common order.
    """
    unit, item_of = [NONE] * len(graph.tasks), [NONE] * len(graph.tasks)
    items: list[tuple[int, ...]] = []
    numbers: list[list[int]] = []
    for index, lane in enumerate(lanes):
        numbers.append([])
        for tasks in lane:
            for task in tasks:
                unit[task], item_of[task] = index, len(items)
            numbers[-1].append(len(items))
            items.append(tasks)
    placed = Placed(unit, home)
    parcels = parcels_of(graph, ledger, placed)
    _refuse_foreign(graph, parcels)
    actions = order_actions(numbers, wires_of(parcels, item_of), transport)
    parts = tuple(_part(index, graph, ledger, placed, parcels) for index in range(len(lanes)))
    return Division(parcels, tuple(items), actions, parts, placed)


def sent_key(parcel: Parcel) -> Key:
    """Where a parcel's data is in the sender's store."""
    return ("term", *parcel.key, parcel.producer) if parcel.term else parcel.key


def _part(unit: int, graph: TaskGraph, ledger: Ledger, placed: Placed, parcels: Sequence[Parcel]) -> Part:
    count = len(graph.tasks)
    reads: list[list[Key]] = [[] for _ in range(count + len(parcels))]
    for key, readers in ledger.readers().items():
        for reader in readers:
            if placed.unit[reader] == unit:
                reads[reader].append(key)
    for index, parcel in enumerate(parcels):
        if parcel.source == unit and parcel.key:
            reads[count + index].append(sent_key(parcel))
    sites = sum_sites(ledger, placed)
    return Part(
        tuple(tuple(keys) for keys in reads),
        {key: tuple(task for task, _ in one.terms) for key, one in ledger.sums.items() if unit in sites[key]},
        frozenset((one.key, one.producer) for one in parcels if one.term and one.source == unit),
        tuple(home == unit for home in placed.home),
    )


def _refuse_foreign(graph: TaskGraph, parcels: Sequence[Parcel]) -> None:
    for parcel in parcels:
        if parcel.term and parcel.key[0] not in FOLDS:
            token = graph.tasks[parcel.producer].id
            raise ExecutionError(
                f"{token} moves running statistics whose stage has its home on another unit",
                where=str(token),
                fix="run all forwards of a stage on one unit",
            )
