"""``alrsim sweep``: many configurations, in parallel, into one file that a kill does not harm."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alrsim import __version__
from alrsim.cli.options import JsonTarget, OutFolder
from alrsim.cli.output import check_targets, progress, publish, say, tell_progress
from alrsim.cli.parse import require_positive
from alrsim.errors import AlrsimError, OptionError

if TYPE_CHECKING:
    from alrsim.sweeps.engine import Job
    from alrsim.sweeps.grid import Configuration
    from alrsim.sweeps.spec import Spec
    from alrsim.sweeps.store import Result, Store


@dataclass(frozen=True)
class Wanted:
    """The configurations of a specification, by digest."""

    spec: "Spec"
    by_digest: "Mapping[str, Configuration]"


def run(
    specification: Annotated[
        Path, typer.Argument(metavar="SPEC.yaml", help="verb, fixed, grid, ranges, sample, quality; see the manual.")
    ],
    store: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Results (SQLite). Default: SPEC.sqlite. Is continued."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes on this host. Default: one per core.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:PORT, instead.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try recorded failures again.")] = False,
    json: JsonTarget = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Every result as a row of a table.")] = None,
    out: OutFolder = None,
) -> None:
    """Evaluate every configuration of SPEC with `compare` or `plan`; what is recorded is not evaluated again.

    A killed sweep goes on where it stopped when the same command is given again. --out DIR draws the Pareto front.
    """
    from alrsim.sweeps.spec import read_spec
    from alrsim.sweeps.store import open_store

    check_targets(json, out, csv)
    require_positive({"--workers": workers})
    if cluster is not None and workers is not None:
        raise OptionError("is for this host, --cluster for another", where="--workers", fix="give one of the two")
    spec = read_spec(specification)
    target = store or specification.with_suffix(".sqlite")
    check_targets(None, None, target)
    wanted = configurations_of(spec)
    with open_store(target) as opened:
        if retry:
            opened.forget_failed(wanted.by_digest)
        known = opened.results(wanted.by_digest)
        left = [digest for digest in wanted.by_digest if digest not in known]
        if left:
            _evaluate(opened, wanted, left, workers, cluster, len(known))
            known = opened.results(wanted.by_digest)
    _report(wanted, [known[digest] for digest in wanted.by_digest], target, json, csv, out)


def configurations_of(spec: "Spec") -> Wanted:
    """Every configuration once, without what it does not read.

    Raises:
        OptionError: a name that the verb does not have.
    """
    from alrsim.cli.sweeping import arguments_of, fingerprints, normalise, with_methods
    from alrsim.sweeps.grid import configurations, digest

    spec = with_methods(spec)
    for name, value in {**spec.fixed, **{name: values[0] for name, values in spec.grid.items()}}.items():
        arguments_of(spec.verb, {name: value})  # a wrong name is wrong everywhere: say so now
    for name in spec.ranges:
        arguments_of(spec.verb, {name: 1})
    found = configurations(spec, lambda one: normalise(spec.verb, one))
    hashes: dict[str, dict[str, str]] = {}
    by_digest = {}
    for one in found:
        key = repr(sorted((name, value) for name, value in one.items() if isinstance(value, str | tuple)))
        if key not in hashes:
            hashes[key] = fingerprints(one)
        by_digest[digest(spec.verb, one, hashes[key], __version__)] = one
    return Wanted(spec, by_digest)


def default_workers() -> int:
    """Cores that this process may use."""
    from joblib import cpu_count

    return int(cpu_count())


def _evaluate(
    opened: "Store", wanted: Wanted, left: Sequence[str], workers: int | None, cluster: str | None, known: int
) -> None:
    """Load what is needed, evaluate what is left, and record each result as it comes."""
    from alrsim.cli.sweeping import evaluate
    from alrsim.sweeps.engine import run_jobs

    count = workers or default_workers()
    opened.begin(cluster or f"{count} on this host")
    done = failed = 0
    try:
        with _telling(len(left), known) as step:
            jobs, refused = _jobs(opened, wanted, left)
            for result in refused:
                opened.record(result)
                done, failed = done + 1, failed + 1
                step(failed)
            with closing(run_jobs(jobs, evaluate, workers=count, cluster=cluster)) as results:
                for result in results:
                    opened.record(result)
                    done, failed = done + 1, failed + result.failed
                    step(failed)
    except KeyboardInterrupt:
        tell_progress(f"{known + done} of {known + len(left)} are recorded; give the same command again to go on")
        raise


def _jobs(opened: "Store", wanted: Wanted, left: Sequence[str]) -> "tuple[list[Job], list[Result]]":
    """Configurations with their models, each exported once and kept; and those whose model cannot be had."""
    from alrsim.cli.sweeping import Extra, key_of, key_text, models_of, pack, unpack
    from alrsim.sweeps.engine import Job
    from alrsim.sweeps.store import Result

    packed = opened.graphs()
    models = {key_of(key): unpack(data) for key, data in packed.items()}
    jobs, refused = [], []
    for digest in left:
        configuration = wanted.by_digest[digest]
        try:
            needed = models_of(wanted.spec.verb, configuration, models)
        except AlrsimError as error:
            line = f"{error.where}: {error.what}" if error.where else error.what
            refused.append(Result(digest, configuration, {}, " ".join(line.split())))
            continue
        for key, model in needed.items():
            if key not in models:
                models[key] = model
                packed[key_text(key)] = pack(model)
                opened.add_graph(key_text(key), packed[key_text(key)])
        quality = wanted.spec.quality_of(str(configuration.get("method", "")))
        travels = tuple((key_text(key), packed[key_text(key)]) for key in needed)
        jobs.append(Job(digest, configuration, Extra(wanted.spec.verb, travels, quality)))
    return jobs, refused


@contextmanager
def _telling(total: int, known: int) -> "Iterator[Callable[[int], None]]":
    """A bar on a terminal; elsewhere a line every ten seconds."""
    begun = last = 0.0
    done = 0

    def line(failed: int) -> str:
        rest = (time.monotonic() - begun) / max(1, done - 1) * (total - done)
        wrong = f", {failed} failed" if failed else ""
        return f"{known + done} of {known + total}{wrong}, about {rest:.0f} s left"

    with progress(total, "sweep") as advance:
        advance(f"{known} of {known + total}")

        def step(failed: int) -> None:
            nonlocal done, last, begun
            if not done:
                begun = last = time.monotonic()  # what came before were exports, and workers that started
            done += 1
            advance(line(failed))
            if not sys.stderr.isatty() and time.monotonic() - last > 10:
                last = time.monotonic()
                tell_progress(f"sweep: {line(failed)}")

        yield step


def _report(
    wanted: Wanted,
    results: "Sequence[Result]",
    target: Path,
    json: str | None,
    csv: Path | None,
    out: Path | None,
) -> None:
    from alrsim.cli.sweep_report import csv_bytes, document_of, drawn, fronts_of, tell
    from alrsim.files import write_atomically

    fronts = fronts_of(results)
    files = drawn(fronts, wanted.spec) if out is not None else {}
    if csv is not None:
        write_atomically(csv, csv_bytes(results, fronts))
    document = document_of(wanted.spec, results, fronts, target)
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(wanted.spec, results, fronts, target))
    if json != "-":
        for name in files:
            say(f"wrote {out}/{name}")
        if csv is not None:
            say(f"wrote {csv}")
