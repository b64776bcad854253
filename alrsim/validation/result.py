"""A scored run as a result: every number of it by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.units import Bytes, Ns
from alrsim.validation.statistics import Spread


@dataclass(frozen=True)
class WrongPair:
    """Two methods of one job that were predicted in the wrong order.

    Attributes:
        ratio: How much slower the slower one is, measured.
    """

    faster: str
    slower: str
    ratio: float


@dataclass(frozen=True)
class Order:
    """Whether methods were predicted in the right order.

    Attributes:
        kendall_tau: Mean over the groups.
        margin: Methods that differ by more than this are clear pairs.
        clear_pairs: Over all groups, each once.
    """

    kendall_tau: float | None
    margin: float
    clear_pairs: int
    right: int
    wrong: tuple[WrongPair, ...]


@dataclass(frozen=True)
class GoalRow:
    """What a quiet host should reach, and what was reached.

    Attributes:
        value: What was reached; ``None``: nothing to judge by, as ``met``.
    """

    goal: str
    limit: float
    value: float | None
    met: bool | None


@dataclass(frozen=True)
class Ratio:
    """A speed-up over the group's first method; its error is relative to the measured one."""

    predicted: float
    measured: float
    error: float


@dataclass(frozen=True)
class GroupRow:
    """Methods of one job side by side.

    Attributes:
        first: What the speed-ups are over.
        kendall_tau: Agreement of the orders; ``None`` where it is undefined.
        speedups: Method by cell name, without the first.
    """

    name: str
    first: str
    kendall_tau: float | None
    speedups: Mapping[str, Ratio]


@dataclass(frozen=True)
class CellRow:
    """One cell, predicted and measured. Errors are relative to what was measured, negative: predicted too small.

    Attributes:
        measured_ns: Median over the repeats, as ``peak_memory_bytes``.
        measured_quartiles_ns: First and third.
        terms: What each term adds to the makespan error of the median repeat.
        kinds: Relative error of the time of all tasks of a kind, in the median repeat.
        prediction_parts: What the predicted makespan is made of along its critical path, as the simulator says.
        peak_memory_error: By unit.
        cpu_share: Median share of their cores that the tasks had.
        busy_repeats: Repeats in which other programs kept the host busy.
    """

    name: str
    model: str
    method: str
    units: int
    microbatches: int
    copies: int | None
    formats: str
    predicted_at: str
    predicted_ns: Ns
    measured_ns: Ns
    measured_quartiles_ns: tuple[Ns, Ns]
    repeats: int
    error: float
    terms: Mapping[str, float]
    kinds: Mapping[str, float]
    prediction_parts: tuple[str, ...]
    peak_memory_bytes: Mapping[str, Bytes]
    predicted_peak_memory_bytes: Mapping[str, Bytes]
    peak_memory_error: Mapping[str, float]
    cpu_share: float
    busy_repeats: int

    @property
    def fullest_error(self) -> float | None:
        """Of the largest peak of any unit, which decides what fits. Peaks of the others hang on the moment at which
        messages come: one that comes a little earlier lies beside another buffer."""
        largest = max(self.peak_memory_bytes.values(), default=0)
        return max(self.predicted_peak_memory_bytes.values(), default=0) / largest - 1 if largest else None


@dataclass(frozen=True)
class ValidateResult(Document):
    """A grid of training steps, predicted, measured and scored. Errors are relative to what was measured; negative:
    predicted too small.

    Attributes:
        planned: Names of the cells that are asked for.
        steps_left: Steps that are still to be measured.
        speedup_error: Of ratios, each over the first method of its group.
        fullest_unit_memory_error: Of the peak bytes of each cell's fullest unit.
        peak_memory_error: Of peak bytes, one per cell and unit.
        classes: Makespan errors by method, then by model.
        notes: What the run noted besides.
        journal: Live: what the run wrote down.
    """

    kind: ClassVar[str] = "validate"
    version: ClassVar[int] = 2

    grid: str
    repeats: int
    warmup: int
    host: Mapping[str, Any]
    host_busy: bool
    host_verdict: str
    planned: tuple[str, ...]
    steps_left: int
    makespan_error: Spread | None
    speedup_error: Spread | None
    fullest_unit_memory_error: Spread | None
    peak_memory_error: Spread | None
    order: Order
    goals: tuple[GoalRow, ...]
    classes: Mapping[str, Spread | None]
    groups: tuple[GroupRow, ...]
    cells: tuple[CellRow, ...]
    notes: Mapping[str, Any]
    journal: Live = field(default=None, repr=False, compare=False)
