"""Options of ``validate``."""

from dataclasses import dataclass
from pathlib import Path

from alrsim.options import keyword
from alrsim.steps.options import RUN, ExecutorOptions


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(ExecutorOptions):
    """Options of :func:`alrsim.validate`."""

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
