"""Charts and traces: what a reader sees must be what the timeline holds."""

import gzip
import json
import struct
import zlib
from dataclasses import replace

import pytest

from alrsim.errors import OptionError
from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.reports.gantt import Panel, draw_gantt
from alrsim.reports.memory_plot import MemoryRow, draw_memory
from alrsim.reports.palette import CATEGORY_COLOURS, KIND_COLOURS, ink_on, shade, to_rgb
from alrsim.reports.text import draw_text
from alrsim.reports.timescale import scale_for
from alrsim.reports.trace import trace_bytes, trace_document
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import KINDS, parse_token
from alrsim.timeline.timeline import Timeline


@pytest.fixture(scope="module")
def problem() -> Problem:
    tasks = RULES["bp"](chain(2, elements=8), RuleOptions(microbatches=2, loss=False, update=False))
    lasting = {"F": 1000, "B": 2000}
    durations = tuple((lasting[task.id.kind],) * 2 for task in tasks.tasks)
    return Problem(tasks, abstract_machine(2), durations, "durations")


@pytest.fixture(scope="module")
def timeline(problem: Problem) -> Timeline:
    lanes = ("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1")
    schedule = Schedule(tuple(Lane(f"u{i}", tuple(map(parse_token, lane.split()))) for i, lane in enumerate(lanes)))
    return simulate(problem, schedule)


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks all have the right checksum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, size = 8, (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        if body[:4] == b"IHDR":
            size = struct.unpack(">II", body[4:12])
        at += 12 + length
    return size


def test_a_gantt_chart_grows_with_units_and_panels_and_is_reproducible(timeline: Timeline) -> None:
    one = draw_gantt([Panel("bp", timeline)], "title")
    two = draw_gantt([Panel("bp", timeline), Panel("bp", replace(timeline, source="measured"))], "title")
    assert png_size(one)[0] == png_size(two)[0]
    assert png_size(two)[1] > png_size(one)[1] + 100
    assert draw_gantt([Panel("bp", timeline)], "title") == one


def test_a_chart_refuses_to_mix_nanoseconds_with_typed_units(timeline: Timeline) -> None:
    with pytest.raises(OptionError, match="cannot share one time axis"):
        draw_gantt([Panel("a", timeline), Panel("b", replace(timeline, time_unit="user"))])
    with pytest.raises(OptionError, match="at least one timeline"):
        draw_gantt([])


def test_a_memory_plot_needs_the_same_units_in_every_row(timeline: Timeline) -> None:
    assert png_size(draw_memory([MemoryRow("bp", timeline, replace(timeline, source="measured"))], "title"))[0] == 1950
    with pytest.raises(OptionError, match="same units"):
        draw_memory([MemoryRow("a", timeline), MemoryRow("b", replace(timeline, units=("x",), spans=(), memory=()))])


def test_every_kind_and_category_has_a_colour_of_its_own() -> None:
    assert set(KIND_COLOURS) == set(KINDS)
    assert len(set(KIND_COLOURS.values())) == len(KINDS)
    assert set(CATEGORY_COLOURS) == set(Category)
    assert len(set(CATEGORY_COLOURS.values())) == len(CATEGORY_COLOURS)


def test_later_microbatches_are_lighter_and_labels_keep_their_contrast() -> None:
    shades = [shade("#0072B2", m, 4) for m in range(4)]
    assert [sum(colour) for colour in shades] == sorted(sum(colour) for colour in shades)
    assert len(set(shades)) == 4
    assert ink_on(to_rgb("#0072B2")) == "#FFFFFF"
    assert ink_on(to_rgb("#F0E442")) != "#FFFFFF"


def test_the_text_chart_shows_every_step(timeline: Timeline) -> None:
    assert draw_text(timeline).splitlines() == [
        "    1   2   3   4   5   6   7   8   9",
        "u0  0F0 0F1 .   .   0B0 --- .   0B1 ---",
        "u1  .   1F0 1B0 --- 1F1 1B1 --- .   .",
        "makespan 9 µs, predicted (durations)",
    ]


def test_a_long_text_chart_is_scaled_to_the_width(timeline: Timeline) -> None:
    lines = draw_text(timeline, width=25).splitlines()
    assert [len(line) for line in lines[:2]] == [25, 25]
    assert set(lines[0][4:]) <= set("FB.")


def test_times_are_shown_in_the_largest_unit_that_leaves_one() -> None:
    assert scale_for(2_500_000, "ns").text(2_500_000) == "2.5 ms"
    assert scale_for(999, "ns").text(999) == "999 ns"
    assert scale_for(0, "ns").text(0) == "0 ns"
    assert scale_for(7.5, "user").text(7.5) == "7.5"


def test_a_trace_has_integer_ids_microseconds_and_one_thread_per_unit(problem: Problem, timeline: Timeline) -> None:
    measured = replace(timeline, source="measured")
    document = trace_document([("bp", timeline), ("bp", measured)], tasks={"bp": problem.tasks})
    events = json.loads(gzip.decompress(trace_bytes(document)))["traceEvents"]
    assert all(type(event["pid"]) is int and type(event["tid"]) is int for event in events)
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 2 * len(timeline.spans)
    assert {(e["pid"], e["tid"]) for e in slices} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    last = max(event["ts"] + event["dur"] for event in slices)
    assert last == timeline.makespan / 1000
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {1: "bp (predicted)", 2: "bp (measured)"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads == {(1, 1): "u0", (1, 2): "u1", (2, 1): "u0", (2, 2): "u1"}


def test_trace_arrows_join_the_end_of_a_producer_to_the_start_of_its_reader(
    problem: Problem, timeline: Timeline
) -> None:
    events = trace_document([("bp", timeline)], tasks={"bp": problem.tasks})["traceEvents"]
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert len(starts) == 4  # 0F -> 1F and 1B -> 0B, for two micro-batches
    for number, start in starts.items():
        assert start["tid"] != ends[number]["tid"]
        assert start["ts"] <= ends[number]["ts"]


def test_trace_counters_repeat_categories_that_went_to_zero(timeline: Timeline) -> None:
    events = [e for e in trace_document([("bp", timeline)])["traceEvents"] if e["ph"] == "C" and "u0" in e["name"]]
    seen: set[str] = set()
    for event in events:
        assert seen <= event["args"].keys()
        seen |= event["args"].keys()
    points = [point for point in timeline.memory if point.unit == "u0"]
    assert [sum(event["args"].values()) for event in events] == [point.total for point in points]
    assert any(0 in event["args"].values() for event in events)


def test_trace_transfers_are_asynchronous_and_balanced(timeline: Timeline) -> None:
    events = trace_document([("bp", timeline)])["traceEvents"]
    begun = [event["id"] for event in events if event["ph"] == "b"]
    assert len(begun) == len(timeline.transfers) == len(set(begun))
    assert sorted(begun) == sorted(event["id"] for event in events if event["ph"] == "e")
