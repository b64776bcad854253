"""``alrsim trajectory``: BP, LR and ALR on Beale's function, as in the ALR paper's Figure 6."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alrsim.cli.options import JsonTarget, OutFolder, Seed
from alrsim.cli.output import check_targets, encode, publish, say, show
from alrsim.errors import OptionError

if TYPE_CHECKING:
    from alrsim.quality.trajectory import Terms, Walk, Walker

MOST_STEPS = 200_000
POINTS = 500
"""Points of each run's path in the JSON."""


def run(
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Steps of gradient descent.")] = 3000,
    learning_rate: Annotated[float, typer.Option("--lr", metavar="R", help="Step size.")] = 1e-3,
    sigma: Annotated[float, typer.Option("--sigma", metavar="S", help="Standard deviation of the noise.")] = 0.01,
    copies: Annotated[int, typer.Option("--copies", metavar="C", help="Noise draws per step.")] = 5,
    runs: Annotated[int, typer.Option("--runs", metavar="K", help="Independent runs of LR and ALR.")] = 10,
    start: Annotated[str, typer.Option("--start", metavar="X,Y", help="Where all begin.")] = "-3,2",
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Minimise Beale's function from (-3, 2) by BP, LR and ALR, and say honestly where each of them ends."""
    check_targets(json, out)
    if steps > MOST_STEPS:
        raise OptionError(f"is {steps}, must be at most {MOST_STEPS}", where="--steps")
    point = parse_start(start)
    from alrsim.quality.trajectory import Terms, walk_all

    terms = Terms(steps, learning_rate, sigma, copies, runs, seed, point)
    walks = walk_all(terms)
    document = trajectory_document(walks, terms)
    files = {}
    if out is not None:
        from alrsim.quality.trajectory_chart import draw_trajectories

        files = {"trajectory.json": encode(document), "trajectory.png": draw_trajectories(walks, terms)}

    def text() -> None:
        tell(document)
        for name in files:
            say(f"wrote {out}/{name}")

    publish(document, json_target=json, out=out, files=files, text=text)


def parse_start(text: str) -> tuple[float, float]:
    """``-3,2`` -> ``(-3.0, 2.0)``.

    Raises:
        OptionError: anything but two numbers.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{text!r} is not two numbers", where="--start", fix="--start=-3,2") from None
    return x, y


def trajectory_document(walks: "Mapping[Walker, Walk]", terms: "Terms") -> dict[str, Any]:
    """The JSON of ``alrsim trajectory`` (schema ``trajectory.schema.json``)."""
    from alrsim.quality.trajectory import NEAR, OPTIMUM

    every = max(1, -(-terms.steps // POINTS))
    document: dict[str, Any] = {
        "function": "Beale",
        "start": list(terms.start),
        "optimum": list(OPTIMUM),
        "steps": terms.steps,
        "learning_rate": terms.rate,
        "sigma": terms.sigma,
        "copies": terms.copies,
        "seed": terms.seed,
        "path_every": every,
        "near": NEAR,
        "methods": [
            {
                "method": walk.method,
                "reached_optimum": walk.found,
                "diverged": sum(walk.diverged),
                "runs": [
                    {
                        "end": walk.path[-1, index].tolist(),
                        "loss": float(walk.losses[-1, index]),
                        "diverged": walk.diverged[index],
                        "path": walk.path[::every, index].tolist(),
                    }
                    for index in range(len(walk.diverged))
                ],
            }
            for walk in walks.values()
        ],
    }
    return {**document, "text": verdict(document)}


def verdict(document: Mapping[str, Any]) -> list[str]:
    """What happened, and what it does not prove."""
    found = {one["method"]: one for one in document["methods"]}
    lines = []
    for name, one in found.items():
        runs = one["runs"]
        losses = sorted(run["loss"] for run in runs)
        if len(runs) == 1:
            x, y = runs[0]["end"]
            place = "reaches" if one["reached_optimum"] else "does not reach"
            how = " (diverged)" if one["diverged"] else ""
            lines.append(
                f"{name.upper()} ends at ({x:.3f}, {y:.3f}) with loss {losses[0]:.4g}{how}: {place} the minimum."
            )
            continue
        lines.append(
            f"{name.upper()}: {one['reached_optimum']} of {len(runs)} runs reach the minimum (loss below "
            f"{document['near']:g}), {one['diverged']} diverge; median loss at the end {losses[len(losses) // 2]:.4g}, "
            f"from {losses[0]:.4g} to {losses[-1]:.4g}."
        )
    lines.append(
        "The paper's picture shows one run of each: ALR finds the minimum, BP and LR stay in the valley at x < 0. Its "
        "step size, sigma and copies are not printed, and they and the starting point decide the outcome: the gradient "
        "at (-3, 2) is about 1,500, so a run reaches x > 0 only if a noisy first step overshoots the valley far enough."
    )
    if found["lr"]["reached_optimum"] >= found["alr"]["reached_optimum"]:
        lines.append("Here ALR reaches the minimum no more often than LR.")
    else:
        lines.append(
            "Here ALR reaches the minimum more often than LR; signs of the noise have the larger variance, so that its "
            "first steps scatter more. That is no more direct path: compare other values of --seed."
        )
    return lines


def tell(document: Mapping[str, Any]) -> None:
    """A table and the text."""
    from alrsim.reports.tables import plain_table

    rows = []
    for one in document["methods"]:
        first = one["runs"][0]
        end = "({:.3f}, {:.3f})".format(*first["end"])
        rows.append(
            [
                one["method"].upper(),
                str(len(one["runs"])),
                end,
                f"{first['loss']:.4g}",
                str(one["reached_optimum"]),
                str(one["diverged"]),
            ]
        )
    columns = ("method", "runs", "first run ends at", "its loss", "reach the minimum", "diverge")
    show(plain_table(columns, rows, "Beale's function, minimum at (3, 0.5)"))
    for line in document["text"]:
        say(line)
