"""The live data of one run: buffers with reference counts, and sums whose order no schedule can change."""

import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from alrsim.execution.kernels.folds import Fold
from alrsim.execution.kernels.ledger import Entry, Key, Ledger, Sum
from alrsim.execution.workers.division import UnitView
from alrsim.execution.workers.packing import copied, template_of
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import NONE


class Store:
    """Shared by all workers of a run.

    A *recording* store fills a ledger, in reference order. It does not know the readers yet, so it frees what a task
    wrote behind the last task that depends on that one. A *counting* store follows a ledger: it frees what has no
    reader left, and holds a term that is early until the terms before it are in.

    Args:
        last: Recording: the last task that depends on each task (itself if none does); ``None`` frees nothing.
        view: Counting: the only unit that this store serves; other units have stores in other processes.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        recording: bool,
        tasks: int,
        last: Sequence[int] | None = None,
        view: UnitView | None = None,
    ) -> None:
        self.ledger, self.recording, self.view = ledger, recording, view
        self._last, self._until = last, dict[Key, int]()
        self._due: list[list[Key]] = [[] for _ in range(tasks)] if recording else []
        self._owners: dict[int, tuple[weakref.ref[torch.UntypedStorage], list[tuple[Key, int]]]] = {}
        self.values: dict[Key, Any] = {}
        self._lock = threading.Lock()
        self._held: dict[Key, dict[int, Any]] = {}
        self._next: dict[Key, int] = {}
        self._reads: Sequence[Sequence[Key]] = []
        self._order: Mapping[Key, Sequence[int]] = {}
        if view is not None:
            self._reads, self._order = view.reads, view.terms
        elif not recording:
            self._reads, self._order = ledger.reads_of(tasks), ledger.terms()
        self._left: dict[Key, int] = dict(Counter(chain.from_iterable(self._reads)))

    def put(self, task: int, key: Key, value: Any, category: Category, size: int, stage: int) -> None:
        """Write a buffer; what nobody will read is not kept."""
        if self.recording:
            base = self._owner(key, value)
            own = size if base is None else value.nbytes
            self.ledger.entries[key] = Entry(category, own, stage, task, template=template_of(value), base=base)
            self._expect(task, key)
        elif not self._left.get(key) and key[0] not in KEPT:
            return
        self.values[key] = value

    def get(self, task: int, key: Key) -> Any:
        """Read a buffer, or the value of a sum."""
        if self.recording:
            record = self.ledger.entries.get(key) or self.ledger.sums[key]
            record.readers[task] = None
        return self.values[key]

    def is_last(self, key: Key) -> bool:
        """Whether one reader is left, so that the buffer goes when that one ends; a recording store cannot know."""
        return not self.recording and self._left.get(key, 0) == 1

    def touch(self, task: int, key: Key) -> None:
        """Read a buffer that this task uses through another one (autograd's saved tensors)."""
        if self.recording and self.ledger.entries[key].producer != task:
            self.ledger.entries[key].readers[task] = None

    def add(
        self, task: int, key: Key, term: Any, size: int, stage: int, fold: Fold, category: Category = Category.TEMP
    ) -> None:
        """Add a term to an ordered sum. A term whose predecessors are missing is held until they are in."""
        if self.recording:
            record = self.ledger.sums.setdefault(key, Sum(stage, category))
            record.terms.append((task, size))
            record.templates.append(template_of(term))
            self.values[key] = fold(self.values.get(key), term)
            self._expect(task, key)
            return
        if self.view is not None and (key, task) in self.view.sent:
            self.values["term", *key, task] = copied(term) if key in self._order else term
        if key not in self._order:
            return
        with self._lock:
            held, order = self._held.setdefault(key, {}), self._order[key]
            held[task] = term
            position = self._next.get(key, 0)
            while position < len(order) and order[position] in held:
                self.values[key] = fold(self.values.get(key), held.pop(order[position]))
                position += 1
            self._next[key] = position

    def preload(self, key: Key, value: Any, *, category: Category, size: int, stage: int) -> None:
        """A buffer that is there before the step."""
        if self.recording:
            base = self._owner(key, value)
            if base is not None:
                self._owners[value.untyped_storage()._cdata][1].append((key, value.data_ptr()))
            self.ledger.entries[key] = Entry(category, size, stage, NONE, template=template_of(value))
        elif not self._left.get(key) or (self.view is not None and not self.view.home[stage]):
            return
        self.values[key] = value

    def deliver(self, key: Key, value: Any) -> None:
        """A buffer that another unit made."""
        self.values[key] = value

    def _owner(self, key: Key, value: Any) -> Key | None:
        """Recording: the buffer that a tensor shares its storage with; without one it owns the storage from now on."""
        if not isinstance(value, torch.Tensor):
            return None
        storage = value.untyped_storage()
        reference, owners = self._owners.get(storage._cdata, (None, []))
        if reference is None or reference() is None:
            self._owners[storage._cdata] = weakref.ref(storage), [(key, value.data_ptr())]
            return None
        # Inputs of all micro-batches are parts of one storage; a view of one lies behind its beginning.
        before = [owner for owner, begin in owners if begin <= value.data_ptr()]
        return before[-1] if before else owners[0][0]

    def _expect(self, task: int, key: Key) -> None:
        """Recording: note how long what this task wrote may be needed."""
        if self._last is not None:
            until = max(self._last[task], self._until.get(key, 0))
            self._until[key] = until
            self._due[until].append(key)

    def finish(self, task: int) -> None:
        """Drop what no task will read any more."""
        if self.recording:
            for key in self._due[task]:
                if self._until[key] == task and key[0] not in KEPT:
                    self.values.pop(key, None)
            return
        with self._lock:
            for key in self._reads[task]:
                self._left[key] -= 1
                if not self._left[key] and key[0] not in KEPT:
                    self.values.pop(key, None)


KEPT = frozenset({"grad", "stat", "loss", "sigma"})
"""Results of the run: never dropped."""
