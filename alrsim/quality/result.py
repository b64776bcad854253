"""The result of a gradient check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from alrsim.documents import Document
from alrsim.errors import OptionError
from alrsim.options import choose
from alrsim.quality.choose import Suggestion
from alrsim.quality.curves import LAYER_MEAN, OVERALL, Quality
from alrsim.quality.metrics import Interval
from alrsim.quality.ordering import Ordering, orderings
from alrsim.quality.paper import ACC, COLUMNS, METHODS, SETUP, STA

BANDS = (
    "95 %: Student's t over the draws for cosine, acc, sta and noise; Student's t times the spread of a bootstrap over "
    "the draws for rho (in its logarithm) and ceiling"
)

READINGS = {"mean_over_layers": LAYER_MEAN, "whole_gradient": OVERALL}
"""Two readings of 'the' cosine of a gradient."""


@dataclass(frozen=True)
class PaperScores:
    """What the paper prints."""

    acc: float
    sta: float


@dataclass(frozen=True)
class Scores:
    """What was measured here."""

    acc: Interval
    sta: Interval


@dataclass(frozen=True)
class Column:
    """One method of the paper's table.

    Attributes:
        status: Whether it was measured here.
    """

    method: str
    paper: PaperScores
    status: str
    mean_over_layers: Scores | None
    whole_gradient: Scores | None


@dataclass(frozen=True)
class Table4:
    """The shape of the ALR paper's Table 4, the paper's numbers beside ours, and which of its orderings hold.

    Attributes:
        orderings: By reading, a key of :data:`READINGS`.
    """

    paper_setup: str
    columns: tuple[Column, ...]
    orderings: Mapping[str, tuple[Ordering, ...]]


@dataclass(frozen=True)
class State:
    """Where the parameters are.

    Attributes:
        train_steps: Steps of BP before the check.
        loss: Of the batch that is checked.
    """

    train_steps: int
    loss: float


@dataclass(frozen=True)
class GradcheckResult(Document):
    """Estimated against true gradients.

    Attributes:
        copies_share_noise: Whether a larger number of copies contains the smaller ones.
        bands: What the intervals are.
        skipped_stages: Stages without a true gradient, which no number here is about.
        suggestion: Estimators that reach a cosine in every layer, if they were asked for.
    """

    kind: ClassVar[str] = "gradcheck"
    version: ClassVar[int] = 2

    model: str
    cut: str
    dataset: str
    batch: int
    state: State
    sigma: float
    sigma_rule: str
    seed: int
    draws: int
    copies: tuple[int, ...]
    copies_share_noise: bool
    bands: str
    skipped_stages: tuple[int, ...]
    methods: tuple[Quality, ...]
    table4: Table4
    suggestion: Suggestion | None = None

    def write(self, path: str | Path) -> None:
        """Write the suggested estimators, one per stage, to a file.

        Raises:
            OptionError: nothing was suggested.
            FileError: the file cannot be written.
        """
        if self.suggestion is None:
            raise OptionError("nothing was suggested", field="suggest", fixes=[("suggest", 0.7)])
        self.suggestion.write(path)

    def __getitem__(self, method: str) -> Quality:
        """A method by its name.

        Raises:
            OptionError: it was not checked.
        """
        names = [one.method for one in self.methods]
        return self.methods[names.index(choose(method, names, what="method of this check"))]

    def __repr__(self) -> str:
        found = ", ".join(f"{one.method} {one.curve(LAYER_MEAN).acc.value:.2f}" for one in self.methods)
        return f"GradcheckResult({self.model} on {self.dataset}, mean cosine: {found})"


def table4(qualities: Sequence[Quality]) -> Table4:
    """What was measured, beside the paper's table."""
    measured = {quality.method: quality for quality in qualities}
    columns = []
    for name in COLUMNS:
        ours = measured.get(METHODS[name])
        found = {
            key: None if ours is None else Scores(ours.curve(curve).acc, ours.curve(curve).sta)
            for key, curve in READINGS.items()
        }
        status = "measured" if ours is not None else "not asked for"
        columns.append(Column(name, PaperScores(ACC[name], STA[name]), status, **found))
    compared = {key: tuple(orderings(measured, ACC, METHODS, curve)) for key, curve in READINGS.items()}
    return Table4(SETUP, tuple(columns), compared)
