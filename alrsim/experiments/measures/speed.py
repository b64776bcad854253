"""Steps per second of LR, ALR and their pipelines, all run in turn on this host."""

from statistics import median
from typing import Any

from numpy import array

from alrsim.execution.executor import execute_all
from alrsim.execution.measuring.timelines import device_name
from alrsim.experiments.context import Context
from alrsim.experiments.measures.bench import draft, open_bench, scheduled, zoo_model
from alrsim.experiments.rules import Measured
from alrsim.quality.metrics import mean_interval
from alrsim.steps.model import Model

SERIAL = {"LR": "lr", "ALR": "alr", "lr-rademacher": "lr-rademacher"}
PIPELINED = {"LR-P": "lr", "ALR-P": "alr"}
MICROBATCHES = 4
UNITS = 2
GRADIENT = ", ns in gradient tasks"
SOUND = 90
"""Percent of their cores that tasks must have had."""

BUSY = "least share of their cores that tasks had, in %"


def _setup(context: Context) -> tuple[Model, int, str]:
    samples = context.pick(16, 48)
    return zoo_model("resnet5", ("width", "8")), samples, f"resnet5 32x32, batch {samples}"


def _times(context: Context, copies: int) -> dict[str, list[int]]:
    """Makespans in ns by name, one per turn; the turns of all names alternate. And ns in gradient tasks."""
    model, samples, about = _setup(context)

    def measure() -> dict[str, list[int]]:
        turns, names = context.pick(2, 3), ("BP", *SERIAL, *PIPELINED)
        whole = open_bench(model, samples, seed=context.seed, turns=turns)
        parts = open_bench(model, samples, MICROBATCHES, units=UNITS, seed=context.seed, turns=turns)
        serial = [draft(whole, "bp"), *(draft(whole, method, copies=copies) for method in SERIAL.values())]
        pipelined = [draft(parts, f"{method}:lr-free", copies=copies) for method in PIPELINED.values()]
        jobs = [*scheduled(whole, serial), *scheduled(parts, pipelined)]
        runs = execute_all(jobs, repeats=context.pick(5, 9))
        found = {name: list(run.makespans) for name, run in zip(names, runs, strict=True)}
        for name, run in zip(names, runs, strict=True):
            spans = run.timeline.spans
            found[BUSY] = [min(found.get(BUSY, [100])[0], round(100 * float(str(run.timeline.facts.cpu_share))))]
            found[name + GRADIENT] = [sum(span.end - span.start for span in spans if span.task.kind == "G")]
        return found

    what = {"part": "speed", "model": about, "copies": copies, "seed": context.seed, "mode": context.mode}
    words = f"steps per second at {copies} copies"
    found: dict[str, list[int]] = context.once(what, measure, _lasting, words)
    return found


def _lasting(value: dict[str, list[int]]) -> bool:
    return value[BUSY][0] >= SOUND


def _ratio(times: dict[str, list[int]], slow: str, fast: str) -> tuple[float, float, float]:
    """Ratio of medians, and the 95 % interval of the mean of the turns' own ratios, widened to hold it."""
    pairs = mean_interval(array([a / b for a, b in zip(times[slow], times[fast], strict=True)]))
    value = median(times[slow]) / median(times[fast])
    return value, min(value, pairs.low or value), max(value, pairs.high or value)


def _how(context: Context, what: str) -> str:
    return f"{_setup(context)[2]}, {device_name()}: {what}; medians of alternating turns"


def _busy(table: dict[int, dict[str, list[int]]]) -> str:
    """A warning where other programs had the cores."""
    least = min(times[BUSY][0] for times in table.values())
    return f"; the host was busy: tasks had as little as {least} % of their cores, so measure again" * (least < SOUND)


def _sound(table: dict[int, dict[str, list[int]]]) -> bool:
    return all(map(_lasting, table.values()))


def _table(context: Context) -> dict[int, dict[str, list[int]]]:
    return {copies: _times(context, copies) for copies in context.pick((2, 10), (2, 5, 10, 20, 50))}


def _steps_per_second(table: dict[int, dict[str, list[int]]]) -> dict[str, Any]:
    names = next(iter(table.values()))
    return {
        f"{name}: steps/s by copies": {str(c): round(1e9 / median(times[name]), 2) for c, times in table.items()}
        for name in names
        if not name.endswith(GRADIENT) and name != BUSY
    }


def largest(context: Context, fast: str) -> Measured:
    """The largest ratio of speeds over the numbers of copies, both un-pipelined on one unit."""
    table = _table(context)
    ratios = {copies: _ratio(times, "LR", fast) for copies, times in table.items()}
    best = max(ratios, key=lambda copies: ratios[copies][0])
    detail = {f"{fast} over LR at {c} copies": value for c, (value, _, _) in ratios.items()}
    how = _how(context, f"largest at {best} of {', '.join(map(str, ratios))} copies, one unit each")
    times = table[best]
    share = times["LR" + GRADIENT][0] / median(times["LR"])
    reason = (
        f"gradient tasks are {100 * share:.0f} % of LR's step at {best} copies, so with gradients for free it "
        f"would be {1 / max(1 - share, 1e-9):.2f}x faster: the rest is the same forwards{_busy(table)}"
    )
    return Measured(*ratios[best], how, reason, {**detail, **_steps_per_second(table)}, _sound(table))


def pipelined(context: Context) -> Measured:
    """ALR-P on two units over un-pipelined LR on one: mean over the numbers of copies, as the paper's average."""
    table = _table(context)
    ratios = {copies: _ratio(times, "LR", "ALR-P") for copies, times in table.items()}
    value, low, high = (sum(one[i] for one in ratios.values()) / len(ratios) for i in range(3))
    alone = [_ratio(times, "ALR", "ALR-P")[0] for times in table.values()]
    encoded = [_ratio(times, "LR", "ALR")[0] for times in table.values()]
    detail = {
        **{f"ALR-P over LR at {c} copies": one[0] for c, one in ratios.items()},
        "pipeline alone (ALR-P over ALR), mean": sum(alone) / len(alone),
        "encoding alone (ALR over LR), mean": sum(encoded) / len(encoded),
        **_steps_per_second(table),
    }
    how = _how(context, f"ALR on {UNITS} units, {MICROBATCHES} micro-batches (lr-free), over LR on one unit")
    reason = (
        f"of the ratio, two units give {sum(alone) / len(alone):.2f}x and the encoding "
        f"{sum(encoded) / len(encoded):.2f}x here{_busy(table)}"
    )
    return Measured(value, low, high, how, reason, detail, _sound(table))


def against_bp(context: Context) -> Measured:
    """Best ratio of pipelined ALR's speed on two units over BP's on one."""
    table = {1: _times(context, 1), **_table(context)}
    ratios = {copies: _ratio(times, "BP", "ALR-P") for copies, times in table.items()}
    best = max(ratios, key=lambda copies: ratios[copies][0])
    up_to = max((copies for copies, one in ratios.items() if one[0] > 1), default=0)
    detail = {f"ALR-P over BP at {c} copies": one[0] for c, one in ratios.items()}
    how = _how(context, f"ALR-P on {UNITS} units over BP on one, best of {', '.join(map(str, ratios))} copies")
    reason = (
        f"ALR-P is faster than BP up to {up_to} copies here; a copy is one more forward of every sample{_busy(table)}"
    )
    return Measured(*ratios[best], how, reason, {**detail, "faster up to copies": up_to}, _sound(table))


def fades(context: Context) -> Measured:
    """Speed of ALR-P over BP: with the fewest copies minus with the most."""
    table = _table(context)
    first, last = min(table), max(table)
    few, many = (_ratio(table[copies], "BP", "ALR-P") for copies in (first, last))
    how = _how(context, f"ratio of speeds at {first} copies minus that at {last}")
    detail = {f"at {first} copies": few[0], f"at {last} copies": many[0]}
    reason = f"ratios {few[0]:.2f} and {many[0]:.2f}{_busy(table)}"
    return Measured(few[0] - many[0], few[1] - many[2], few[2] - many[1], how, reason, detail, _sound(table))


def backward(context: Context) -> Measured:
    """Time of BP's backward tasks over that of its forward and loss tasks, on one unit."""
    model, samples, about = _setup(context)

    def measure() -> dict[str, list[float]]:
        bench = open_bench(model, samples, seed=context.seed)
        (job,) = scheduled(bench, [draft(bench, "bp")])
        ratios, shares = [], []
        for _ in range(context.pick(7, 15)):
            (run,) = execute_all([job], repeats=1, warmup=1)
            spent = dict.fromkeys("FLB", 0)
            for span in run.timeline.spans:
                spent[span.task.kind] = spent.get(span.task.kind, 0) + span.end - span.start
            ratios.append(spent["B"] / (spent["F"] + spent["L"]))
            shares.append(100 * float(str(run.timeline.facts.cpu_share)))
        return {"ratios": ratios, BUSY: [min(shares)]}

    what = {"part": "backward", "model": about, "seed": context.seed, "mode": context.mode}
    found = context.once(what, measure, _lasting, "backward and forward of BP")
    least = found[BUSY][0]
    reason = f"tasks had at least {least:.0f} % of their cores"
    detail = {"smallest": min(found["ratios"]), "largest": max(found["ratios"])}
    how = f"{about}, {device_name()}: B over F + L, {len(found['ratios'])} steps; stage 0 has no input gradient"
    return Measured.mean(array(found["ratios"]), how, reason, detail, least >= SOUND)
