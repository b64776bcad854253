"""Hardware profiles as results: which there are, what one says, and what is wrong with one."""

from dataclasses import asdict, dataclass, field
from typing import ClassVar

from alrsim.documents import Document, Live
from alrsim.errors import ProfileError
from alrsim.hardware.review import FigureRow, Finding
from alrsim.reports.calibration import CalibrationSummary, calibration_lines, calibration_tables
from alrsim.reports.parts import Parts, no_files, no_picture
from alrsim.reports.tables import plain_table, to_text


@dataclass(frozen=True)
class ProfileLine:
    """A shipped profile."""

    name: str
    device: str
    kind: str
    units: int


@dataclass(frozen=True)
class MachinesResult(Document):
    """The shipped profiles."""

    kind: ClassVar[str] = "machines"

    profiles: tuple[ProfileLine, ...]


@dataclass(frozen=True)
class ProfileResult(Document):
    """Every figure of a profile with its source and how far it can be trusted.

    Attributes:
        profile_kind: ``host``, ``accelerator``, ``abstract`` or ``heterogeneous``.
        section: Live: the calibration section, whose tables the summary leaves out.
    """

    kind: ClassVar[str] = "profile"

    name: str
    device: str
    profile_kind: str
    units: int
    notes: tuple[str, ...]
    figures: tuple[FigureRow, ...]
    calibration: CalibrationSummary | None
    section: Live = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ReviewResult(Document):
    """Everything that is wrong with, or doubtful about, a profile."""

    kind: ClassVar[str] = "profile-review"

    profile: str
    valid: bool
    findings: tuple[Finding, ...]

    @property
    def failure(self) -> ProfileError | None:
        """The error that a command ends with, after it has shown the findings."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        if not errors:
            return None
        where = ", ".join(filter(None, (self.profile, errors[0].where)))
        plural = "s" * (len(errors) > 1)
        return ProfileError(f"{len(errors)} error{plural}, the first: {errors[0].message}", where=where)


def machines_text(result: MachinesResult) -> str:
    """A row for each profile."""
    rows = [(one.name, one.device, one.kind, str(one.units)) for one in result.profiles]
    return to_text(plain_table(("name", "device", "kind", "units"), rows, left=3))


def profile_text(result: ProfileResult) -> str:
    """Figures, notes, calibration."""
    columns = ("figure", "value", "unit", "confidence", "source")
    rows = [[getattr(row, column) for column in columns] for row in result.figures]
    lines = [to_text(plain_table(columns, rows, f"{result.name}: {result.device}", 5))]
    lines += [f"note: {note}\n" for note in result.notes]
    if result.section is not None:
        lines += [to_text(table) for table in calibration_tables(result.section)]
        lines += [f"{line}\n" for line in calibration_lines(result.section)]
    return "".join(lines)


def review_text(result: ReviewResult) -> str:
    """A line for each finding."""
    lines = []
    for finding in result.findings:
        line = "" if finding.line is None else f" (line {finding.line})"
        fix = f"; {finding.fix}" if finding.fix else ""
        lines.append(f"{finding.severity}: {finding.where or result.profile}{line} {finding.message}{fix}")
    errors = sum(finding.severity == "error" for finding in result.findings)
    return "\n".join([*lines, f"{result.profile}: {errors} errors, {len(result.findings) - errors} warnings"])


MACHINES = Parts(machines_text, lambda result: [asdict(one) for one in result.profiles], no_picture, no_files)
PROFILE = Parts(profile_text, lambda result: [asdict(row) for row in result.figures], no_picture, no_files)
REVIEW = Parts(review_text, lambda result: [asdict(one) for one in result.findings], no_picture, no_files)
