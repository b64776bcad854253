"""``sweep``: many configurations, in parallel, into one file that a kill does not harm."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alrsim import registry
from alrsim.errors import AlrsimError, OptionError
from alrsim.options import keyword
from alrsim.progress import stretch
from alrsim.steps.options import NetworkOptions
from alrsim.study.sweep_calls import (
    Extra,
    Models,
    evaluate,
    fingerprints,
    normalise,
    require_values,
    spelled,
    with_methods,
)
from alrsim.sweeps.engine import Job, require_tls, run_jobs
from alrsim.sweeps.grid import Configuration, configurations, digest, points
from alrsim.sweeps.result import SweepResult, sweep_result
from alrsim.sweeps.spec import Spec, read_spec
from alrsim.sweeps.store import Result, Store, open_store
from alrsim.verbs import verb
from alrsim.version import __version__
from alrsim.warning import warn

MOST_CONFIGURATIONS = 100_000
"""Of one sweep, where nobody asks for more; all are listed before the first is evaluated."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions(NetworkOptions):
    """Options of :func:`sweep`."""

    store: Path | None = keyword(
        "Results (SQLite). Default: beside the specification. Is continued.",
        default=None,
        metavar="FILE",
        short="o",
    )
    workers: int | None = keyword("Processes on this host. Default: one per core.", default=None, metavar="N", least=1)
    cluster: str | None = keyword("A Dask scheduler, tls://HOST:PORT, instead.", default=None, metavar="ADDRESS")
    most: int = keyword(
        "Refuse a specification of more configurations.", default=MOST_CONFIGURATIONS, metavar="N", least=1
    )
    retry: bool = keyword("Try recorded failures again.", default=False)


@verb(SweepOptions)
def sweep(
    what: "str | Path | Callable[..., Any]",
    grid: Mapping[str, Sequence[Any]] | None = None,
    fixed: Mapping[str, Any] | None = None,
    *,
    asked: SweepOptions,
) -> SweepResult:
    """Evaluate every configuration; what is recorded in the store is not evaluated again.

    A killed sweep goes on where it stopped when the same call is made again. A specification may name a factory
    (``model: file.py:make``, ``model: package.module:make``), whose code is run: give ``no_code=True`` for
    specifications of people you do not trust.

    Args:
        what: A YAML specification (:mod:`alrsim.sweeps.spec`); or ``"compare"``, ``"plan"`` or a function of your own
            that returns numbers by name, with ``grid`` and ``fixed``.
        grid: Values by keyword: every combination is one call.
        fixed: Keywords that all calls share.

    Raises:
        OptionError: every configuration failed, a keyword that the verb does not have, contradictions, or a cluster
            without TLS whose network nobody said to trust.
        FileError: the specification or the store cannot be used.
    """
    if asked.cluster is not None and asked.workers is not None:
        raise OptionError("is for this host, `cluster` for another", field="workers", fix="give one of the two")
    if asked.cluster is not None and not asked.trust_network:
        require_tls(asked.cluster)
    function, spec, target = _what(what, grid, fixed, asked)
    if target is None:
        with TemporaryDirectory(prefix="alrsim-sweep-") as folder:
            return _run(function, spec, Path(folder) / "results.sqlite", asked, kept=False)
    return _run(function, spec, target, asked)


def _what(
    what: Any, grid: Mapping[str, Sequence[Any]] | None, fixed: Mapping[str, Any] | None, asked: SweepOptions
) -> tuple[Any, Spec, Path | None]:
    """What is called, over which configurations, and where its results are kept; ``None``: nowhere."""
    text = str(what) if isinstance(what, str | Path) else ""
    if not text:
        registry.require_code("a function", name_of(what), fix="a specification, or `compare` or `plan` with a grid")
    if grid is None and text:
        path = Path(text)
        spec = read_spec(path)
        return spec.verb, spec, asked.store or path.with_suffix(".sqlite")
    name = text or name_of(what)
    if text and text not in ("compare", "plan"):
        raise OptionError(f"{text!r} cannot be swept over a grid", fix="use compare or plan, or a function")
    if not grid:
        raise OptionError("needs at least one keyword with values", field="grid")
    axes = {key: tuple(values) for key, values in grid.items()}
    return (text or what), Spec(name, dict(fixed or {}), axes), asked.store


def name_of(function: Any) -> str:
    """Of a function of somebody's own: its module and its name there."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', 'function')}"


def configurations_of(
    function: Any, spec: Spec, most: int = MOST_CONFIGURATIONS
) -> tuple[Spec, dict[str, Configuration]]:
    """Every configuration once by its digest, without what it does not read.

    Args:
        most: More are refused, before they are listed.

    Raises:
        OptionError: a name that the verb does not have, a value that it does not take, or too many.
    """
    spec = with_methods(spec)
    spec = replace(
        spec,
        fixed=dict(spelled(function, spec.fixed)),
        grid=dict(spelled(function, spec.grid)),  # type: ignore[arg-type]
        ranges=dict(spelled(function, spec.ranges)),  # type: ignore[arg-type]
    )
    require_values(function, spec)
    if (wanted := points(spec)) > most:
        raise OptionError(
            f"asks for {wanted:,} configurations, at most {most:,} are evaluated",
            where="sweep",
            fix=f"a sample of fewer, fewer values, or `most={wanted}`",
        )
    hashes: dict[str, dict[str, str]] = {}
    by_digest = {}
    for one in configurations(spec, lambda one: normalise(function, one)):
        key = repr(sorted((name, value) for name, value in one.items() if isinstance(value, str | tuple)))
        if key not in hashes:
            hashes[key] = fingerprints(one)
        by_digest[digest(spec.verb, one, hashes[key], __version__)] = one
    return spec, by_digest


def _run(function: Any, spec: Spec, target: Path, asked: SweepOptions, *, kept: bool = True) -> SweepResult:
    spec, wanted = configurations_of(function, spec, asked.most)
    with open_store(target) as opened:
        if asked.retry:
            opened.forget_failed(wanted)
        known = opened.results(wanted)
        left = {key: one for key, one in wanted.items() if key not in known}
        if left:
            _evaluate(opened, function, spec, left, asked, len(known))
            known = opened.results(wanted)
    results = [known[key] for key in wanted]
    failed = [one for one in results if one.failed]
    if results and len(failed) == len(results):
        raise OptionError(f"every configuration failed; the first: {failed[0].error}", where="sweep")
    return sweep_result(spec, results, str(target) if kept else "")


def default_workers() -> int:
    """Cores that this process may use."""
    from joblib import cpu_count

    return int(cpu_count())


def _evaluate(
    opened: Store, function: Any, spec: Spec, left: Mapping[str, Configuration], asked: SweepOptions, known: int
) -> None:
    """Load what is needed, evaluate what is left, and record each result as it comes."""
    count = asked.workers or default_workers()
    opened.begin(asked.cluster or f"{count} on this host")
    with _telling(len(left), known) as step:
        done = failed = 0
        jobs, refused = _jobs(opened, function, spec, left)
        with closing(run_jobs(jobs, evaluate, workers=count, cluster=asked.cluster)) as results:
            try:
                for result in chain(refused, results):  # each is recorded before the next is awaited
                    opened.record(result)
                    done += 1
                    failed += result.failed
                    step(failed)
            except KeyboardInterrupt:
                warn(f"{known + done} of {known + len(left)} are recorded; the same call goes on")
                raise


def _jobs(
    opened: Store, function: Any, spec: Spec, left: Mapping[str, Configuration]
) -> tuple[list[Job], list[Result]]:
    """Configurations with their models, each exported once and kept; and those whose model cannot be had."""
    if not isinstance(function, str):
        extra = Extra(function)
        return [Job(key, one, extra) for key, one in left.items()], []
    models = Models(opened.graphs())
    jobs, refused = [], []
    for key_of_one, one in left.items():
        before = set(models.packed)
        try:
            extra = models.extra(function, one, spec.quality_of(str(one.get("method", ""))))
        except AlrsimError as error:
            place = error.where or error.field
            line = f"{place}: {error.what}" if place else error.what
            refused.append(Result(key_of_one, one, {}, " ".join(line.split())))
            continue
        for key in models.packed.keys() - before:
            opened.add_graph(key, models.packed[key])
        jobs.append(Job(key_of_one, one, extra))
    return jobs, refused


@contextmanager
def _telling(total: int, known: int) -> Iterator[Callable[[int], None]]:
    """Progress with what has failed and how long the rest will take."""
    begun = 0.0
    done = 0
    with stretch(total, "sweep") as advance:
        advance(f"{known} of {known + total}")

        def step(failed: int) -> None:
            nonlocal done, begun
            if not done:
                begun = time.monotonic()  # what came before were exports, and workers that started
            done += 1
            rest = (time.monotonic() - begun) / max(1, done - 1) * (total - done)
            wrong = f", {failed} failed" if failed else ""
            advance(f"{known + done} of {known + total}{wrong}, about {rest:.0f} s left")

        yield step
