"""The specification of a sweep: a YAML file read strictly, with the line of every fault.

    verb: compare                       # or plan
    fixed: {model: resnet9, hardware: h100, batch: 64}
    grid:
      method: ["bp:1f1b", "lr:lr-fixed"]
      units: [2, 4, 8]
    ranges:                             # only with `sample`
      copies: {from: 1, to: 64, scale: log}
    sample: {count: 200, seed: 0, method: latin-hypercube}
    quality: {noise_to_signal: 900}     # or {lr: {noise_to_signal: 900}, alr: {noise_to_signal: 700, ceiling: 0.8}}

Names are those of the verb's options without dashes in front; `model` (and for `plan` `cosine`) is the argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alrsim.errors import FileError
from alrsim.estimators.variance_law import cosine
from alrsim.files import read_text
from alrsim.hardware.strictyaml import Document, Fault, KeyPath, parse_yaml

Scalar = str | int | float | bool
Value = Scalar | tuple[str, ...]
"""Of an option; a tuple where it can be given several times."""

VERBS = ("compare", "plan")
SAMPLERS = ("random", "latin-hypercube")
_TOP = ("verb", "fixed", "grid", "ranges", "sample", "quality")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both ends are whole."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value, of the type of all."""
        return (self.low, self.high) if self.whole else (float(self.low), float(self.high))


@dataclass(frozen=True, slots=True)
class Sample:
    """How many points of the space are taken, and how."""

    count: int
    seed: int = 0
    method: str = "random"


@dataclass(frozen=True, slots=True)
class Quality:
    """The variance law of an LR gradient: ``cosine = ceiling / sqrt(1 + noise_to_signal / copies)``.

    Attributes:
        noise_to_signal: Variance of one copy's gradient over the square of the true one (rho of `alrsim gradcheck`).
        ceiling: Cosine that no number of copies exceeds (codes of inputs and noise); 1 for unbiased methods.
    """

    noise_to_signal: float
    ceiling: float = 1.0

    def cosine(self, copies: int) -> float:
        """Expected cosine of the mean of so many copies with the true gradient."""
        return cosine(self.noise_to_signal, copies, self.ceiling)


@dataclass(frozen=True)
class Spec:
    """A sweep.

    Attributes:
        grid: Values per option; every combination, or what the sample takes of them.
        quality: By the rule's name in a method (``lr``, ``alr``...); ``""`` for all others.
    """

    verb: str
    fixed: Mapping[str, Value]
    grid: Mapping[str, tuple[Value, ...]]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    sample: Sample | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)

    def quality_of(self, method: str) -> Quality | None:
        """The constants of a method such as ``lr:lr-fixed``."""
        return self.quality.get(method.partition(":")[0], self.quality.get(""))


class _Reader:
    """Checks values and says where a wrong one stands."""

    def __init__(self, path: Path, document: Document) -> None:
        self._path, self._document = path, document

    def fail(self, at: KeyPath, what: str, fix: str = "") -> FileError:
        line = self._document.line_of(at)
        place = f"{self._path}:{line}" if line else str(self._path)
        name = ".".join(map(str, at))
        return FileError(what, where=f"{place} ({name})" if name else place, fix=fix)

    def section(self, name: str, known: Sequence[str] | None = None) -> dict[str, Any]:
        value = self._document.value.get(name, {})
        return self.mapping((name,), value, known)

    def mapping(self, at: KeyPath, value: Any, known: Sequence[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.fail(at, "must be a section of names and values")
        for key in value:
            if known is not None and key not in known:
                raise self.fail((*at, key), f"there is no {key!r} here", f"use {', '.join(known)}")
        return value

    def value(self, at: KeyPath, value: Any) -> Value:
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return tuple(value)
        if not isinstance(value, str | int | float | bool):
            raise self.fail(at, f"{value!r} is no value of an option")
        return value

    def number(self, at: KeyPath, value: Any, low: float, *, whole: bool = False) -> Any:
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value < float("inf"):
            raise self.fail(at, f"{value!r} is no {'whole ' if whole else ''}number of at least {low:g}")
        return value


def read_spec(path: Path) -> Spec:
    """Read a specification.

    Raises:
        FileError: what is wrong, in which line.
    """
    document = parse_yaml(read_text(path))
    if isinstance(document, Fault):
        line = f":{document.line}" if document.line else ""
        raise FileError(document.message, where=f"{path}{line}")
    read = _Reader(path, document)
    if not isinstance(document.value, dict):
        raise read.fail((), "is no sweep", "it begins with verb: compare")
    read.mapping((), document.value, _TOP)
    verb = document.value.get("verb", "compare")
    if verb not in VERBS:
        raise read.fail(("verb",), f"{verb!r} cannot be swept", f"use {' or '.join(VERBS)}")
    fixed = {name: read.value(("fixed", name), value) for name, value in read.section("fixed").items()}
    grid = {name: _axis(read, name, values) for name, values in read.section("grid").items()}
    ranges = {name: _range(read, name, value) for name, value in read.section("ranges").items()}
    sample = _sample(read) if "sample" in document.value else None
    for name in [*grid, *ranges]:
        if name in fixed or (name in grid and name in ranges):
            raise read.fail(("grid" if name in grid else "ranges", name), f"{name} is given twice")
    if ranges and sample is None:
        raise read.fail(("ranges",), "a range has no end of values", "add sample: {count: 100}")
    return Spec(verb, fixed, grid, ranges, sample, _quality(read))


def _axis(read: _Reader, name: str, values: Any) -> tuple[Value, ...]:
    at = ("grid", name)
    if not isinstance(values, list) or not values:
        raise read.fail(at, "must be a list of values", f"{name}: [1, 2]")
    found = tuple(read.value((*at, index), value) for index, value in enumerate(values))
    if len(set(map(repr, found))) < len(found):
        raise read.fail(at, "lists a value twice")
    return found


def _range(read: _Reader, name: str, value: Any) -> Range:
    at = ("ranges", name)
    given = read.mapping(at, value, ("from", "to", "scale"))
    if not {"from", "to"} <= given.keys():
        raise read.fail(at, "needs from and to", "{from: 1, to: 64, scale: log}")
    scale = given.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise read.fail((*at, "scale"), f"{scale!r} is no scale", "use linear or log")
    low = read.number((*at, "from"), given["from"], 1e-12 if scale == "log" else 0)
    return Range(low, read.number((*at, "to"), given["to"], low), scale)


def _sample(read: _Reader) -> Sample:
    given = read.section("sample", ("count", "seed", "method"))
    method = given.get("method", "random")
    if method not in SAMPLERS:
        raise read.fail(("sample", "method"), f"{method!r} is no way to sample", f"use {' or '.join(SAMPLERS)}")
    count = read.number(("sample", "count"), given.get("count"), 1, whole=True)
    return Sample(count, read.number(("sample", "seed"), given.get("seed", 0), 0, whole=True), method)


def _quality(read: _Reader) -> dict[str, Quality]:
    given = read.section("quality")
    if not given:
        return {}
    if "noise_to_signal" in given:
        return {"": _law(read, ("quality",), given)}
    return {rule: _law(read, ("quality", rule), value) for rule, value in given.items()}


def _law(read: _Reader, at: KeyPath, value: Any) -> Quality:
    given = read.mapping(at, value, ("noise_to_signal", "ceiling"))
    noise = read.number((*at, "noise_to_signal"), given.get("noise_to_signal"), 0)
    ceiling = read.number((*at, "ceiling"), given.get("ceiling", 1.0), 0)
    if ceiling > 1:
        raise read.fail((*at, "ceiling"), "a cosine is at most 1")
    return Quality(float(noise), float(ceiling))
