"""What ``alrsim gradcheck`` prints for people: tables and how to read them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alrsim.cli.output import say, show

if TYPE_CHECKING:
    from alrsim.quality.gradcheck import Curve, Quality
    from alrsim.quality.metrics import Interval


def tell(document: Mapping[str, Any], qualities: "Sequence[Quality]", files: Sequence[str]) -> None:
    """Tables for people."""
    from alrsim.reports.tables import plain_table

    state = document["state"]
    say(
        f"{document['model']}, cut {document['cut']}, {document['dataset']}, batch {document['batch']}, "
        f"{state['train_steps']} training steps, loss {state['loss']:.4g}; sigma {document['sigma']:g} "
        f"{document['sigma_rule']}, {document['draws']} draws, seed {document['seed']}"
    )
    for quality, one in zip(qualities, document["methods"], strict=True):
        rows = [_row(curve, quality) for curve in quality.curves]
        show(plain_table(_columns(quality), rows, f"{quality.method.upper()}: {_recipe(one)}"))
    if document["suggestion"] is not None:
        show(plain_table(*_suggestion_table(document["suggestion"]), "Suggested plan"))
        say(_suggestion_line(document["suggestion"]))
    show(plain_table(*_paper_table(document["table4"]), "Table 4 of the ALR paper beside this run"))
    for line in [*notes(document), *ordering_lines(document["table4"])]:
        say(line)
    for file in files:
        say(f"wrote {file}")


def _recipe(method: Mapping[str, Any]) -> str:
    """What a method does, in a line."""
    coded = [f"{what} {method[key]}" for key, what in (("input_code", "inputs"), ("noise_code", "noise"))]
    codes = [words for words in coded if not words.endswith("plain")]
    on_weights = method["weight_noise"]
    where = [f"on parameters of stages {', '.join(map(str, on_weights))}"] if on_weights else []
    parts = [f"{method['noise']} noise", *where, *codes, f"baseline {method['baseline']}", method["scope"]]
    return ", ".join([*parts, method["reduction"]])


def _shown(quality: "Quality") -> list[int]:
    """Where in the list of copies the table looks: first, middle, last."""
    last = len(quality.copies) - 1
    return sorted({0, last // 2, last})


def _columns(quality: "Quality") -> list[str]:
    points = [f"cos at {quality.copies[at]}" for at in _shown(quality)]
    return ["layer", *points, "Acc", "Sta", "variance", "rho by cosines", "ceiling", "noise of a copy", "by theory"]


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
        "-" if curve.expected is None else short(curve.expected),
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
        "also where cosines are too small for a fit; by theory: of noise on D parameters it is k D (k = pi/2 with "
        "signs of Gaussian noise), times the share of other layers' noise where that is joint.",
    ]
    if document["copies_share_noise"]:
        lines.append(
            "A larger number of copies contains the smaller ones: means are exact, but a draw's curve is smoother than "
            "with new noise for every number (--fresh)."
        )
    if any(method["scope"] == "joint" for method in document["methods"]):
        lines.append(
            "joint: the noise of all layers enters every loss, so rho is not a layer's own; see --scope layerwise."
        )
    lines += _far_from_linear(document)
    if document["draws"] < 2:
        lines.append("One draw has no spread: use --draws 10 for bands.")
    return lines


def _far_from_linear(document: Mapping[str, Any]) -> list[str]:
    """Layers whose noise on parameters is so large that the loss is not linear in it any more."""
    found = []
    for method in document["methods"]:
        for curve in method["curves"]:
            noise, expected = curve["noise_of_one_copy"], curve["expected_noise"]
            if curve["kind"] == "layer" and noise and expected and (noise["low"] or noise["value"]) > 2 * expected:
                found.append(f"{method['method']} {curve['name']} ({noise['value'] / expected:.0f} times)")
    if not found:
        return []
    return [
        f"More noise than theory: {', '.join(found)}: sigma is too large there for a loss that is linear in it; try "
        "--sigma-rule relative or a smaller --sigma."
    ]


_READINGS = (("mean_over_layers", "mean over layers"), ("whole_gradient", "whole gradient"))


def ordering_lines(table: Mapping[str, Any]) -> list[str]:
    """Which of the paper's orderings hold here, and for those that do not: which layer says no, and why."""
    lines = []
    for key, words in _READINGS:
        pairs = table["orderings"][key]
        if not pairs:
            continue
        count = {verdict: sum(pair["verdict"] == verdict for pair in pairs) for verdict in ("holds", "reversed")}
        lines.append(
            f"Order of Acc, {words}: of {len(pairs)} pairs {count['holds']} stand as in the paper, {count['reversed']} "
            f"the other way round, {len(pairs) - sum(count.values())} undecided (95 %, paired by draws)."
        )
        lines += [f"  {_explained(pair)}" for pair in pairs if pair["verdict"] != "holds"]
    return lines


def _explained(pair: Mapping[str, Any]) -> str:
    gap = pair["difference"]
    width = "" if gap["low"] is None else f" ({gap['low']:+.3f}..{gap['high']:+.3f})"
    law = "" if pair["predicted"] is None else f", law {pair['predicted']:+.3f}"
    text = (
        f"{pair['first']} > {pair['second']} {pair['verdict']}: paper {pair['paper'][0] - pair['paper'][1]:+.2f}, "
        f"here {gap['value']:+.3f}{width}{law}"
    )
    cause = pair["cause"]
    if cause is None or cause["acc"][0] >= cause["acc"][1]:
        return text + "; no layer alone says so"
    first, second = (
        f"{pair[key]} {acc:.2f}{_constants(cause['laws'][key])}"
        for key, acc in zip(("first", "second"), cause["acc"], strict=True)
    )
    return f"{text}; most in layer {cause['layer']}: {first} against {second}"


def _constants(law: Mapping[str, float] | None) -> str:
    if law is None:
        return ""
    cap = "" if law["ceiling"] == 1 else f", ceiling {law['ceiling']:.2f}"
    return f" (k rho {short(law['k_rho'])}{cap})"


def _suggestion_line(suggestion: Mapping[str, Any]) -> str:
    on_weights = [str(layer["stage"]) for layer in suggestion["layers"] if layer["kind"] == "es"]
    where = f"noise on the parameters of stages {', '.join(on_weights)}" if on_weights else "noise on values everywhere"
    return f"For cosine {suggestion['target']:g} in every layer: {where}; the plan takes {suggestion['copies']} copies."


def _suggestion_table(suggestion: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["layer", "parameters", "noise of a copy, LR", "ES", "ceiling, LR", "choice", "copies"]
    rows = []
    for layer in suggestion["layers"]:
        found = layer["noise_on_output"]
        rows.append(
            [
                f"{layer['stage']}: {layer['name'].split('..')[-1].removeprefix('layers.')}",
                str(layer["parameters"]),
                "no signal" if found is None else short(found),
                short(layer["noise_on_parameters"]),
                f"{layer['ceiling']:.2f}",
                layer["kind"],
                "out of reach" if layer["copies"] is None else str(layer["copies"]),
            ]
        )
    return head, rows
