"""``alrsim hardware list | show | validate``: the machines that profiles describe."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from alrsim.cli.options import JsonTarget
from alrsim.cli.output import check_targets, publish, say, show
from alrsim.errors import ProfileError

app = typer.Typer(
    help="The machines that profiles describe.",
    no_args_is_help=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="A name, or a .yaml file.")]


@app.command("list")
def list_(json: JsonTarget = None) -> None:
    """List the shipped profiles."""
    from alrsim.hardware.profile import machines
    from alrsim.reports.tables import plain_table

    check_targets(json)
    profiles = machines()
    rows = [(p.name, p.device, p.kind, str(p.units)) for p in profiles]
    document = {"profiles": [{k: v for k, v in asdict(p).items() if k != "path"} for p in profiles]}
    table = plain_table(("name", "device", "kind", "units"), rows, left=3)
    publish(document, json_target=json, text=lambda: show(table))


@app.command("show")
def show_(profile: ProfileArgument, json: JsonTarget = None) -> None:
    """Show every figure of a profile with its source and how far it can be trusted."""
    from alrsim.cli.calibration_text import calibration_document, calibration_lines, calibration_tables
    from alrsim.hardware.profile import load_profile
    from alrsim.hardware.review import describe
    from alrsim.reports.tables import plain_table

    check_targets(json)
    found = load_profile(profile)
    rows = [asdict(row) for row in describe(found)]
    document: dict[str, Any] = {
        "name": found.name,
        "device": found.spec.device,
        "kind": found.spec.kind,
        "units": found.units,
        "notes": list(found.spec.notes),
        "figures": rows,
        "calibration": None if found.spec.calibration is None else calibration_document(found.spec.calibration),
    }
    columns = ("figure", "value", "unit", "confidence", "source")
    table = plain_table(columns, [[row[c] for c in columns] for row in rows], f"{found.name}: {found.spec.device}", 5)

    def text() -> None:
        show(table)
        for note in found.spec.notes:
            say(f"note: {note}")
        if (calibration := found.spec.calibration) is not None:
            for part in calibration_tables(calibration):
                show(part)
            for line in calibration_lines(calibration):
                say(line)

    publish(document, json_target=json, text=text)


@app.command("validate")
def validate(profile: ProfileArgument, json: JsonTarget = None) -> None:
    """Say everything that is wrong with, or doubtful about, a profile; errors exit 1."""
    from alrsim.hardware.review import validate_profile

    check_targets(json)
    findings = validate_profile(profile)
    errors = [finding for finding in findings if finding.severity == "error"]
    document = {"profile": profile, "valid": not errors, "findings": [asdict(finding) for finding in findings]}

    def text() -> None:
        for finding in findings:
            line = "" if finding.line is None else f" (line {finding.line})"
            fix = f"; {finding.fix}" if finding.fix else ""
            say(f"{finding.severity}: {finding.where or profile}{line} {finding.message}{fix}")
        say(f"{profile}: {len(errors)} errors, {len(findings) - len(errors)} warnings")

    publish(document, json_target=json, text=text)
    if errors:
        raise ProfileError(
            f"{len(errors)} error{'s' * (len(errors) > 1)}, the first: {errors[0].message}",
            where=", ".join(filter(None, (profile, errors[0].where))),
        )
