"""Additional memory of LR: what is kept from the forward for the gradient, as recorded by the executor and as predicted
by the rules."""

from typing import Any

from alrsim.execution.executor import Prepared
from alrsim.experiments.context import Context
from alrsim.experiments.measures.bench import draft, open_bench, zoo_model
from alrsim.experiments.rules import Measured
from alrsim.steps.measuring import Bench, prepare_draft
from alrsim.tasks.taskgraph import Category, TaskGraph

NAMED: dict[str, tuple[str, dict[str, str]]] = {
    "lr": ("lr", {}),
    "alr": ("alr", {}),
    "bits": ("lr-rademacher", {"reduce": "stack"}),
    "accumulate": ("lr-rademacher", {}),
}
"""fp32 LR and int8 ALR as in the paper; +-1 noise and threshold codes as bits; the same without stored copies."""


def recorded_state(job: Prepared) -> int:
    """Bytes that a gradient task reads besides losses and weights: inputs or their codes, noise, cotangents."""
    tasks = job.job.graph.tasks

    def reads(readers: Any) -> bool:
        return any(tasks[reader].id.kind == "G" for reader in readers)

    total: int = sum(
        entry.bytes
        for key, entry in job.ledger.entries.items()
        if key[0] not in ("loss", "input") and reads(entry.readers)
    )
    for one in job.ledger.sums.values():
        if reads(one.readers):
            total += max(size for _, size in one.terms)
    return total


def predicted_state(graph: TaskGraph) -> int:
    """The same from the buffers of the rules: nothing is run."""
    total = 0
    sums: dict[str, int] = {}
    for buffer in graph.buffers:
        kinds = {graph.tasks[reader].id.kind for reader in buffer.readers}
        if buffer.resident or buffer.producer < 0 or "G" not in kinds or buffer.name.endswith(":losses"):
            continue
        if buffer.category is Category.TEMP:
            continue
        if buffer.accumulator:
            sums[buffer.accumulator] = max(sums.get(buffer.accumulator, 0), buffer.bytes)
        else:
            total += buffer.bytes
    return total + sum(sums.values())


def _bench(context: Context) -> Bench:
    sizes = context.pick((("width", "8"), ("in_channels", "1"), ("image_size", "16")), (("width", "8"),))
    return open_bench(zoo_model("resnet5", *sizes), context.pick(8, 16), seed=context.seed)


def _about(context: Context) -> str:
    return f"resnet5, {context.pick('16x16', '32x32')}, batch {context.pick(8, 16)}"


def _state(context: Context, name: str, copies: int) -> tuple[int, int]:
    """Recorded and predicted bytes."""

    def measure() -> list[int]:
        bench, (method, options) = _bench(context), NAMED[name]
        one = draft(bench, method, copies=copies, **options)
        return [recorded_state(prepare_draft(bench, one)), predicted_state(one.tasks)]

    what = {"part": "state", "model": _about(context), "name": name, "copies": copies, "seed": context.seed}
    found = context.once(what, measure)
    return found[0], found[1]


def saving(context: Context, name: str) -> Measured:
    """State of fp32 LR over that of another way to keep it, at equal copies."""
    copies = context.pick(8, 50)
    base, other = _state(context, "lr", copies), _state(context, name, copies)
    detail = {
        "fp32 LR, bytes": base[0],
        f"{name}, bytes": other[0],
        "predicted ratio": base[1] / other[1],
        "prediction error of the bytes, in %": 100 * (other[1] / other[0] - 1),
    }
    how = f"{_about(context)}, {copies} copies: bytes kept for gradient tasks besides the model's input, recorded"
    return Measured(base[0] / other[0], None, None, how, detail=detail)


def copies_that_fit(context: Context) -> Measured:
    """Copies of int8 ALR in the memory that fp32 LR needs for some, from the state of one more copy of each."""
    few, many = context.pick((4, 8), (25, 50))
    per_copy = {
        name: (_state(context, name, many)[0] - _state(context, name, few)[0]) / (many - few) for name in ("lr", "alr")
    }
    detail = {f"{name}: bytes per copy": value for name, value in per_copy.items()}
    how = f"{_about(context)}: slope of the recorded state between {few} and {many} copies"
    return Measured(per_copy["lr"] / per_copy["alr"], None, None, how, detail=detail)


def growth(context: Context) -> Measured:
    """State at 100 times the copies over state at one times, where copies are accumulated."""
    few, many = context.pick((2, 20), (10, 100))
    factor = many // few
    own = {count: _state(context, "accumulate", count)[0] for count in (few, many)}
    stacked = {count: _state(context, "lr", count)[0] for count in (few, many)}
    far = predicted_state(draft(_bench(context), "lr-rademacher", copies=10_000).tasks)
    detail = {
        f"stacked fp32 LR: {few} -> {many} copies grows": stacked[many] / stacked[few],
        f"accumulated, {few} copies, bytes": own[few],
        f"accumulated, {many} copies, bytes": own[many],
        "accumulated, 10,000 copies, bytes (predicted)": far,
    }
    how = f"{_about(context)}: state with {factor} times the copies over state with {few}, lr-rademacher accumulated"
    return Measured(own[many] / own[few], None, None, how, detail=detail)
