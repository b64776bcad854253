"""Options that gradient checks and training share: data, and the numbers of the noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from alrsim.errors import OptionError
from alrsim.estimators.policy import SigmaRule, WeightCode
from alrsim.options import Options, choose, keyword, parse_scale
from alrsim.steps.chain import INJECTION_CUTS
from alrsim.steps.options import METHOD, EstimatorOptions

DATA = "Data"

MASKS = ("none", "reach")


def _dataset(given: Any, name: str) -> str:
    from alrsim.datasets import DATASETS

    return choose(str(given), DATASETS, field=name, what="data set")


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """What a model is fed."""

    dataset: str | None = keyword(
        "digits (comes along) | random | synthetic-text | synthetic-graph | cifar10 | cifar100 | tiny-imagenet | "
        "fashion-mnist | ag-news | cora. Default: digits where they fit, else random.",
        default=None,
        metavar="D",
        parse=_dataset,
        panel=DATA,
    )
    data_folder: Path | None = keyword(
        "Where the files of the data set are.",
        default=None,
        metavar="DIR",
        parse=lambda given, _: Path(given),
        panel=DATA,
    )


@dataclass(frozen=True, kw_only=True)
class NoiseOptions(EstimatorOptions):
    """Numbers of the noise, and of the losses that weigh it."""

    sigma: float = keyword(
        "Standard deviation of the noise; of a rule relative or balanced: in that of the noisy values. 1 to 5 % of "
        "the values' spread is usual.",
        default=0.02,
        metavar="S",
        parse=parse_scale,
        panel=METHOD,
    )
    sigma_rule: str = keyword(
        "fixed | relative (to the spread of the values that get noise) | balanced (stages move the loss alike) | "
        "learned; the last two in training only.",
        default="fixed",
        metavar="R",
        choices=get_args(SigmaRule),
        panel=METHOD,
    )
    weight_code: str = keyword(
        "Format of the loss weights in gradient products: fp32 | int8 | int4.",
        default="fp32",
        metavar="C",
        choices=get_args(WeightCode),
        panel=METHOD,
    )
    mask: str | None = keyword(
        "Losses that weigh a noise element: none (all of its sample), or reach (those that it can influence). "
        "Default: reach where nodes or positions have losses of their own.",
        default=None,
        metavar="M",
        choices=MASKS,
        panel=METHOD,
    )


def noise_cut(asked: EstimatorOptions, default: str = "") -> str:
    """The cut that puts the noise where it is asked for.

    Args:
        default: Where neither ``cut`` nor ``inject`` is given; empty: that of ``inject``.

    Raises:
        OptionError: both are given.
    """
    if asked.cut is not None and "inject" in asked.given:
        raise OptionError("says where noise goes, and so does `cut`", field="inject", fix="give one of the two")
    if asked.cut is not None or "inject" not in asked.given:
        return asked.cut or default or INJECTION_CUTS[asked.inject]
    return INJECTION_CUTS[asked.inject]
