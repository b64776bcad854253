"""Measure claims one after the other; each is kept as it finishes, and none stops the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import TypeAdapter, ValidationError

from alrsim.errors import AlrsimError, FileError
from alrsim.experiments.claim import Claim, measure_of
from alrsim.experiments.context import Context, append_line, key_of, open_memo, read_lines
from alrsim.experiments.rules import Measured, Outcome
from alrsim.progress import stretch

DONE_FILE, PARTS_FILE = "claims.jsonl", "parts.jsonl"


@dataclass(frozen=True)
class Finished:
    """A claim with its verdict.

    Attributes:
        key: Of claim, mode, seed and the version of what it depends on.
        measured: ``None`` where nothing was measured.
        seconds: That this claim took; parts that another claim had measured before cost it nothing.
    """

    id: str
    key: str
    outcome: Outcome
    measured: Measured | None
    seconds: float


def run_claims(
    claims: Sequence[Claim],
    context: Context,
    done: Mapping[str, Finished],
    keep: Callable[[Finished], None],
) -> Iterator[Finished]:
    """One after the other, in order; those that are done come from memory.

    Args:
        done: By key.
        keep: Called with every claim that was measured now.
    """
    with stretch(len(claims), "reproduce") as step:
        for claim in claims:
            step(f"{claim.id}: {claim.text}")
            key = claim_key(claim, context)
            found = done.get(key) or examine(claim, context, key)
            if key not in done:
                keep(found)
            yield found


def examine(claim: Claim, context: Context, key: str = "") -> Finished:
    """Measure and judge; whatever goes wrong becomes the verdict ``failed`` with its message."""
    obstacle = missing(claim, context)
    if obstacle:
        return Finished(claim.id, key, Outcome("not testable here", True, obstacle), None, 0.0)
    begun = perf_counter()
    try:
        measured = measure_of(claim)(context, **claim.arguments)
        outcome = claim.rule.judge(claim.figure, measured)
    except AlrsimError as error:
        measured, outcome = None, Outcome("failed", True, " ".join(str(error).split()))
    except MemoryError:
        measured, outcome = None, Outcome("failed", True, "this host has not enough memory for it")
    except Exception as error:  # a bug in one measurement must not cost the others
        measured, outcome = None, Outcome("failed", True, f"{type(error).__name__}: {error}")
    return Finished(claim.id, key, outcome, measured, perf_counter() - begun)


def missing(claim: Claim, context: Context) -> str:
    """Why the claim cannot be tested here, if so: nothing measures it, or its data are not there."""
    if not claim.measure:
        return claim.missing
    from alrsim.datasets import DATASETS
    from alrsim.experiments.measures.training import found

    lacking = [name for name in claim.needs if found(context, name) is None]
    if not lacking:
        return ""
    layouts = [DATASETS[name].layout for name in lacking]
    names = " and ".join(f"{layout.official} as {layout.dataset}/" for layout in layouts if layout is not None)
    return f"needs {names} in `data_folder`"


def claim_key(claim: Claim, context: Context) -> str:
    """What decides a claim's result: the claim, mode, seed, data that are there, versions, and how it is measured."""
    return key_of(
        {
            "claim": [claim.id, claim.figure, asdict(claim.rule), claim.measure, claim.arguments, claim.missing],
            "mode": context.mode,
            "seed": context.seed,
            "folder": str(context.folder),
            "obstacle": missing(claim, context),
            "version": context.version,
            "code": code_digest(),
        }
    )


@cache
def code_digest() -> str:
    """Of this package's sources: a claim measured in another way is measured again, from the parts there are."""
    found = sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def open_run(context: Context, out: Path | None) -> tuple[Context, dict[str, Finished]]:
    """The context with the parts of an earlier run in ``out``, and its finished claims by key.

    Raises:
        FileError: a file there is not one of ours.
    """
    if out is None:
        return context, {}
    done = {}
    for line in read_lines(out / DONE_FILE, ("key", "id", "outcome", "measured", "seconds")):
        found = from_plain(line, out / DONE_FILE)
        if found.outcome.verdict != "failed" and (found.measured is None or found.measured.sound):
            done[found.key] = found
    return replace(context, memo=open_memo(out / PARTS_FILE)), done


def keeper(out: Path | None) -> Callable[[Finished], None]:
    """Appends finished claims to the file in ``out``."""
    if out is None:
        return lambda _found: None
    return lambda found: append_line(out / DONE_FILE, asdict(found))


def from_plain(value: Mapping[str, Any], path: Path) -> Finished:
    """A finished claim from its JSON.

    Raises:
        FileError: something else.
    """
    try:
        return TypeAdapter(Finished).validate_python(value)
    except ValidationError:
        raise FileError("holds no finished claim", where=str(path), fix="delete it to measure anew") from None
