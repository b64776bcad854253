"""Read a profile as a person would: every figure in a row, and every doubt about one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from alrsim.errors import ProfileError
from alrsim.files import read_text
from alrsim.hardware.figure import (
    Confidence,
    Derivation,
    Evidence,
    NonNegativeFigure,
    PeakFigure,
    PositiveFigure,
    Section,
)
from alrsim.hardware.precision import Precision
from alrsim.hardware.profile import Profile, key_path, profile_folder, read_profile, shipped_names
from alrsim.hardware.specification import Specification, UnitSection

DERIVATION_TOLERANCE = 0.02
"""A peak that differs more than this from its own derivation is a doubt."""

_UNITS = {
    "peak_tflops_dense": "TFLOP/s",
    "elementwise_tflops": "TFLOP/s",
    "memory_gb": "GB",
    "memory_bandwidth_gb_per_s": "GB/s",
    "launch_overhead_us": "us",
    "tdp_w": "W",
    "bandwidth_gb_per_s_per_direction": "GB/s per direction",
    "latency_us": "us",
}


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of a profile, for tables.

    Attributes:
        figure: Key path, such as ``unit.peak_tflops_dense.bf16``.
        value: As written in the file.
        unit: Of the value, such as ``GB/s``; integers are counted in ``TOP/s``.
    """

    figure: str
    value: str
    unit: str
    source: str
    confidence: str
    note: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One error of, or doubt about, a profile.

    Attributes:
        where: Key path, ``""`` for the whole file.
        line: From 1; ``None`` if unknown.
        fix: What to do, or ``""``.
    """

    severity: Literal["error", "warning"]
    where: str
    message: str
    line: int | None = None
    fix: str = ""


def describe(profile: Profile) -> tuple[FigureRow, ...]:
    """Every figure of a profile, and every precision that it does not offer (its note says why).

    A heterogeneous profile lists the rows of its groups after its own, with the group's name before the key path.
    """
    rows = list(_rows(profile.spec))
    for group, part in zip(profile.spec.groups, profile.parts, strict=True):
        rows += [replace(row, figure=f"{group.name}: {row.figure}") for row in _rows(part.spec)]
    return tuple(rows)


def _rows(spec: Specification) -> Iterator[FigureRow]:
    for path, figure in figures(spec):
        yield _row(path, figure)
    if spec.unit is not None:
        for precision, reason in spec.unit.not_offered.items():
            yield FigureRow(f"unit.not_offered.{precision}", "not offered", "", "", "", reason)


def figures(spec: Specification) -> Iterator[tuple[str, Evidence]]:
    """Key path and figure of everything in a file that has a source."""
    if spec.unit is not None:
        yield from _section_figures("unit", spec.unit)
    if spec.links is not None:
        yield from _section_figures("links", spec.links)
    for position, between in enumerate(spec.links_between_groups):
        yield from _section_figures(f"links_between_groups[{position}]", between)


def _section_figures(where: str, section: Section) -> Iterator[tuple[str, Evidence]]:
    """Figures by precision first."""
    for key, value in section:
        if isinstance(value, dict):
            yield from ((f"{where}.{key}.{name}", one) for name, one in value.items() if isinstance(one, Evidence))
    yield from ((f"{where}.{key}", value) for key, value in section if isinstance(value, Evidence))


def _row(path: str, figure: Evidence) -> FigureRow:
    names = path.split(".")
    unit = next((_UNITS[name] for name in names if name in _UNITS), "share of peak")
    if isinstance(figure, PeakFigure) and names[-1] in (Precision.INT8, Precision.INT4, Precision.SIGN1):
        unit = "TOP/s"
    if isinstance(figure, (PositiveFigure, NonNegativeFigure)):
        value = f"{figure.value:g}"
    else:
        value = " ".join(f"{share:g}@{macs:.3g}" for macs, share in getattr(figure, "points", ()))
    return FigureRow(path, value, unit, figure.source, figure.confidence.value, figure.note)


def validate_profile(name_or_path: str | Path) -> tuple[Finding, ...]:
    """Everything that is wrong with a profile (errors), or doubtful about it (warnings). Empty: nothing.

    Raises:
        ProfileError: an unknown name.
        FileError: a file that cannot be read.
    """
    name = str(name_or_path)
    path = Path(name)
    if name in shipped_names():
        text, folder = (profile_folder() / f"{name}.yaml").read_text(encoding="utf-8"), None
    elif path.exists() or path.suffix in (".yaml", ".yml"):
        text, folder = read_text(path), path.parent
    else:
        raise ProfileError(
            f"{name!r} is neither a shipped profile nor a file",
            where="hardware validate",
            fix=f"profiles are {', '.join(shipped_names())}",
        )
    faults, profile = read_profile(text, name, folder)
    if profile is None:
        return tuple(Finding("error", key_path(f.path), f.message, f.line, f.fix) for f in faults)
    return tuple(_doubts(profile, path.stem))


def _doubts(profile: Profile, stem: str) -> Iterator[Finding]:
    spec = profile.spec
    if spec.name != stem:
        yield Finding("warning", "name", f"is {spec.name!r}, but the file is called {stem!r}")
    for path, figure in figures(spec):
        if figure.confidence is Confidence.UNVERIFIED:
            fix = "find a source, or measure it"
            yield Finding("warning", path, f"is unverified ({figure.note or figure.source})", fix=fix)
        if isinstance(figure, PeakFigure) and figure.derivation is not None:
            yield from _derivation_doubts(path, figure.value, figure.derivation)
    if spec.unit is not None:
        yield from _sparsity_doubts(spec.unit)
        yield from _link_doubts(spec)


def _derivation_doubts(path: str, peak: float, derivation: Derivation) -> Iterator[Finding]:
    derived = derivation.tflops
    if abs(peak / derived - 1) > DERIVATION_TOLERANCE:
        double = abs(peak / derived / 2 - 1) <= DERIVATION_TOLERANCE
        fix = "it looks like a 2:4 sparse figure: halve it" if double else "check the figure and the formula"
        yield Finding("warning", path, f"is {peak:g}, but {derivation.formula} gives {derived:.4g}", fix=fix)


def _sparsity_doubts(unit: UnitSection) -> Iterator[Finding]:
    """Halving the format at most doubles the dense rate of one kind of hardware; 4 times smells of sparsity."""
    peaks = unit.peak_tflops_dense
    half = max((peaks[p].value for p in (Precision.FP16, Precision.BF16) if p in peaks), default=None)
    full = peaks.get(Precision.FP32)
    for precision in (Precision.INT8, Precision.FP8):
        if half is not None and precision in peaks and peaks[precision].value > 4.1 * half:
            message = f"is {peaks[precision].value / half:.1f} times the 16-bit peak"
            yield Finding(
                "warning", f"unit.peak_tflops_dense.{precision}", message, fix="is it a 2:4 sparse figure? Halve it"
            )
    if full is not None and half is not None and full.value > 1.05 * half:
        where = "unit.peak_tflops_dense.fp32"
        yield Finding("warning", where, f"is above the 16-bit peak ({full.value:g} > {half:g})")


def _link_doubts(spec: Specification) -> Iterator[Finding]:
    wire = spec.links.bandwidth_gb_per_s_per_direction if spec.links is not None else None
    memory = spec.unit.memory_bandwidth_gb_per_s if spec.unit is not None else None
    if wire is not None and memory is not None and wire.value > 0.5 * memory.value:
        yield Finding(
            "warning",
            "links.bandwidth_gb_per_s_per_direction",
            f"is {wire.value:g}, more than half of the memory bandwidth ({memory.value:g})",
            fix="is it the sum of both directions, or of all links? Give one direction of one unit",
        )
