"""Durations that someone typed in: textbook problems, in exact rational numbers."""

from dataclasses import dataclass
from fractions import Fraction

from alrsim.errors import OptionError
from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.problem import CostModel
from alrsim.tasks.taskgraph import Task
from alrsim.tasks.token import Kind
from alrsim.units import Ns, common_denominator, parse_rational

KEYS = ("f", "b", "w", "u", "l", "g", "c", "transfer")


@dataclass(frozen=True, slots=True)
class Durations:
    """Integer ticks per task kind.

    Attributes:
        b: Input gradient (I); a full backward (B) takes ``b + w``.
        g: LR gradient.
        c: Accumulation of a copy group.
        transfer: One message, whatever its size.
        ticks_per_unit: Ticks in one typed unit.
    """

    f: int
    b: int = 0
    w: int = 0
    u: int = 0
    l: int = 0  # noqa: E741 - the letter of the task kind
    g: int = 0
    c: int = 0
    transfer: int = 0
    ticks_per_unit: int = 1

    def ticks(self, kind: Kind) -> int:
        """Ticks of a task of this kind."""
        return {
            "F": self.f,
            "L": self.l,
            "B": self.b + self.w,
            "I": self.b,
            "W": self.w,
            "G": self.g,
            "C": self.c,
            "U": self.u,
            "X": self.transfer,
        }[kind]


def parse_durations(text: str) -> Durations:
    """``f=2,b=3,w=1,u=0,transfer=0.25`` in exact ticks: the smallest unit in which every number is whole.

    ``f`` is needed; ``g`` defaults to ``w``, every other key to 0.

    Raises:
        OptionError: an unknown or double key, a number that is negative or not finite, or no ``f``.
    """
    given: dict[str, Fraction] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or key not in KEYS:
            raise OptionError(
                f"{item.strip()!r} is not KEY=NUMBER", where="--durations", fix=f"keys are {', '.join(KEYS)}"
            )
        if key in given:
            raise OptionError(f"{key!r} is given twice", where="--durations")
        given[key] = parse_rational(value, where=f"--durations {key}")
    if "f" not in given:
        raise OptionError("the forward duration f is missing", where="--durations", fix="for example f=1,b=1,w=1")
    given.setdefault("g", given.get("w", Fraction(0)))
    scale = common_denominator(given.values())
    return Durations(**{key: int(value * scale) for key, value in given.items()}, ticks_per_unit=scale)


def durations_model(durations: Durations) -> CostModel:
    """A cost model that looks the kind up; the same for every stage and unit."""

    def lookup(task: Task, _unit: Unit, _plan: PrecisionPlan) -> Ns:
        return durations.ticks(task.id.kind)

    return lookup
