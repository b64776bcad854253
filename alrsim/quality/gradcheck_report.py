"""How a gradient check is shown: tables and how to read them, rows, pictures."""

from collections.abc import Sequence
from typing import Any

from alrsim.quality.choose import Suggestion
from alrsim.quality.curves import LAYER_MEAN, Curve, Quality, short_name
from alrsim.quality.metrics import Interval
from alrsim.quality.ordering import Constants, Ordering
from alrsim.quality.result import READINGS, GradcheckResult, Scores, Table4
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text


def text(result: GradcheckResult) -> str:
    """What was checked, a table per method, the suggestion, the paper's table, and how to read them."""
    state = result.state
    lines = [
        f"{result.model}, cut {result.cut}, {result.dataset}, batch {result.batch}, {state.train_steps} training "
        f"steps, loss {state.loss:.4g}; sigma {result.sigma:g} {result.sigma_rule}, {result.draws} draws, "
        f"seed {result.seed}"
    ]
    for one in result.methods:
        rows = [_row(curve, one) for curve in one.curves]
        lines.append(to_text(plain_table(_columns(one), rows, f"{one.method.upper()}: {_recipe(one)}")))
    if result.suggestion is not None:
        lines.append(to_text(plain_table(*_suggestion_table(result.suggestion), "Suggested plan")))
        lines.append(_suggestion_line(result.suggestion))
    lines.append(to_text(plain_table(*_paper_table(result.table4), "Table 4 of the ALR paper beside this run")))
    return "\n".join([*lines, *notes(result), *ordering_lines(result.table4)])


def rows(result: GradcheckResult) -> list[dict[str, Any]]:
    """One row per method, curve and number of copies."""
    return [
        {
            "method": one.method,
            "layer": curve.name,
            "kind": curve.kind,
            "copies": copies,
            "cosine": point.value,
            "low": point.low,
            "high": point.high,
        }
        for one in result.methods
        for curve in one.curves
        for copies, point in zip(one.copies, curve.cosine, strict=True)
    ]


def draw(result: GradcheckResult, axes: Any = None) -> Any:
    """Cosine over copies, mean over the layers, a line per method."""
    from alrsim.quality.charts import draw_curves

    axes = axes_or_new(axes)
    draw_curves(axes, result.methods, [one.curve(LAYER_MEAN) for one in result.methods])
    axes.set_ylabel("cosine with true gradient")
    axes.legend(frameon=False, fontsize=9)
    return axes


def files(result: GradcheckResult) -> dict[str, bytes]:
    """``cosines.png``: every layer."""
    from alrsim.quality.charts import draw_cosines

    steps = result.state.train_steps
    state = f"after {steps} steps of BP" if steps else "at init"
    title = f"{result.model} on {result.dataset}, {state}: estimated against true gradient"
    rule = " of the values' deviation" if result.sigma_rule == "relative" else ""
    note = (
        f"batch {result.batch}, sigma {result.sigma:g}{rule}, cut {result.cut}, mean of {result.draws} draws; "
        "bands: 95 %; dashed: fitted law"
    )
    return {"cosines.png": draw_cosines(result.methods, title, note)}


RENDERER = Parts(text, rows, draw, files)


def _recipe(method: Quality) -> str:
    """What a method does, in a line."""
    coded = [f"{what} {getattr(method, key)}" for key, what in (("input_code", "inputs"), ("noise_code", "noise"))]
    codes = [words for words in coded if not words.endswith("plain")]
    on_weights = method.weight_noise
    where = [f"on parameters of stages {', '.join(map(str, on_weights))}"] if on_weights else []
    parts = [f"{method.noise} noise", *where, *codes, f"baseline {method.baseline}", method.scope]
    return ", ".join([*parts, method.reduction])


def _shown(quality: Quality) -> list[int]:
    """Where in the list of copies the table looks: first, middle, last."""
    last = len(quality.copies) - 1
    return sorted({0, last // 2, last})


def _columns(quality: Quality) -> list[str]:
    points = [f"cos at {quality.copies[at]}" for at in _shown(quality)]
    return ["layer", *points, "Acc", "Sta", "variance", "rho by cosines", "ceiling", "noise of a copy", "by theory"]


def _row(curve: Curve, quality: Quality) -> list[str]:
    band, law = curve.cosine, curve.law
    fitted = law is not None and (law.determined or law.rho.low is None)
    return [
        curve.label,
        *(plus_minus(band[at]) for at in _shown(quality)),
        plus_minus(curve.acc),
        plus_minus(curve.sta),
        "-" if curve.relative_variance is None else f"{curve.relative_variance[-1]:.3g}",
        "-" if law is None else span(law.rho) if fitted else "not determined",
        "-" if law is None else span(law.ceiling),
        "-" if curve.noise_of_one_copy is None else span(curve.noise_of_one_copy),
        "-" if curve.expected_noise is None else short(curve.expected_noise),
    ]


def plus_minus(value: Interval) -> str:
    """``0.36±0.02``: half of the interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.2f}±{(value.high - value.low) / 2:.2f}"


def span(value: Interval) -> str:
    """``90 (85..96)``."""
    if value.low is None or value.high is None:
        return short(value.value)
    return f"{short(value.value)} ({short(value.low)}..{short(value.high)})"


def short(number: float) -> str:
    """Three digits, or a whole number up to a million."""
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.2g}"


def _paper_table(table: Table4) -> tuple[list[str], list[list[str]]]:
    rows = [
        [f"{metric.capitalize()} paper", *(f"{getattr(column.paper, metric):.2f}" for column in table.columns)]
        for metric in ("acc", "sta")
    ]
    for key in READINGS:
        scores: list[Scores | None] = [getattr(column, key) for column in table.columns]
        for metric in ("acc", "sta"):
            cells = [
                column.status if found is None else f"{getattr(found, metric).value:.2f}"
                for column, found in zip(table.columns, scores, strict=True)
            ]
            rows.append([f"{metric.capitalize()} here, {key.replace('_', ' ')}", *cells])
    return ["", *(column.method for column in table.columns)], rows


def notes(result: GradcheckResult) -> list[str]:
    """What the reader must know to believe the numbers."""
    low, high = result.copies[0], result.copies[-1]
    lines = [
        f"Paper: {result.table4.paper_setup}.",
        f"Here: {result.model} on {result.dataset}, {low} to {high} copies: other data, another state, another range, "
        "so compare the order of methods, not the digits.",
        f"Bands, {result.bands}.",
        "variance: of the estimate with most copies, over draws; noise of a copy: the variance of one copy's gradient, "
        "measured inside the draws. Both over the true gradient's squared norm; for LR the noise of a copy is rho, "
        "also where cosines are too small for a fit; by theory: of noise on D parameters it is k D (k = pi/2 with "
        "signs of Gaussian noise), times the share of other layers' noise where that is joint.",
    ]
    if result.copies_share_noise:
        lines.append(
            "A larger number of copies contains the smaller ones: means are exact, but a draw's curve is smoother than "
            "with new noise for every number (`fresh`)."
        )
    if any(method.scope == "joint" for method in result.methods):
        lines.append(
            "joint: the noise of all layers enters every loss, so rho is not a layer's own; see `scope=layerwise`."
        )
    lines += _far_from_linear(result.methods)
    if result.draws < 2:
        lines.append("One draw has no spread: use `draws=10` for bands.")
    return lines


def _far_from_linear(methods: Sequence[Quality]) -> list[str]:
    """Layers whose noise on parameters is so large that the loss is not linear in it any more."""
    rows = [
        (f"{method.method} {curve.name}", curve.noise_of_one_copy, curve.expected_noise)
        for method in methods
        for curve in method.layers
    ]
    found = [
        f"{name} ({noise.value / expected:.0f} times)"
        for name, noise, expected in rows
        if noise and expected and (noise.low or noise.value) > 2 * expected
    ]
    if not found:
        return []
    return [
        f"More noise than theory: {', '.join(found)}: sigma is too large there for a loss that is linear in it; try "
        "`sigma_rule=relative` or a smaller `sigma`."
    ]


def ordering_lines(table: Table4) -> list[str]:
    """Which of the paper's orderings hold here, and for those that do not: which layer says no, and why."""
    lines = []
    for key in READINGS:
        pairs = table.orderings[key]
        if not pairs:
            continue
        count = {verdict: sum(pair.verdict == verdict for pair in pairs) for verdict in ("holds", "reversed")}
        lines.append(
            f"Order of Acc, {key.replace('_', ' ')}: of {len(pairs)} pairs {count['holds']} stand as in the paper, "
            f"{count['reversed']} the other way round, {len(pairs) - sum(count.values())} undecided (95 %, paired by "
            "draws)."
        )
        lines += [f"  {_explained(pair)}" for pair in pairs if pair.verdict != "holds"]
    return lines


def _explained(pair: Ordering) -> str:
    gap, cause = pair.difference, pair.cause
    width = "" if gap.low is None else f" ({gap.low:+.3f}..{gap.high:+.3f})"
    law = "" if pair.predicted is None else f", law {pair.predicted:+.3f}"
    text = (
        f"{pair.first} > {pair.second} {pair.verdict}: paper {pair.paper[0] - pair.paper[1]:+.2f}, "
        f"here {gap.value:+.3f}{width}{law}"
    )
    if cause is None or cause.acc[0] >= cause.acc[1]:
        return text + "; no layer alone says so"
    first, second = (
        f"{name} {acc:.2f}{_constants(cause.laws[key])}"
        for name, key, acc in zip((pair.first, pair.second), ("first", "second"), cause.acc, strict=True)
    )
    return f"{text}; most in layer {cause.layer}: {first} against {second}"


def _constants(law: Constants | None) -> str:
    if law is None:
        return ""
    cap = "" if law.ceiling == 1 else f", ceiling {law.ceiling:.2f}"
    return f" (k rho {short(law.k_rho)}{cap})"


def _suggestion_line(suggestion: Suggestion) -> str:
    on_weights = [str(layer.stage) for layer in suggestion.layers if layer.kind == "es"]
    where = f"noise on the parameters of stages {', '.join(on_weights)}" if on_weights else "noise on values everywhere"
    return f"For cosine {suggestion.target:g} in every layer: {where}; the plan takes {suggestion.copies} copies."


def _suggestion_table(suggestion: Suggestion) -> tuple[list[str], list[list[str]]]:
    head = ["layer", "parameters", "noise of a copy, LR", "ES", "ceiling, LR", "choice", "copies"]
    rows = [
        [
            f"{layer.stage}: {short_name(layer.name)}",
            str(layer.parameters),
            "no signal" if layer.noise_on_output is None else short(layer.noise_on_output),
            short(layer.noise_on_parameters),
            f"{layer.ceiling:.2f}",
            layer.kind,
            "out of reach" if layer.copies is None else str(layer.copies),
        ]
        for layer in suggestion.layers
    ]
    return head, rows
