"""The JSON of one timeline: spans, transfers, every named bubble, memory. Simulated and measured alike."""

from fractions import Fraction
from typing import Any

from alrsim.timeline.memory import memory_by_category, peak_memory
from alrsim.timeline.metrics import bubble_size, named_shares, rank_span, typed, work
from alrsim.timeline.timeline import Timeline


def timeline_document(timeline: Timeline) -> dict[str, Any]:
    """Schema ``timeline.schema.json``. Times are in ``time_unit``: nanoseconds, or what the user typed.

    Exact rationals become integers where they are whole, and floats elsewhere.
    """

    def time(ticks: int) -> int | float:
        return number(typed(timeline, ticks))

    document: dict[str, Any] = {
        "source": timeline.source,
        "cost_model": timeline.cost_model,
        "schedule_digest": timeline.schedule_digest,
        "time_unit": timeline.time_unit,
        "makespan": time(timeline.makespan),
        "work": time(work(timeline)),
        "rank_span": time(rank_span(timeline)),
        **{name: float(share) for name, share in named_shares(timeline).items()},
        "bubble_size": {unit: time(ticks) for unit, ticks in bubble_size(timeline).items()},
        "peak_memory_bytes": peak_memory(timeline),
        "memory_by_category": {
            unit: {category.value: count for category, count in live.items()}
            for unit, live in memory_by_category(timeline).items()
        },
        "units": list(timeline.units),
        "layer_units": list(timeline.layer_units or timeline.units),
        "spans": [
            {"task": str(span.task), "unit": span.unit, "start": time(span.start), "end": time(span.end)}
            for span in timeline.spans
        ],
        "transfers": [
            {
                "buffer": transfer.buffer,
                "source": transfer.source,
                "target": transfer.target,
                "start": time(transfer.start),
                "end": time(transfer.end),
                "bytes": transfer.bytes,
            }
            for transfer in timeline.transfers
        ],
        "facts": timeline.facts.to_json(),
    }
    if timeline.time_unit == "ns":
        document["makespan_ns"] = timeline.makespan
    return document


def number(value: Fraction) -> int | float:
    """An integer where the value is whole, else the nearest float."""
    return value.numerator if value.denominator == 1 else float(value)
