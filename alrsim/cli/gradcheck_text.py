"""What ``alrsim gradcheck`` prints for people: tables and how to read them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alrsim.cli.output import say, show

if TYPE_CHECKING:
    from alrsim.quality.gradcheck import Curve, Quality
    from alrsim.quality.metrics import Interval


def tell(document: Mapping[str, Any], qualities: "Sequence[Quality]", files: Sequence[str]) -> None:
    """Tables for people."""
    from alrsim.report.tables import plain_table

    state = document["state"]
    say(
        f"{document['model']}, cut {document['cut']}, {document['dataset']}, batch {document['batch']}, "
        f"{state['train_steps']} training steps, loss {state['loss']:.4g}; sigma {document['sigma']:g} "
        f"{document['noise']}, baseline {document['baseline']}, {document['scope']}, {document['reduction']}, "
        f"{document['draws']} draws, seed {document['seed']}"
    )
    for quality in qualities:
        show(plain_table(_columns(quality), [_row(curve, quality) for curve in quality.curves], quality.method.upper()))
    show(plain_table(*_paper_table(document["table4"]), "Table 4 of the ALR paper beside this run"))
    for line in notes(document):
        say(line)
    for file in files:
        say(f"wrote {file}")


def _shown(quality: "Quality") -> list[int]:
    """Where in the list of copies the table looks: first, middle, last."""
    last = len(quality.copies) - 1
    return sorted({0, last // 2, last})


def _columns(quality: "Quality") -> list[str]:
    points = [f"cos at {quality.copies[at]}" for at in _shown(quality)]
    return ["layer", *points, "Acc", "Sta", "variance", "rho by cosines", "ceiling", "noise of a copy"]


def _row(curve: "Curve", quality: "Quality") -> list[str]:
    band, law = curve.band(), curve.law
    fitted = law is not None and (law.determined or law.rho.low is None)
    return [
        curve.label,
        *(plus_minus(band[at]) for at in _shown(quality)),
        plus_minus(curve.acc),
        plus_minus(curve.sta),
        "-" if curve.variance is None else f"{curve.variance[-1]:.3g}",
        "-" if law is None else span(law.rho) if fitted else "not determined",
        "-" if law is None else span(law.ceiling),
        "-" if curve.noise is None else span(curve.noise),
    ]


def plus_minus(value: "Interval") -> str:
    """``0.36±0.02``: half of the interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.2f}±{(value.high - value.low) / 2:.2f}"


def span(value: "Interval") -> str:
    """``90 (85..96)``."""
    if value.low is None or value.high is None:
        return short(value.value)
    return f"{short(value.value)} ({short(value.low)}..{short(value.high)})"


def short(number: float) -> str:
    """Three digits, or a whole number up to a million."""
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.2g}"


def _paper_table(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = table["columns"]
    rows = [
        [f"{metric.capitalize()} paper", *(f"{column['paper'][metric]:.2f}" for column in columns)]
        for metric in ("acc", "sta")
    ]
    for key, words in (("mean_over_layers", "mean over layers"), ("whole_gradient", "whole gradient")):
        for metric in ("acc", "sta"):
            cells = [
                column["status"] if column[key] is None else f"{column[key][metric]['value']:.2f}" for column in columns
            ]
            rows.append([f"{metric.capitalize()} here, {words}", *cells])
    return ["", *(column["method"] for column in columns)], rows


def notes(document: Mapping[str, Any]) -> list[str]:
    """What the reader must know to believe the numbers."""
    low, high = document["copies"][0], document["copies"][-1]
    lines = [
        f"Paper: {document['table4']['paper_setup']}.",
        f"Here: {document['model']} on {document['dataset']}, {low} to {high} copies: other data, another state, "
        "another range, so compare the order of methods, not the digits.",
        f"Bands, {document['bands']}.",
        "variance: of the estimate with most copies, over draws; noise of a copy: the variance of one copy's gradient, "
        "measured inside the draws. Both over the true gradient's squared norm; for LR the noise of a copy is rho, "
        "also where cosines are too small for a fit.",
    ]
    if document["copies_share_noise"]:
        lines.append(
            "A larger number of copies contains the smaller ones: means are exact, but a draw's curve is smoother than "
            "with new noise for every number (--fresh)."
        )
    if document["scope"] == "joint":
        lines.append(
            "joint: the noise of all layers enters every loss, so rho is not a layer's own; see --scope layerwise."
        )
    if document["draws"] < 2:
        lines.append("One draw has no spread: use --draws 10 for bands.")
    return lines
