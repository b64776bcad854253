"""A claim of a paper as a value: what is said where, the rule of its verdict, and what measures it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol

from alrsim.experiments.rules import Measured, Rule

Paper = Literal["ALR", "ULR"]
Budget = Literal["seconds", "minutes", "long"]
Area = Literal["schedule", "speed", "memory", "gradient", "accuracy", "robustness"]
Mode = Literal["quick", "full"]

ORDER = Rule("ordering")
POINTS = "points"

CITATIONS: Mapping[Paper, str] = {
    "ALR": "Zhang, Jiang et al., Approximated Likelihood Ratio, arXiv 2403.12320",
    "ULR": "Jiang, Zhang et al., One Forward is Enough for Neural Network Training via Likelihood Ratio Method, arXiv "
    "2305.08960, with its public reviews",
}


@dataclass(frozen=True)
class Claim:
    """One quantitative claim.

    Attributes:
        id: ``paper.place.what``.
        where: Table, figure, equation or section.
        text: What is claimed, in our words.
        figure: The paper's number (of an ordering: the difference it prints); ``None`` where it prints none.
        unit: Of figure and measured value.
        measure: ``file:function`` in :mod:`alrsim.experiments.measures`; empty where nothing here can measure it.
        arguments: Of that function.
        needs: Data sets without which the claim cannot be tested; orderings run on built-in data instead.
        missing: Why nothing here can measure it.
        budget: What a full run of it costs: seconds, minutes, or long (up to hours).
    """

    id: str
    paper: Paper
    where: str
    text: str
    figure: float | None
    unit: str
    area: Area
    rule: Rule
    measure: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    missing: str = ""
    budget: Budget = "seconds"


class Measure(Protocol):
    """``measure(context, **arguments) -> Measured``."""

    def __call__(self, context: Any, **arguments: Any) -> Measured: ...


def measure_of(claim: Claim) -> Measure:
    """The function behind a claim's ``measure``; heavy imports happen here."""
    module, _, name = claim.measure.partition(":")
    found: Measure = getattr(import_module(f"alrsim.experiments.measures.{module}"), name)
    return found
