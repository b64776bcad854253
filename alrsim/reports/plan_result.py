"""What ``plan`` returns: the chosen plan with its bound, what was compared with it, and why it takes as long."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from alrsim.documents import Document, Live
from alrsim.errors import OptionError
from alrsim.reports.bound import Bound
from alrsim.reports.step_result import Number
from alrsim.tasks.token import KIND_NAMES, Kind
from alrsim.units import Bytes


@dataclass(frozen=True)
class Formats:
    """Number formats of the state of a step."""

    parameters: str
    activations: str
    saved: str
    noise: str


@dataclass(frozen=True)
class PlanRow:
    """A plan that was carried out in simulated time.

    Attributes:
        cut: In words; empty for typed durations.
        segments: Rule ``segments``: first stage of every later segment.
        copies: LR: copies of every sample; 0 for exact gradients.
        group: LR: copies stacked in one task; ``None``: all.
        noise_mode: LR: how noise and inputs are kept.
        formats: ``None`` for typed durations, which have no bytes.
        placement: The unit of every stage.
        makespan: In the time unit of the document.
        value: What the target minimises: time, joules or bytes.
        bound: What no placement and order of this candidate can beat, in the same unit.
        gap: value / bound - 1.
        status: ``OPTIMAL`` where the value is the bound, else ``FEASIBLE``.
        expected_cosine: Of the gradient with the true one.
        schedule_bound: The makespan beside its lower bounds.
        digest: Of the schedule.
        step: Live: the scheduled step.
    """

    label: str
    rule: str
    stages: int
    microbatches: int
    tasks: int
    placement: tuple[str, ...]
    makespan: Number
    value: float
    bound: float
    gap: float
    status: str
    digest: str
    forwards_per_step: float = 1.0
    cut: str = ""
    segments: tuple[int, ...] | None = None
    copies: int = 0
    group: int | None = None
    noise_mode: str = ""
    formats: Formats | None = None
    energy_joules: float | None = None
    peak_memory_bytes: Mapping[str, Bytes] = field(default_factory=dict)
    expected_cosine: float = 1.0
    schedule_bound: Bound | None = None
    step: Live = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class PlacedStage:
    """A stage of the chosen plan: its unit, its first and its last operator."""

    unit: str
    first: str
    last: str


@dataclass(frozen=True)
class SpaceResult:
    """What was chosen from.

    Attributes:
        words: The choices.
        freedom: What else could be changed, which the bounds count in.
        candidates: How many.
        evaluated: Carried out in simulated time.
        pruned: Excluded by their bounds.
        unseen: Might be better and were not tried, for want of effort; the bound counts them.
        misfits: Did not fit into memory.
        refused: Combinations that do not exist, with the reason.
    """

    words: str
    freedom: str
    candidates: int
    evaluated: int
    pruned: int = 0
    unseen: int = 0
    misfits: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bottleneck:
    """What makes a step as long as it is.

    Attributes:
        unit: The unit that computes longest on the critical path.
        busy: Share of the step in which it computes.
        stage: Stage whose tasks of one kind take most of that unit's time on the path; the loss module is the last.
        kind: That kind.
        share: Share of the step that those tasks take on the path.
        waiting: Share of the step in which the path waits for messages.
        path: Live: tasks on the critical path.
    """

    unit: str
    busy: float
    stage: int
    kind: str
    share: float
    waiting: float
    path: Live = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        text = (
            f"unit {self.unit} is the bottleneck: stage {self.stage} {KIND_NAMES[cast(Kind, self.kind)]}"
            f" ({100 * self.share:.0f} % of the critical path; the unit computes {100 * self.busy:.0f} % of the step)"
        )
        return text + (f"; the path waits for messages {100 * self.waiting:.0f} %" if self.waiting >= 0.005 else "")


@dataclass(frozen=True)
class OneMoreUnit:
    """The same question for one unit more.

    Attributes:
        gain: Value of the target now over value then, both by heuristics alone; 1 where they find no use for it.
        plan: The best plan then.
    """

    units: int
    gain: float
    plan: str


@dataclass(frozen=True)
class PlanResult(Document):
    """The best plan that was found, with its gap.

    Attributes:
        model: ``None`` where durations were typed.
        durations: Those.
        target: What is least.
        cosine: Of target ``time-to-cosine``.
        time_unit: ``ns``, or ``user``: the unit of the durations.
        value: What the chosen plan costs, in the unit of the target: time, joules or bytes.
        bound: What no plan of the space can beat.
        gap: value / bound - 1; 0 proves that nothing in the space is better.
        status: ``OPTIMAL`` or ``FEASIBLE``.
        schedule: The chosen lane of every unit, as text.
        runner_up: The next best plan that differs in more than how noise is kept.
        ranked: Every plan that was carried out, the best one first.
        notes: What to know to take the numbers for what they are.
    """

    kind: ClassVar[str] = "plan"
    version: ClassVar[int] = 2

    model: str | None
    durations: Mapping[str, str] | None
    hardware: str | None
    units: int
    batch: int | None
    target: str
    cosine: float | None
    cost_model: str
    time_unit: str
    space: SpaceResult
    value: float
    bound: float
    gap: float
    status: str
    chosen: PlanRow
    schedule: Mapping[str, str]
    stages: tuple[PlacedStage, ...]
    runner_up: PlanRow | None
    ranked: tuple[PlanRow, ...]
    bottleneck: Bottleneck
    one_more_unit: OneMoreUnit | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"PlanResult({self.chosen.label}: {self.value:g}, gap {100 * self.gap:.1f} %)"

    @property
    def step(self) -> Any:
        """The chosen plan as a scheduled :class:`alrsim.steps.step.Step`: simulate, execute or write it.

        Raises:
            OptionError: a result that was read from a file.
        """
        if self.chosen.step is None:
            raise OptionError("was read from a file, which holds no tasks", where=self.chosen.label)
        return self.chosen.step

    def write(self, path: str | Path) -> None:
        """Write the plan's schedule: ``.json`` is alrsim's own form, ``.csv`` PyTorch's.

        Raises:
            OptionError: another ending, or a result that was read from a file.
            FileError: the file cannot be written.
        """
        self.step.write(path)

    def why(self) -> str:
        """What makes the step as long as it is, in a sentence."""
        return str(self.bottleneck)
