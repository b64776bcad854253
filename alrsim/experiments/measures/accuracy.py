"""Accuracies and their orderings: means over seeds, differences paired by seed, Student's t intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alrsim.experiments.context import Context
from alrsim.experiments.measures.training import SETTINGS, describe, job_for, trained
from alrsim.experiments.paper import TABLES
from alrsim.experiments.rules import Measured

Reading = Callable[[dict[str, Any]], float]


def final(log: dict[str, Any]) -> float:
    """Accuracy after the last step, in percent."""
    return float(log["accuracy"][-1])


def early(log: dict[str, Any]) -> float:
    """Accuracy at a quarter of the steps."""
    goal = log["steps"][-1] / 4
    at = next(index for index, step in enumerate(log["steps"]) if step >= goal)
    return float(log["accuracy"][at])


def fluctuation(log: dict[str, Any]) -> float:
    """Second half of the training: root mean square of the test loss's second differences (what no smooth trend
    explains), over the mean loss, in percent."""
    loss = np.array(log["loss"][len(log["loss"]) // 2 :])
    return float(100 * np.sqrt((np.diff(loss, 2) ** 2).mean()) / loss.mean())


READINGS: dict[str, Reading] = {"final": final, "early": early, "fluctuation": fluctuation}


def scores(context: Context, setting: str, column: str, reading: str = "final", **changes: Any) -> list[float]:
    """One number per seed."""
    one = SETTINGS[setting]
    return [
        READINGS[reading](trained(context, job_for(context, one, column, seed, **changes))) for seed in context.seeds
    ]


def spread(values: Sequence[float]) -> str:
    """``95.1 ± 0.4``: mean and standard deviation over seeds."""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.1f}"


def difference(
    context: Context,
    setting: str,
    first: str,
    second: str,
    reading: str = "final",
    first_changes: dict[str, Any] | None = None,
    second_changes: dict[str, Any] | None = None,
    signs: bool = False,
) -> Measured:
    """Reading of ``first`` minus that of ``second``.

    Args:
        signs: The claim is about sign encoding: a miss is explained by what it does to the gradient here.
    """
    one = scores(context, setting, first, reading, **(first_changes or {}))
    other = scores(context, setting, second, reading, **(second_changes or {}))
    labels = _labels(first, second, first_changes, second_changes)
    detail = {labels[0]: [round(x, 4) for x in one], labels[1]: [round(x, 4) for x in other]}
    reason = f"{labels[0]} {spread(one)}, {labels[1]} {spread(other)}"
    learned = trained(context, job_for(context, SETTINGS[setting], first, context.seed, **(first_changes or {})))
    if learned.get("sigma"):
        detail["learned sigma by stage"] = learned["sigma"]
        reason += f"; sigma ended between {min(learned['sigma']):.3g} and {max(learned['sigma']):.3g}"
    if signs:
        evidence, more = sign_evidence(context, setting)
        reason, detail = f"{reason}; {evidence}", {**detail, **more}
    if first.split()[0] != second.split()[0] and "Hybrid" in (first.split()[0], second.split()[0]):
        front = front_evidence(context, setting)
        reason, detail = f"{reason}; {front[0]}", {**detail, **front[1]}
    return Measured.mean(np.array(one) - np.array(other), describe(context, SETTINGS[setting]), reason, detail)


def _labels(first: str, second: str, *changes: dict[str, Any] | None) -> tuple[str, str]:
    def words(given: dict[str, Any] | None) -> str:
        flat = {**(given or {})}
        flat.update(flat.pop("estimator", {}))
        flat.pop("model_options", None)
        return f" ({', '.join(f'{key} {value}' for key, value in flat.items())})" if flat else ""

    return first + words(changes[0]), second + words(changes[1])


def sign_evidence(context: Context, setting: str) -> tuple[str, dict[str, Any]]:
    """Cosine of LR's and ALR's gradient with the true one at this setting's copies; ceiling of the sign code."""
    from alrsim.experiments.measures.gradients import encoded_against_plain

    job = job_for(context, SETTINGS[setting], "LR", context.seed)
    plain, coded, ceiling = encoded_against_plain(context, job)
    detail = {"cosine LR": plain, "cosine ALR": coded, "ceiling c_x": ceiling}
    return (
        f"measured: cosine with the true gradient at {job.copies} copies {plain:.2f} (LR) and {coded:.2f} (ALR), "
        f"mean ceiling of signs of inputs c_x = {ceiling:.2f}",
        detail,
    )


def front_evidence(context: Context, setting: str) -> tuple[str, dict[str, Any]]:
    """Whether noise on weights suits the layers where Hybrid puts it."""
    from alrsim.experiments.measures.gradients import front_layers

    job = job_for(context, SETTINGS[setting], "LR", context.seed)
    found = front_layers(context, job)
    return (
        f"measured: mean cosine of the first two layers at {job.copies} copies {found['ES']:.2f} with noise on weights "
        f"(Hybrid's choice), {found['LR']:.2f} with noise on outputs",
        {f"cosine of the first two layers, {key}": value for key, value in found.items()},
    )


def average_gain(context: Context, setting: str, pairs: Sequence[Sequence[str]]) -> Measured:
    """Mean over pairs of columns of the first's accuracy minus the second's."""
    gains, detail = [], {}
    for first, second in pairs:
        one, other = scores(context, setting, first), scores(context, setting, second)
        gains.append(np.array(one) - np.array(other))
        detail[f"{first} - {second}"] = float(gains[-1].mean())
    evidence, more = sign_evidence(context, setting)
    how = describe(context, SETTINGS[setting])
    return Measured.mean(np.mean(gains, axis=0), how, evidence, {**detail, **more})


def over_settings(context: Context, settings: Sequence[str], first: str, second: str) -> Measured:
    """Mean over settings of the first's accuracy minus the second's."""
    gains, detail = [], {}
    for setting in settings:
        one, other = scores(context, setting, first), scores(context, setting, second)
        gains.append(np.array(one) - np.array(other))
        detail[f"{setting}: {first}"], detail[f"{setting}: {second}"] = spread(one), spread(other)
    how = "; ".join(describe(context, SETTINGS[setting]) for setting in settings)
    reason = ", ".join(f"{key} {value}" for key, value in detail.items())
    return Measured.mean(np.mean(gains, axis=0), how, reason, detail)


def level(context: Context, setting: str, column: str, **changes: Any) -> Measured:
    """Accuracy of one column, in percent."""
    values = scores(context, setting, column, **changes)
    return Measured.mean(np.array(values), describe(context, SETTINGS[setting]), detail={column: values})


def table_levels(context: Context, setting: str, table: str) -> Measured:
    """Mean distance of a table's accuracies from the printed ones, in points; needs the table's own data set."""
    cells = TABLES[table]
    logs = {column: scores(context, setting, column) for column in cells}
    gaps = [abs(float(np.mean(values)) - cells[column]) for column, values in logs.items()]
    detail = {f"{column} (paper {cells[column]})": spread(values) for column, values in logs.items()}
    job = job_for(context, SETTINGS[setting], "LR", context.seed)
    epochs = trained(context, job)["epochs"]
    reason = f"trained for {epochs:.2f} epochs at {job.copies} copies here"
    return Measured.mean(np.array(gaps), describe(context, SETTINGS[setting]), reason, detail)


def of_backpropagation(context: Context, setting: str, column: str, changes: dict[str, Any] | None = None) -> Measured:
    """Accuracy as a share of BP's, in percent."""
    own, exact = scores(context, setting, column, **(changes or {})), scores(context, setting, "BP")
    forwards = trained(context, job_for(context, SETTINGS[setting], column, context.seed, **(changes or {})))
    detail = {column: spread(own), "BP": spread(exact), "forwards per sample in all": forwards["forwards"]}
    reason = f"{column} {spread(own)}, BP {spread(exact)}"
    return Measured.mean(100 * np.array(own) / np.array(exact), describe(context, SETTINGS[setting]), reason, detail)
