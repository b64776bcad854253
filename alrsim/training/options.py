"""Options of ``train``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from alrsim.errors import OptionError
from alrsim.options import keyword, parse_number, parse_positive, parse_share
from alrsim.quality.options import DATA, DataOptions, NoiseOptions
from alrsim.rules.optimizers import OPTIMIZERS
from alrsim.steps.method import parse_method
from alrsim.steps.options import METHOD, CopyOptions, MachineOptions, ModelOptions
from alrsim.training.job import Direction, RateSchedule
from alrsim.training.table import OWN

UPDATE, MONITOR, WHERE, FILES = "Update", "Monitor", "Where tasks run", "Files"


def parse_learner(given: Any, name: str) -> str:
    """A method that can train: ``lr``, ``lr:lr-fixed``, or one of its own such as ``fa``.

    Raises:
        OptionError: there is no such method.
    """
    label = str(getattr(given, "label", given)).strip()
    return label if label in OWN else parse_method(label, name).label


def fraction(given: Any, name: str) -> float:
    """A number of at least 0 and below 1.

    Raises:
        OptionError: anything else.
    """
    found = parse_number(given, name)
    if not 0 <= found < 1:
        raise OptionError(f"is {given}, must be at least 0 and below 1", field=name)
    return found


@dataclass(frozen=True, kw_only=True)
class UpdateOptions(DataOptions):
    """Data, steps, and what an optimizer makes of a gradient."""

    steps: int = keyword("Optimizer steps.", default=600, metavar="N", least=1, panel=DATA)
    epochs: float | None = keyword("Instead of `steps`.", default=None, metavar="E", parse=parse_positive, panel=DATA)
    eval_every: int = keyword("Steps between rows of the log.", default=50, metavar="N", least=1, panel=DATA)
    seed: int = keyword(
        "Of the first parameters, the order of data, and the noise.", default=0, metavar="N", least=0, panel=DATA
    )
    optimizer: str = keyword(
        f"{' | '.join(OPTIMIZERS)}.", default="adam", metavar="O", choices=tuple(OPTIMIZERS), panel=UPDATE
    )
    lr: float = keyword("Learning rate.", default=1e-3, metavar="R", parse=parse_positive, panel=UPDATE)
    momentum: float = keyword("Of momentum.", default=0.9, metavar="M", parse=fraction, panel=UPDATE)
    weight_decay: float = keyword("Pull towards 0.", default=0.0, metavar="W", parse=fraction, panel=UPDATE)
    lr_schedule: str = keyword(
        f"{' | '.join(get_args(RateSchedule))}.",
        default="constant",
        metavar="L",
        choices=get_args(RateSchedule),
        panel=UPDATE,
    )
    lr_every: int = keyword("step: steps between falls.", default=1000, metavar="N", least=1, panel=UPDATE)
    lr_factor: float = keyword("step: factor of a fall.", default=0.5, metavar="F", parse=parse_positive, panel=UPDATE)
    direction: str = keyword(
        "What the optimizer gets: the gradient, or the sign of its elements.",
        default="gradient",
        metavar="D",
        choices=get_args(Direction),
        panel=UPDATE,
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(UpdateOptions, NoiseOptions, CopyOptions, MachineOptions, ModelOptions):
    """Options of :func:`alrsim.training.verb.train`."""

    method: str = keyword(
        "rule or rule:scheduler (bp | lr | alr | es | aes | hybrid | a-hybrid | lr-rademacher | lr-laplace | "
        "lr-hadamard | segments), auto (kind and copies of every layer are measured at the start) | fa | "
        "fa-sequential | hsic.",
        default="bp",
        metavar="M",
        parse=parse_learner,
        panel=METHOD,
    )
    sigma_lr: float = keyword(
        "sigma_rule learned: Adam's rate for log sigma.", default=0.01, metavar="R", parse=parse_positive, panel=METHOD
    )
    beta: float | None = keyword(
        "hsic: weight of the labels. Default: 500.", default=None, metavar="B", parse=parse_positive, panel=METHOD
    )
    kernel_sigma: float | None = keyword(
        "hsic: width of kernels. Default: 5.", default=None, metavar="S", parse=parse_positive, panel=METHOD
    )
    monitor: int = keyword(
        "Every N steps estimate the gradient's cosine from two halves of the copies; 0: never.",
        default=0,
        metavar="N",
        least=0,
        panel=MONITOR,
    )
    target_cosine: float | None = keyword(
        "Double or halve the copies to hold this; auto: what its plan aims at, too (0.7).",
        default=None,
        metavar="C",
        parse=parse_share,
        panel=MONITOR,
    )
    copies_min: int = keyword("Fewest copies to go down to.", default=2, metavar="N", least=1, panel=MONITOR)
    copies_max: int = keyword("Most copies to go up to.", default=1024, metavar="N", least=1, panel=MONITOR)
    scheduler: str | None = keyword(
        "Run the tasks on worker threads (2, or `units`) in this order: lr-fixed, lr-free, gpipe, 1f1b... Same result "
        "bit for bit. Default: in sequence, or what `method` says.",
        default=None,
        metavar="S",
        panel=WHERE,
    )
    out: Path | None = keyword(
        "Folder for the result, log.csv, log.jsonl, curves.png and checkpoint.pt.",
        default=None,
        metavar="DIR",
        panel=FILES,
    )
    checkpoint: Path | None = keyword(
        "Default: checkpoint.pt in `out`, if given.", default=None, metavar="FILE", panel=FILES
    )
    resume: bool = keyword("Go on from the checkpoint, exactly.", default=False, panel=FILES)
    update_model: bool = keyword("Put the trained weights into the module that was given.", default=False, panel=FILES)
