"""Estimators as values: how each stage's gradient is made, and the methods of the papers as presets of them.

A policy says what is estimated and how; it holds no tensor and imports no torch, so that rules can price it and a file
can hold it. Sources: likelihood-ratio method (arXiv 2305.08960), ALR (arXiv 2403.12320).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alrsim.errors import OptionError
from alrsim.registry import Registry

Kind = Literal["bp", "lr", "es"]
NoiseKind = Literal["gauss", "rademacher", "laplace", "hadamard", "sobol"]
InputCode = Literal["plain", "sign", "sign-scaled", "threshold"]
NoiseCode = Literal["plain", "sign"]
WeightCode = Literal["fp32", "int8", "int4"]
SigmaRule = Literal["fixed", "relative", "learned", "balanced"]
Baseline = Literal["clean", "copy-mean", "antithetic", "none"]
Reduction = Literal["stack", "accumulate"]
NoiseScope = Literal["joint", "layerwise"]
Injection = Literal["pre", "post"]
Mask = Literal["none", "reach"]

SIGN_NOISE = ("rademacher", "hadamard")
"""Noise that is +-1 already: its sign is the whole of it."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """The policy of one stage.

    Attributes:
        kind: ``bp``: exact, inside the segment that reaches the loss; ``lr``: noise on the stage's output; ``es``:
            noise on its parameters.
        copies: Noise draws per sample (``es``: per batch; ``antithetic``: pairs).
        noise: Distribution. ``rademacher`` and ``hadamard`` are +-1; ``laplace``: its sign is the exact score.
        sigma: Standard deviation of the noise; for ``relative`` and ``balanced`` in standard deviations of the
            stage's clean output (``es``: of its parameters).
        sigma_rule: ``fixed``; ``relative``: scaled as above; ``learned``: descends the papers' sigma gradient from
            ``sigma``; ``balanced``: such that every stage's noise moves the loss alike.
        baseline: What is subtracted from a copy's loss.
        input_code: How the stage's input is kept: ``plain`` in the format of the precision plan, ``sign`` (one scale
            per copy), ``sign-scaled`` (one per sample and channel), ``threshold``: 1 where x exceeds 0.7 mean|x| (and
            -1 below the negative threshold, for inputs that have signs).
        noise_code: ``plain``, or ``sign`` as in ALR.
        weight_code: Format of the loss weights in the gradient product.
        reduction: ``stack``: a product per copy; ``accumulate``: one product of the summed noise.
        scope: ``joint``: all stages in one noisy forward; ``layerwise``: one stage at a time behind a clean prefix.
    """

    kind: Kind = "lr"
    copies: int = 1
    noise: NoiseKind = "gauss"
    sigma: float = 0.02
    sigma_rule: SigmaRule = "fixed"
    baseline: Baseline = "clean"
    input_code: InputCode = "plain"
    noise_code: NoiseCode = "plain"
    weight_code: WeightCode = "fp32"
    reduction: Reduction = "stack"
    scope: NoiseScope = "joint"

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise OptionError(f"copies is {self.copies}, must be at least 1", field="copies")
        if not self.sigma > 0:
            raise OptionError(f"sigma is {self.sigma}, must be positive", field="sigma")
        if self.sigma_rule == "learned" and self.noise in SIGN_NOISE:
            raise OptionError(
                f"sigma cannot be learned with {self.noise} noise: its gradient is E[L (eps^2 - 1)], and eps^2 is "
                "always 1",
                field="sigma_rule",
                fix="use gauss noise, or a fixed or relative sigma",
            )
        if self.sigma_rule == "learned" and self.baseline != "antithetic":
            raise OptionError(
                "a learned sigma needs antithetic pairs: without them its gradient is noise",
                field="sigma_rule",
                fix="add `baseline=antithetic`",
            )

    @property
    def signs(self) -> bool:
        """Whether input or noise is kept as less than its value."""
        return self.input_code != "plain" or self.noise_code != "plain"


Plan = tuple[Estimator, ...]
"""One estimator per stage."""

LR = Estimator()
ALR = replace(LR, input_code="sign", noise_code="sign")
"""The paper's: signs of input and noise, stacked."""
ES = replace(LR, kind="es")
AES = replace(ES, noise_code="sign")
ALR_RADEMACHER = replace(LR, noise="rademacher", input_code="threshold", noise_code="sign", reduction="accumulate")
"""+-1 noise, whose sign is the score, and one bit of the input."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named method.

    Attributes:
        estimators: ``trainable -> estimator`` per trainable stage, the first one first.
    """

    name: str
    description: str
    estimators: Callable[[int], Plan]
    source: str

    def plan(self, trainable: Sequence[bool], **changes: object) -> Plan:
        """One estimator per stage. A stage without a gradient gets that of the trainable stage before it (or the first
        one); if that is ``es``, the next one that is ``lr``, because it has no parameters that noise could lie on.

        Args:
            trainable: Whether each stage has parameters.
            changes: Fields of :class:`Estimator` that replace the preset's.
        """
        chosen = [replace(one, **changes) for one in self.estimators(max(1, sum(trainable)))]  # type: ignore[arg-type]
        found, at = [], -1
        for flag in trainable:
            at += flag
            behind = chosen[max(at, 0) :]
            without = next((one for one in behind if one.kind != "es"), replace(behind[0], kind="lr"))
            found.append(chosen[at] if flag else without)
        return tuple(found)


HYBRID_STAGES = 2
"""Stages of ``hybrid`` with noise on their parameters: the first two, as in the papers' experiments on CNNs."""


def _every(one: Estimator) -> Callable[[int], Plan]:
    return lambda count: (one,) * count


def _first(front: Estimator, rest: Estimator) -> Callable[[int], Plan]:
    """``front`` on the first layers, ``rest`` on the others; at least the last layer is ``rest``."""

    def build(count: int) -> Plan:
        fronts = min(HYBRID_STAGES, max(count - 1, 0))
        return (front,) * fronts + (rest,) * (count - fronts)

    return build


def hybrid_plan(weights: Sequence[bool], rest: Estimator) -> Plan:
    """ES where ``weights`` says so: the hybrid by measurement (``auto``) takes the smaller variance per layer."""
    front = replace(rest, kind="es", input_code="plain")
    return tuple(front if flag else rest for flag in weights)


_ULR, _ALR = "arXiv 2305.08960", "arXiv 2403.12320"

_PRESETS = (
    Preset("bp", "backpropagation", _every(Estimator("bp")), "exact"),
    Preset("lr", "likelihood ratio: Gaussian noise on every layer's output", _every(LR), _ULR),
    Preset("alr", "LR from the signs of input and noise", _every(ALR), _ALR),
    Preset("es", "evolution strategies: Gaussian noise on the parameters", _every(ES), _ULR),
    Preset("aes", "ES from the signs of the noise", _every(AES), _ALR),
    Preset("hybrid", "ES on the first two layers, LR on the rest", _first(ES, LR), _ULR),
    Preset("a-hybrid", "AES on the first two layers, ALR on the rest", _first(AES, ALR), _ALR),
    Preset(
        "lr-rademacher",
        "+-1 noise and a 1-bit threshold code of the input, accumulated",
        _every(ALR_RADEMACHER),
        "our own; +-1 noise as in SPSA (Spall 1992)",
    ),
    Preset(
        "lr-laplace",
        "Laplace noise, whose sign is the exact score",
        _every(replace(LR, noise="laplace", noise_code="sign")),
        "score function of the Laplace distribution",
    ),
    Preset(
        "lr-hadamard",
        "orthogonal +-1 noise: exact at as many copies as noise has dimensions",
        _every(replace(LR, noise="hadamard", noise_code="sign", scope="layerwise", reduction="accumulate")),
        "randomised Hadamard rows",
    ),
)

PRESETS: Registry[Preset] = Registry("estimator", {one.name: one for one in _PRESETS}, "alrsim.estimators")
"""Every method by name; ``auto`` choices are made by measurement, see :func:`hybrid_plan`."""


def preset(name: str) -> Preset:
    """A method by name.

    Raises:
        OptionError: there is none; lists what exists.
    """
    if name not in PRESETS:
        raise OptionError(f"there is no method {name!r}", field="method", fix=f"one of {', '.join(PRESETS)}")
    return PRESETS[name]
