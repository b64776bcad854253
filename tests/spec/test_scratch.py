"""Scratch, what a task allocates and frees inside itself: from a table into tasks, memory, schedules and facts."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from pydantic import TypeAdapter

from alrsim.errors import OptionError, ScheduleError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.schedulers.registry import schedule
from alrsim.schedulers.search import SearchOptions
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import with_scratch
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import parse_token
from alrsim.timeline.facts import Facts
from alrsim.timeline.memory import memory_error, memory_points, peak_memory, resident_peaks
from alrsim.timeline.timeline import MemPoint, Span, Timeline

TEMP, ACTIVATION = Category.TEMP, Category.ACTIVATION


def graph(scratch: dict[str, int]) -> TaskGraph:
    """A forward whose value of 10 bytes its backward reads; the backward writes 6 bytes of a gradient."""
    buffers = (
        Buffer("a", ACTIVATION, 10, 0, producer=0, readers=(1,)),
        Buffer("g", TEMP, 6, 0, producer=1),
    )
    tasks = tuple(
        Task(parse_token(token), (0,) if token == "0B0" else (), scratch=scratch.get(token, 0))
        for token in ("0F0", "0B0")
    )
    return TaskGraph(tasks, buffers, "hand", 1, 1)


def line() -> Timeline:
    spans = (Span(parse_token("0F0"), "u0", 1, 3), Span(parse_token("0B0"), "u0", 4, 8))
    return Timeline("simulated", "digest", ("u0",), spans)


def live(tasks: TaskGraph) -> list[tuple[int, dict[Category, int]]]:
    return [(point.time, dict(point.live)) for point in memory_points(tasks, line(), ["u0", "u0"])]


def test_scratch_lives_from_its_tasks_start_to_its_end_as_temp() -> None:
    assert live(graph({"0F0": 5, "0B0": 7})) == [
        (0, {}),
        (1, {ACTIVATION: 10, TEMP: 5}),
        (3, {ACTIVATION: 10}),
        (4, {ACTIVATION: 10, TEMP: 13}),
        (8, {}),
    ]


def test_a_backward_that_frees_as_it_goes_has_less_than_its_buffers() -> None:
    assert live(graph({"0B0": -4}))[2:] == [(4, {ACTIVATION: 10, TEMP: 2}), (8, {})]


def test_a_table_fills_the_tasks_that_it_knows_by_cost_key() -> None:
    filled = with_scratch(graph({"0F0": 3, "0B0": 3}), {(0, "B", 1, False): 9, (4, "F", 1, False): 1})
    assert [task.scratch for task in filled.tasks] == [3, 9]
    assert filled.buffers == graph({}).buffers


@pytest.mark.parametrize("wrong", [1.5, True, "9"])
def test_scratch_is_whole_bytes(wrong: object) -> None:
    with pytest.raises(OptionError, match=r"scratch table: .*need whole bytes"):
        with_scratch(graph({}), {(0, "B", 1, False): wrong})  # type: ignore[dict-item]


def test_the_error_of_memory_is_told_for_every_unit_that_held_something() -> None:
    def peaks(first: int, second: int) -> Timeline:
        points = (MemPoint("u0", 0, {TEMP: first}), MemPoint("u1", 0, {TEMP: second}), MemPoint("u2", 0, {}))
        return replace(line(), units=("u0", "u1", "u2"), memory=points)

    assert memory_error(peaks(90, 30), peaks(100, 20)) == {"u0": pytest.approx(-0.1), "u1": pytest.approx(0.5)}


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (1234, {"process": 1234}),
        (["u0=10", "u1=20"], {"u0": 10, "u1": 20}),
        (0, {}),
        (None, {}),
    ],
)
def test_resident_peaks_are_read_from_the_facts(fact: object, expected: dict[str, int]) -> None:
    facts = TypeAdapter(Facts).validate_python({} if fact is None else {"peak_rss_bytes": fact})
    assert resident_peaks(replace(line(), facts=facts)) == expected


@pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
def test_the_exact_scheduler_finds_room_for_scratch(textbook) -> None:
    body = tuple(Stage(index, f"s{index}", parameters=2, saved=8) for index in range(2))
    edges = tuple(Edge(index - 1, index, f"x{index}", 8) for index in range(3))
    loose = textbook(StageGraph("weighed", body, edges, Stage(2, "loss")), 2, 3, "bp", loss=True, l=1)
    table = {(stage, kind, 1, False): 400 for stage in (0, 1) for kind in ("F", "B")}
    told = replace(loose, tasks=with_scratch(loose.tasks, table))
    bare = peak_memory(simulate(loose, schedule(loose, "1f1b"), semantics="latency"))

    def limited(problem, room):
        units = tuple(replace(unit, memory_bytes=bare[unit.name] + room) for unit in problem.machine.units)
        return replace(problem, machine=replace(problem.machine, units=units))

    fits = limited(told, 400)
    made = simulate(fits, schedule(fits, "cpsat", SearchOptions(effort=5)), semantics="latency")
    assert all(peak_memory(made)[unit.name] <= unit.memory_bytes for unit in fits.machine.units)
    assert all(size > bare[unit] - 400 for unit, size in peak_memory(made).items())
    with pytest.raises(ScheduleError, match="short by"):
        schedule(limited(told, 100), "cpsat", SearchOptions(effort=5))
    schedule(limited(loose, 0), "cpsat", SearchOptions(effort=5))
