"""What a schedule was made for: enough to build the very same tasks again from the same model."""

from dataclasses import dataclass

from alrsim.rules.options import RuleOptions


@dataclass(frozen=True)
class Recipe:
    """Stored beside the lanes of a schedule file.

    Attributes:
        model: The model's name.
        samples: Samples in one micro-batch.
        rule: Key of :data:`alrsim.rules.RULES`.
        options: The options of that rule.
        cut: Operator names per stage.
    """

    model: str
    samples: int
    rule: str
    options: RuleOptions
    cut: tuple[tuple[str, ...], ...]
