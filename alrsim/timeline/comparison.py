"""A predicted and a measured timeline of one schedule, side by side."""

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

from alrsim.errors import OptionError, ScheduleError
from alrsim.tasks.token import Kind
from alrsim.timeline.timeline import Timeline
from alrsim.units import Ns


@dataclass(frozen=True)
class Residual:
    """Predicted against measured time of all tasks of one kind, in nanoseconds."""

    tasks: int
    simulated: Ns
    measured: Ns

    @property
    def error(self) -> Fraction | None:
        """``(simulated - measured) / measured``, ``None`` if nothing was measured to take time."""
        return Fraction(self.simulated - self.measured, self.measured) if self.measured else None


@dataclass(frozen=True)
class Comparison:
    """The same schedule, predicted and carried out.

    Raises:
        ScheduleError: the two are of different schedules.
        OptionError: they are not one simulated and one measured timeline, or count time in different units, or the run
            had stopped early.
    """

    simulated: Timeline
    measured: Timeline

    def __post_init__(self) -> None:
        sources = self.simulated.source, self.measured.source
        if sources != ("simulated", "measured"):
            raise OptionError(
                f"a comparison needs a simulated and a measured timeline, in this order; got {' and '.join(sources)}"
            )
        if self.measured.facts.partial:
            facts = self.measured.facts
            raise OptionError(
                f"the measured timeline is partial: {facts.tasks_done} of {facts.tasks} tasks had ended "
                "when the run stopped",
                fix="run the schedule again",
            )
        if self.simulated.schedule_digest != self.measured.schedule_digest:
            raise ScheduleError(
                f"the timelines are of different schedules: {self.simulated.schedule_digest} was simulated, "
                f"{self.measured.schedule_digest} was measured",
                fix="simulate the schedule that was executed",
            )
        if self.simulated.time_unit != self.measured.time_unit:
            raise OptionError(
                f"the simulated timeline counts in {self.simulated.time_unit}, the measured one in "
                f"{self.measured.time_unit}",
                fix="simulate with a hardware profile instead of typed durations",
            )

    @property
    def makespan_error(self) -> Fraction:
        """``(simulated - measured) / measured``: negative if the prediction is too short."""
        if not self.measured.makespan:
            raise OptionError("the measured step took no time")
        return Fraction(self.simulated.makespan - self.measured.makespan, self.measured.makespan)

    @property
    def by_kind(self) -> dict[Kind, Residual]:
        """Time of all tasks of each kind, predicted and measured; the kinds in order of first appearance."""
        predicted, taken = _times(self.simulated), _times(self.measured)
        return {kind: Residual(len(times), sum(times), sum(taken.get(kind, ()))) for kind, times in predicted.items()}


def _times(timeline: Timeline) -> dict[Kind, list[Ns]]:
    times: dict[Kind, list[Ns]] = defaultdict(list)
    for span in timeline.spans:
        times[span.task.kind].append(span.end - span.start)
    return times
