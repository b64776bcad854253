"""Figures of a profile: a number with its source, its confidence, and for peaks how to derive it."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Confidence(StrEnum):
    """How far a figure can be trusted."""

    VENDOR = "vendor"
    """Read on the vendor's own page."""
    SECONDARY = "secondary"
    """Read on a page that quotes the vendor."""
    DERIVED = "derived"
    """Computed from figures that were read."""
    MEASURED = "measured"
    """Measured; the source says on what."""
    UNVERIFIED = "unverified"
    """General knowledge without a source that was read. Shown as such everywhere."""


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(Section):
    """Where a figure comes from."""

    source: Text
    confidence: Confidence
    note: str = ""


class PositiveFigure(Evidence):
    """A figure above 0; its unit is in its key."""

    value: Positive


class NonNegativeFigure(Evidence):
    """A figure that may be 0; its unit is in its key."""

    value: NonNegative


class Derivation(Section):
    """A peak from first principles: ``units * ops_per_unit_per_clock * clock_ghz`` (1 FMA = 2 operations)."""

    units: Count
    ops_per_unit_per_clock: Count
    clock_ghz: Positive
    formula: Text

    @property
    def tflops(self) -> float:
        """The peak that the formula gives, in 10^12 operations per second."""
        return self.units * self.ops_per_unit_per_clock * self.clock_ghz / 1000


class PeakFigure(PositiveFigure):
    """A dense peak; ``dense: true`` is the author's word that 2:4 sparsity is not in it."""

    dense: Literal[True]
    derivation: Derivation | None = None


class Efficiency(Evidence):
    """Share of the peak that a product of a given size reaches.

    Attributes:
        points: ``[macs, share]`` pairs in ascending ``macs``, shares in (0, 1].
    """

    points: Annotated[tuple[tuple[Count, Share], ...], Field(min_length=1)]

    @field_validator("points")
    @classmethod
    def _ascend(cls, points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        if any(second[0] <= first[0] for first, second in pairwise(points)):
            raise ValueError("the macs of the points must ascend")
        return points
