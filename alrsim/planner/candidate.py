"""What a plan decides, as a value: rule, cut, segments, micro-batches, copies, and how noise is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from alrsim.estimators.policy import InputCode, NoiseCode, NoiseKind, Reduction
from alrsim.hardware.precision import Precision
from alrsim.rules.options import RuleOptions
from alrsim.steps.model import CutKey


@dataclass(frozen=True, slots=True)
class NoiseMode:
    """How LR's noise and inputs are drawn and kept between forward and gradient.

    Attributes:
        saved: Format of a stage's kept input; ``None``: that of the base options.
        kept: Format of kept noise; ``None``: that of the base options.
        k: Factor on the variance of a copy: pi/2 for signs of Gaussian noise, 1 for Gaussian and +-1 noise.
        ceiling: Cosine that infinitely many copies reach; below 1 where inputs are coded.
    """

    name: str
    about: str
    reduction: Reduction = "stack"
    noise: NoiseKind = "gauss"
    noise_code: NoiseCode = "plain"
    input_code: InputCode = "plain"
    saved: Precision | None = None
    kept: Precision | None = None
    k: float = 1.0
    ceiling: float = 1.0


HALF_PI = 1.5708
INT8, REGENERATED = Precision.INT8, Precision.REGENERATED

_MODES = (
    NoiseMode("stored", "Gaussian noise, kept"),
    NoiseMode("int8", "the same in 8 bits", saved=INT8, kept=INT8),
    NoiseMode("regenerated", "Gaussian noise, drawn again for the gradient", kept=REGENERATED),
    NoiseMode("bits", "+-1 noise, one bit each", noise="rademacher", noise_code="sign", kept=Precision.SIGN1),
    NoiseMode(
        "accumulated",
        "+-1 noise, drawn again and summed over the copies before one product",
        reduction="accumulate",
        noise="rademacher",
        kept=REGENERATED,
    ),
    NoiseMode(
        "alr",
        "the ALR paper's: signs of input and Gaussian noise",
        noise_code="sign",
        input_code="sign",
        saved=INT8,
        kept=INT8,
        k=HALF_PI,
        ceiling=0.87,
    ),
)
MODES: Mapping[str, NoiseMode] = {mode.name: mode for mode in _MODES}
"""Modes by name. ``k`` is derived (variance of a sign of a Gaussian), and 8 bits lose nothing that could be measured;
the ceiling of ``alr`` is what an untrained MLP's hidden layers reach (0.87 to 0.88; trained ones 0.81 to 0.82)."""

DEFAULT_MODES = ("stored", "int8", "regenerated", "bits", "accumulated")
"""Those that converge to the true gradient."""


@dataclass(frozen=True)
class Candidate:
    """One point of the decision space; placement and order are decided when it is evaluated.

    Attributes:
        rule: Key of :data:`alrsim.rules.RULES`.
        cut_name: The cut in words, such as ``balanced:8``.
        cut: Operator names per stage.
        copies: LR: copies of every sample; 0 for exact rules.
        group: LR: copies stacked in one task; ``None``: all.
        mode: LR: key of :data:`MODES`; empty for exact rules.
        segments: Rule ``segments``: first stage of every later segment.
        exact_head: Rule ``segments``: the last segment reaches the loss.
        units: The unit of every stage that the cut was made for; other placements are tried, too.
    """

    rule: str
    cut_name: str
    cut: CutKey
    microbatches: int
    copies: int = 0
    group: int | None = None
    mode: str = ""
    segments: tuple[int, ...] | None = None
    exact_head: bool = True
    units: tuple[int, ...] | None = None

    @property
    def is_lr(self) -> bool:
        """Whether any gradient is estimated."""
        return self.copies > 0

    @property
    def label(self) -> str:
        """In words, without placement and order."""
        plural = "" if self.microbatches == 1 else "es"
        words = [self.rule, self.cut_name, f"{self.microbatches} micro-batch{plural}"]
        if self.segments is not None:
            if self.segments:
                head = ", the last one exact" if self.exact_head else ""
                words.append(f"cut in front of stages {','.join(map(str, self.segments))}{head}")
            else:
                words.append("one segment to the model's output")
        if self.is_lr:
            groups = "" if self.group is None else f" in groups of {self.group}"
            words.append(f"{self.copies} {'copy' if self.copies == 1 else 'copies'}{groups}, noise {self.mode}")
        return ", ".join(words)


def options_of(candidate: Candidate, base: RuleOptions) -> RuleOptions:
    """The options of the candidate's rule.

    Args:
        base: What all candidates share: optimizer, update, loss, and formats where a mode says nothing.

    Raises:
        OptionError: options that contradict each other.
    """
    options = replace(
        base, microbatches=candidate.microbatches, segments=candidate.segments, exact_head=candidate.exact_head
    )
    if not candidate.is_lr:
        return options
    mode, formats = MODES[candidate.mode], base.precision
    precision = replace(formats, saved=mode.saved or formats.saved, noise=mode.kept or formats.noise)
    return replace(
        options,
        copies=candidate.copies,
        group=candidate.group,
        reduction=mode.reduction,
        noise=mode.noise,
        noise_code=mode.noise_code,
        input_code=mode.input_code,
        precision=precision,
    )
