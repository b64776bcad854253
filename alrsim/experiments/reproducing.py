"""``reproduce``: every quantitative claim of the two papers, measured on this host, with a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alrsim.errors import FileError, OptionError
from alrsim.experiments.claim import Claim
from alrsim.experiments.context import Context
from alrsim.experiments.registry import CLAIMS, parse_claims
from alrsim.experiments.result import Host, ReproduceResult, claim_row, reproduce_result
from alrsim.experiments.run import Finished, keeper, open_run, run_claims
from alrsim.options import Options, keyword
from alrsim.verbs import verb
from alrsim.version import __version__
from alrsim.warning import warn
from alrsim.writing import make_folder


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """Options of :func:`reproduce`."""

    claims: tuple[str, ...] | None = keyword(
        "Only these: ids or their beginnings, comma-separated.", default=None, metavar="LIST", parse=parse_claims
    )
    quick: bool = keyword("A few minutes: fewer seeds, steps and copies, smaller models.", default=False)
    list: bool = keyword("Name the claims and measure nothing.", default=False)
    data_folder: Path | None = keyword(
        "Folder with data sets, one folder each: cifar10, cifar100, tiny-imagenet, ag-news, cora, fashion-mnist. What "
        "is missing is stood in for, or not testable.",
        default=None,
        metavar="DIR",
    )
    out: Path | None = keyword(
        "Folder of the report, and of finished claims as they finish; the same call with the same folder goes on.",
        default=None,
        metavar="DIR",
    )
    resume: bool = keyword("Go on in the folder; the same call with the same folder does so anyway.", default=False)
    seed: int = keyword("Of models, data and noise.", default=0, metavar="N", least=0)


@verb(ReproduceOptions)
def reproduce(*, asked: ReproduceOptions) -> ReproduceResult:
    """Measure what the papers claim, claim by claim, on this host: reproduced, exceeded, not, or not testable here.

    Finished claims are kept in ``out`` as they finish: interrupt it, and the same call goes on.

    Raises:
        OptionError: a claim that does not exist, or a run to go on with in no folder.
        FileError: a folder that is none, or one that holds something else.

    >>> reproduce(claims="alr.fig2")
    ReproduceResult(4 claims: 3 reproduced, 1 exceeded)
    """
    if asked.resume and asked.out is None:
        raise OptionError("needs the folder to go on in", field="resume", fix="add `out`")
    if asked.data_folder is not None and not asked.data_folder.is_dir():
        fix = "give the folder that holds the data sets"
        raise FileError(f"{asked.data_folder} is no folder", field="data_folder", fix=fix)
    claims = [CLAIMS[name] for name in asked.claims or CLAIMS]
    found = [None] * len(claims) if asked.list else _measure(claims, asked)
    result = reproduce_result(
        [claim_row(*one) for one in zip(claims, found, strict=True)],
        mode="quick" if asked.quick else "full",
        seed=asked.seed,
        data_folder=None if asked.data_folder is None else str(asked.data_folder),
        alrsim=__version__,
        host=None if asked.list else _host(),
    )
    return result if asked.list or asked.out is None else replace(result, written=result.save(asked.out))


def _measure(claims: Sequence[Claim], asked: ReproduceOptions) -> list[Finished]:
    """Measure, keep and judge; an interrupt says how to go on."""
    import torch

    if asked.out is not None:
        make_folder(asked.out)
    version = f"alrsim {__version__}, torch {torch.__version__}"
    context = Context("quick" if asked.quick else "full", asked.seed, asked.data_folder, version)
    context, done = open_run(context, asked.out)
    found: list[Finished] = []
    try:
        for one in run_claims(claims, context, done, keeper(asked.out)):
            found.append(one)  # noqa: PERF402 - an interrupt counts what was found before it
    except KeyboardInterrupt:
        more = "the same call goes on" if asked.out is not None else "with `out` the same call would go on"
        warn(f"stopped with {len(claims) - len(found)} of {len(claims)} claims to do; {more}")
        raise
    return found


def _host() -> Host:
    import torch

    from alrsim.execution.measuring.timelines import device_name
    from alrsim.execution.workers.thread_workers import core_count

    return Host(device_name(), core_count(), torch.__version__)
