"""Beale's function, as in the ALR paper's Figure 6."""

import numpy as np

from alrsim.experiments.context import Context
from alrsim.experiments.rules import Measured
from alrsim.quality.beale import walk
from alrsim.quality.trajectory_options import TrajectoryOptions


def _terms(context: Context) -> TrajectoryOptions:
    return TrajectoryOptions(steps=context.pick(2000, 6000), runs=context.pick(10, 40), seed=context.seed)


def same_path(context: Context) -> Measured:
    """Largest distance of LR's runs from BP's path (wherever it is nearest), over the length of BP's path."""
    terms = _terms(context)

    def measure() -> list[float]:
        exact, noisy = walk("bp", terms).path, walk("lr", terms).path
        length = float(np.linalg.norm(np.diff(exact[:, 0], axis=0), axis=1).sum())
        points = exact[:: max(1, len(exact) // 400), 0]
        away = [
            max(float(np.linalg.norm(points - point, axis=1).min()) for point in noisy[::10, run])
            for run in range(noisy.shape[1])
        ]
        return [value / length for value in away]

    values = np.array(context.once({"part": "same path", "terms": repr(terms)}, measure))
    how = f"from {terms.start}, {terms.steps} steps of {terms.lr:g}, {terms.copies} copies, {terms.runs} runs"
    median, left = float(np.median(values)), int((values > 0.05).sum())
    reason = f"{left} of {len(values)} runs leave BP's path by more than 5 % of its length; the median is {median:.3f}"
    return Measured.mean(values, how, reason, {"median": median, "largest": float(values.max())})


def escapes(context: Context) -> Measured:
    """Share of ALR's runs that end in the optimum's basin minus BP's."""
    terms = _terms(context)

    def measure() -> dict[str, list[float]]:
        return {name: walk(name, terms).losses[-1].tolist() for name in ("bp", "lr", "alr")}

    ends = context.once({"part": "escapes", "terms": repr(terms)}, measure)
    near = {name: np.array(values) < 0.1 for name, values in ends.items()}
    detail = {f"{name}: final loss, median": float(np.median(values)) for name, values in ends.items()}
    reason = ", ".join(f"{name} ends in the basin in {flags.mean():.0%} of runs" for name, flags in near.items())
    how = f"from {terms.start}, {terms.steps} steps of {terms.lr:g}, {terms.copies} copies, {terms.runs} runs"
    return Measured.mean(near["alr"].astype(float) - float(near["bp"].mean()), how, reason, detail)
