"""``trajectory``: BP, LR and ALR on Beale's function, the picture of the ALR paper's section 4.4 (Figure 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, get_args

from alrsim.documents import Document, Live
from alrsim.quality.trajectory_options import NEAR, OPTIMUM, TrajectoryOptions, Walker
from alrsim.verbs import verb

if TYPE_CHECKING:
    from alrsim.quality.beale import Walk

POINTS = 500
"""Points of each run's path in the document."""


@dataclass(frozen=True)
class WalkRun:
    """One run.

    Attributes:
        path: Points on the way, every ``path_every`` steps.
    """

    end: tuple[float, float]
    loss: float
    diverged: bool
    path: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class WalkResult:
    """One method's runs.

    Attributes:
        reached_optimum: Runs that ended in the optimum's basin.
        diverged: Runs that left for good.
    """

    method: Walker
    reached_optimum: int
    diverged: int
    runs: tuple[WalkRun, ...]


@dataclass(frozen=True)
class TrajectoryResult(Document):
    """Where everybody ends.

    Attributes:
        near: Loss below which a run is in the optimum's basin.
        text: What happened, and what it does not prove.
        walks: Live: every point and loss by method.
    """

    kind: ClassVar[str] = "trajectory"
    version: ClassVar[int] = 2

    function: str
    start: tuple[float, float]
    optimum: tuple[float, float]
    steps: int
    learning_rate: float
    sigma: float
    copies: int
    seed: int
    path_every: int
    near: float
    methods: tuple[WalkResult, ...]
    text: tuple[str, ...]
    walks: Live = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        found = ", ".join(f"{one.method} {one.reached_optimum} of {len(one.runs)}" for one in self.methods)
        return f"TrajectoryResult(Beale, runs that reach the minimum: {found})"


@verb(TrajectoryOptions)
def trajectory(*, asked: TrajectoryOptions) -> TrajectoryResult:
    """Minimise Beale's function from (-3, 2) by BP, LR and ALR, and say honestly where each of them ends.

    >>> trajectory(steps=60, runs=2).methods[0].method
    'bp'
    """
    from alrsim.quality.beale import walk

    walks = {method: walk(method, asked) for method in get_args(Walker)}  # LR and ALR see the same noise
    every = max(1, -(-asked.steps // POINTS))
    methods = tuple(_walk_result(walk, every) for walk in walks.values())
    return TrajectoryResult(
        function="Beale",
        start=asked.start,
        optimum=OPTIMUM,
        steps=asked.steps,
        learning_rate=asked.lr,
        sigma=asked.sigma,
        copies=asked.copies,
        seed=asked.seed,
        path_every=every,
        near=NEAR,
        methods=methods,
        text=tuple(verdict(methods)),
        walks=walks,
    )


def _walk_result(walk: "Walk", every: int) -> WalkResult:
    runs = tuple(
        WalkRun(
            tuple(walk.path[-1, run].tolist()),
            float(walk.losses[-1, run]),
            gone,
            tuple(tuple(point) for point in walk.path[::every, run].tolist()),
        )
        for run, gone in enumerate(walk.diverged)
    )
    return WalkResult(walk.method, walk.found, sum(walk.diverged), runs)


def verdict(methods: Sequence[WalkResult]) -> list[str]:
    """What happened, and what it does not prove."""
    found: Mapping[str, WalkResult] = {one.method: one for one in methods}
    lines = []
    for name, one in found.items():
        losses = sorted(run.loss for run in one.runs)
        if len(one.runs) == 1:
            x, y = one.runs[0].end
            place = "reaches" if one.reached_optimum else "does not reach"
            how = " (diverged)" if one.diverged else ""
            lines.append(
                f"{name.upper()} ends at ({x:.3f}, {y:.3f}) with loss {losses[0]:.4g}{how}: {place} the minimum."
            )
            continue
        lines.append(
            f"{name.upper()}: {one.reached_optimum} of {len(one.runs)} runs reach the minimum (loss below {NEAR:g}), "
            f"{one.diverged} diverge; median loss at the end {losses[len(losses) // 2]:.4g}, from {losses[0]:.4g} to "
            f"{losses[-1]:.4g}."
        )
    lines.append(
        "The paper's picture shows one run of each: ALR finds the minimum, BP and LR stay in the valley at x < 0. Its "
        "step size, sigma and copies are not printed, and they and the starting point decide the outcome: the gradient "
        "at (-3, 2) is about 1,500, so a run reaches x > 0 only if a noisy first step overshoots the valley far enough."
    )
    if found["lr"].reached_optimum >= found["alr"].reached_optimum:
        lines.append("Here ALR reaches the minimum no more often than LR.")
    else:
        lines.append(
            "Here ALR reaches the minimum more often than LR; signs of the noise have the larger variance, so that its "
            "first steps scatter more. That is no more direct path: compare other values of `seed`."
        )
    return lines
