"""``demo``: the main job in one call, with nothing to choose."""

from dataclasses import dataclass

from alrsim.options import Options, keyword
from alrsim.reports.result import CompareResult
from alrsim.steps.options import RUN
from alrsim.study.comparison import compare
from alrsim.verbs import verb

MODEL, HARDWARE = "resnet5", "cpu-2core"
UNITS, BATCH, MICROBATCHES = 2, 128, 4
METHODS = ("bp:gpipe", "bp:1f1b", "lr:lr-fixed", "alr:lr-fixed", "alr:lr-free")


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """Options of :func:`demo`."""

    repeats: int = keyword("Measured runs; the median is reported.", default=7, metavar="N", least=1, panel=RUN)
    seed: int = keyword("Seed of noise and data in measured runs.", default=0, metavar="N", least=0, panel=RUN)


@verb(DemoOptions)
def demo(*, asked: DemoOptions) -> CompareResult:
    """ResNet-5 on handwritten digits, 2 units: calibrate this host, predict BP, LR and ALR, run them, compare."""
    return compare(
        MODEL,
        HARDWARE,
        units=UNITS,
        batch=BATCH,
        microbatches=MICROBATCHES,
        methods=METHODS,
        measure=True,
        repeats=asked.repeats,
        seed=asked.seed,
    )
