"""How to walk down Beale's function."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from alrsim.errors import OptionError
from alrsim.options import Options, keyword, parse_number, parse_positive, parse_scale

Walker = Literal["bp", "lr", "alr"]

START = (-3.0, 2.0)
OPTIMUM = (3.0, 0.5)
"""The only minimum, with loss 0; for x < 0 a valley falls ever more slowly towards y = 1, x = -infinity."""

ESCAPED = 100.0
"""A run that goes further out than this has diverged and is stopped."""

NEAR = 0.1
"""A run that ends with a loss below this is in the optimum's basin; the valley at x < 0 keeps above 0.4 for x > -20."""

MOST_STEPS = 200_000
MOST_POINTS = 30_000_000
"""Of all runs of a method together; each takes three numbers."""


def parse_start(given: Any, name: str) -> tuple[float, float]:
    """``"-3,2"``, or two numbers, as a point.

    Raises:
        OptionError: anything else, or a point that counts as diverged.
    """
    try:
        x, y = (float(part) for part in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        raise OptionError(f"{given!r} is not two numbers", field=name, fixes=[(name, "-3,2")]) from None
    if not all(isfinite(number) and abs(number) <= ESCAPED for number in (x, y)):
        raise OptionError(f"{(x, y)} is not within -{ESCAPED:g}..{ESCAPED:g}", field=name)
    return x, y


def _steps(given: Any, name: str) -> int:
    steps = int(parse_number(given, name))
    if steps > MOST_STEPS:
        raise OptionError(f"is {steps}, must be at most {MOST_STEPS}", field=name)
    return steps


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions(Options):
    """Options of ``trajectory``."""

    steps: int = keyword("Steps of gradient descent.", default=3000, metavar="N", least=1, parse=_steps)
    lr: float = keyword("Step size.", default=1e-3, metavar="R", parse=parse_positive)
    sigma: float = keyword("Standard deviation of the noise.", default=0.01, metavar="S", parse=parse_scale)
    copies: int = keyword("Noise draws per step.", default=5, metavar="C", least=1)
    runs: int = keyword("Independent runs of LR and ALR; BP has one.", default=10, metavar="K", least=1)
    start: tuple[float, float] = keyword("Where all begin.", default=START, metavar="X,Y", parse=parse_start)
    seed: int = keyword("Of the noise.", default=0, metavar="N", least=0)

    def __post_init__(self) -> None:
        if self.runs * self.steps > MOST_POINTS:
            raise OptionError(
                f"{self.runs:,} runs of {self.steps:,} steps are more than {MOST_POINTS:,} points",
                field="runs",
                fixes=[("runs", max(1, MOST_POINTS // self.steps))],
            )
