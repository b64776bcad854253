"""``validate``: the verb and its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alrsim.options import keyword
from alrsim.steps.options import RUN, ExecutorOptions
from alrsim.verbs import verb

if TYPE_CHECKING:
    from alrsim.validation.result import ValidateResult


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(ExecutorOptions):
    """Options of :func:`validate`."""

    executor: str = keyword(
        "What runs the steps: threads | processes | torchrun | cuda.", default="processes", metavar="E", panel=RUN
    )
    repeats: int | None = keyword(
        "Measured steps per cell. Default: 5 quick, 9 full.", default=None, metavar="N", least=1, panel=RUN
    )
    quick: bool = keyword("Under five minutes on two cores: fewer models, cells and repeats.", default=False)
    cells: str | None = keyword(
        "Only these, by name; comma-separated, * for anything: 'mlp/*,*/bp:gpipe'.", default=None, metavar="LIST"
    )
    units: int | None = keyword(
        "Units that every step runs on. Default: 2.", default=None, metavar="N", short="n", least=1
    )
    check_gradients: bool = keyword("Compare every cell's gradients with those of the reference order.", default=False)
    list: bool = keyword("Name the cells and measure nothing.", default=False)
    record: Path | None = keyword(
        "Folder of one small file per cell, to be replayed. Default: traces in the folder of the journal.",
        default=None,
        metavar="DIR",
    )
    out: Path | None = keyword(
        "Folder of the journal, tables and picture; the same call with the same folder goes on where it stopped. "
        "Default: out/validation-quick or -full.",
        default=None,
        metavar="DIR",
    )


@verb(ValidateOptions)
def validate(*, asked: ValidateOptions) -> "ValidateResult":
    """Predict a grid of training steps, run them for real, and score the predictions.

    Per model: costs are measured on other steps, all predictions are written down, then the steps run in turn. The
    journal holds every prediction and every measured step as it is made: interrupt it, and the same call goes on.

    Raises:
        OptionError: a cell that does not exist, or an executor that this host cannot run.
        AlrsimError: a cell cannot be built or run; what was done before is in the journal.
    """
    from alrsim.validation.validating import validated

    return validated(asked)
