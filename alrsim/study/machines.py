"""Hardware profiles: which there are, what one says, and what is wrong with one."""

from pathlib import Path

from alrsim.hardware import profile as profiles
from alrsim.hardware.profile import load_profile
from alrsim.hardware.review import describe, validate_profile
from alrsim.options import Options
from alrsim.reports.calibration import summary_of
from alrsim.reports.machines import MachinesResult, ProfileLine, ProfileResult, ReviewResult
from alrsim.verbs import verb


@verb(Options)
def machines(*, asked: Options) -> MachinesResult:
    """The shipped profiles."""
    return MachinesResult(tuple(ProfileLine(one.name, one.device, one.kind, one.units) for one in profiles.machines()))


@verb(Options)
def show_machine(profile: str | Path, *, asked: Options) -> ProfileResult:
    """Every figure of a profile with its source and how far it can be trusted.

    Args:
        profile: A name or a path.
    """
    found = load_profile(profile)
    section = found.spec.calibration
    return ProfileResult(
        name=found.name,
        device=found.spec.device,
        profile_kind=found.spec.kind,
        units=found.units,
        notes=tuple(found.spec.notes),
        figures=describe(found),
        calibration=None if section is None else summary_of(section),
        section=section,
    )


@verb(Options)
def review_machine(profile: str | Path, *, asked: Options) -> ReviewResult:
    """Everything that is wrong with, or doubtful about, a profile.

    Args:
        profile: A name or a path; the file may be wrong.
    """
    findings = validate_profile(profile)
    valid = all(finding.severity != "error" for finding in findings)
    return ReviewResult(str(profile), valid, findings)
