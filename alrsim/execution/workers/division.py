"""A schedule divided among units that share no memory: what each reads, keeps, sums and sends."""

from collections.abc import Sequence
from dataclasses import dataclass

from alrsim.errors import ExecutionError
from alrsim.execution.kernels.folds import FOLDS
from alrsim.execution.kernels.ledger import Key, Ledger
from alrsim.execution.workers.messages import BufferMessage, Placed, messages_of, sum_sites
from alrsim.schedule.actions import Action, Transport, order_actions
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE


@dataclass(frozen=True)
class UnitView:
    """A unit's view of the ledger. A message that leaves counts as a reader: it is number ``tasks + message``.

    Attributes:
        reads: Keys that every task and every message reads here.
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
        messages: All that crosses units.
        items: Items as tasks, numbered lane by lane.
        actions: Of every unit, on items and messages.
        views: Of every unit.
        placed: Where tasks and stages are.
    """

    messages: tuple[BufferMessage, ...]
    items: tuple[tuple[int, ...], ...]
    actions: tuple[tuple[Action, ...], ...]
    views: tuple[UnitView, ...]
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
    messages = messages_of(graph, ledger, placed)
    _refuse_foreign(graph, messages)
    actions = order_actions(numbers, messages, transport, item_of)
    views = tuple(_view(index, graph, ledger, placed, messages) for index in range(len(lanes)))
    return Division(messages, tuple(items), actions, views, placed)


def sent_key(message: BufferMessage) -> Key:
    """Where a message's data is in the sender's store."""
    return ("term", *message.key, message.producer) if message.term else message.key


def _view(unit: int, graph: TaskGraph, ledger: Ledger, placed: Placed, messages: Sequence[BufferMessage]) -> UnitView:
    read = zip(ledger.reads_of(len(graph.tasks)), placed.unit, strict=True)
    reads = [tuple(keys) if at == unit else () for keys, at in read]
    reads += [(sent_key(one),) if one.source == unit and one.key else () for one in messages]
    sites = sum_sites(ledger, placed)
    return UnitView(
        tuple(reads),
        {key: tasks for key, tasks in ledger.terms().items() if unit in sites[key]},
        frozenset((one.key, one.producer) for one in messages if one.term and one.source == unit),
        tuple(home == unit for home in placed.home),
    )


def _refuse_foreign(graph: TaskGraph, messages: Sequence[BufferMessage]) -> None:
    for message in messages:
        if message.term and message.key[0] not in FOLDS:
            token = graph.tasks[message.producer].id
            raise ExecutionError(
                f"{token} moves running statistics whose stage has its home on another unit",
                where=str(token),
                fix="run all forwards of a stage on one unit",
            )
