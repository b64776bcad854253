"""Memory of timelines written by hand: who holds what, from when to when."""

from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, parse_token
from alrsim.timeline.memory import lifetimes, memory_by_category, memory_points, peak_memory
from alrsim.timeline.timeline import MemPoint, Span, Timeline, TransferSpan

ACTIVATION, TEMP, PARAM = Category.ACTIVATION, Category.TEMP, Category.PARAM


def graph(tokens: str, buffers: list[Buffer], stages: int = 2) -> TaskGraph:
    """Tasks by token; who reads what follows from the buffers."""
    tasks = tuple(
        Task(parse_token(token), tuple(b for b, buffer in enumerate(buffers) if index in buffer.readers))
        for index, token in enumerate(tokens.split())
    )
    return TaskGraph(tasks, tuple(buffers), "hand", stages, 1)


def timeline(spans: str, transfers: tuple[TransferSpan, ...] = (), units: tuple[str, ...] = ("u0", "u1")) -> Timeline:
    """Spans as ``0F0 u0 0-3; 1F0 u1 4-6``."""
    found = []
    for text in spans.split("; "):
        token, unit, times = text.split()
        start, end = map(int, times.split("-"))
        found.append(Span(parse_token(token), unit, start, end))
    found.sort(key=lambda span: (span.start, span.unit))
    return Timeline("simulated", "digest", units, tuple(found), transfers)


def live(points: tuple[MemPoint, ...], unit: str) -> list[tuple[int, int]]:
    return [(point.time, point.total) for point in points if point.unit == unit]


def test_peak_memory_counts_no_buffer_after_its_last_reader() -> None:
    # a: made 0-2, read until 5. b: made 2-5, read until 7. Only between 2 and 5 are both alive.
    tasks = graph(
        "0F0 1F0 1B0",
        [Buffer("a", ACTIVATION, 10, 0, producer=0, readers=(1,)), Buffer("b", ACTIVATION, 7, 1, 1, readers=(2,))],
    )
    points = memory_points(tasks, timeline("0F0 u0 0-2; 1F0 u0 2-5; 1B0 u0 5-7"), ["u0", "u0", "u0"])
    assert live(points, "u0") == [(0, 10), (2, 17), (5, 7), (7, 0)]
    assert live(points, "u1") == [(0, 0)]
    assert tasks.peak_bytes == 17


def test_a_buffer_that_nobody_reads_is_gone_when_its_producer_ends() -> None:
    tasks = graph("0F0", [Buffer("a", ACTIVATION, 10, 0, producer=0)])
    points = memory_points(tasks, timeline("0F0 u0 3-5"), ["u0"] * 3)
    assert live(points, "u0") == [(0, 0), (3, 10), (5, 0)]
    assert tasks.peak_bytes == 10


def test_a_sent_buffer_lives_on_both_sides_while_it_travels() -> None:
    # Sender: made 0-2, sent 3-6, no reader of its own. Receiver: from the start of the transfer to the reader's end.
    tasks = graph("0F0 1F0", [Buffer("a", ACTIVATION, 10, 0, producer=0, readers=(1,))])
    spans = timeline("0F0 u0 0-2; 1F0 u1 6-9", (TransferSpan("a", "u0", "u1", 3, 6, 10),))
    points = memory_points(tasks, spans, ["u0", "u1", "u1"])
    assert live(points, "u0") == [(0, 10), (6, 0)]
    assert live(points, "u1") == [(0, 0), (3, 10), (9, 0)]


def test_a_local_reader_keeps_the_senders_buffer_after_it_left() -> None:
    tasks = graph("0F0 1F0 0B0", [Buffer("a", ACTIVATION, 10, 0, producer=0, readers=(1, 2))])
    spans = timeline("0F0 u0 0-2; 1F0 u1 6-9; 0B0 u0 9-12", (TransferSpan("a", "u0", "u1", 3, 6, 10),))
    points = memory_points(tasks, spans, ["u0", "u1", "u1"])
    assert live(points, "u0") == [(0, 10), (12, 0)]
    assert live(points, "u1") == [(0, 0), (3, 10), (9, 0)]


def test_residents_stay_on_their_home_for_the_whole_step() -> None:
    tasks = graph("0F0 1F0", [Buffer("p", PARAM, 100, 1, readers=(1,), resident=True)])
    points = memory_points(tasks, timeline("0F0 u0 0-2; 1F0 u1 2-4"), ["u0", "u1", "u1"])
    assert live(points, "u0") == [(0, 0)]
    assert live(points, "u1") == [(0, 100)]


def test_a_resident_that_is_read_elsewhere_is_copied_there() -> None:
    tasks = graph("0F0", [Buffer("p", PARAM, 100, 1, readers=(0,), resident=True)])
    spans = timeline("0F0 u0 5-8", (TransferSpan("p", "u1", "u0", 1, 5, 100),))
    points = memory_points(tasks, spans, ["u0", "u1", "u1"])
    assert live(points, "u0") == [(0, 0), (1, 100), (8, 0)]
    assert live(points, "u1") == [(0, 100)]


def test_an_input_is_there_from_time_zero_to_its_last_reader() -> None:
    tasks = graph("0F0 0B0", [Buffer("x", ACTIVATION, 4, 0, readers=(0, 1))])
    points = memory_points(tasks, timeline("0F0 u0 2-3; 0B0 u0 5-9"), ["u0"] * 3)
    assert live(points, "u0") == [(0, 4), (9, 0)]


def sum_of_three() -> TaskGraph:
    """Three gradient terms of one sum, read by the update; the sum itself is the resident gradient."""
    terms = [
        Buffer(f"t{rank}", TEMP, 10, 0, producer=rank, readers=(3,), accumulator="0:grad", rank=rank)
        for rank in range(3)
    ]
    return graph("0B0 0B1 0B2 0U", terms)


def test_a_term_is_gone_as_soon_as_it_is_added() -> None:
    spans = timeline("0B0 u0 0-2; 0B1 u0 2-4; 0B2 u0 4-6; 0U u0 6-7")
    points = memory_points(sum_of_three(), spans, ["u0"] * 3)
    assert live(points, "u0") == [(0, 10), (6, 0)]


def test_a_term_that_is_early_is_held_until_all_smaller_ranks_are_in() -> None:
    # Ranks 2 and 1 finish first; both wait for rank 0, which ends at 6.
    spans = timeline("0B2 u0 0-2; 0B1 u0 2-4; 0B0 u0 4-6; 0U u0 9-10")
    points = memory_points(sum_of_three(), spans, ["u0"] * 3)
    assert live(points, "u0") == [(0, 10), (2, 20), (4, 30), (6, 0)]
    assert all(set(point.live) <= {TEMP} for point in points)


def test_a_term_made_elsewhere_is_held_where_the_sum_is_taken() -> None:
    # Rank 0 is made on u1 and arrives at 9; rank 1, made on u0, waits for it.
    spans = timeline("0B0 u1 0-5; 0B1 u0 0-2; 0B2 u0 10-12; 0U u0 12-13", (TransferSpan("t0", "u1", "u0", 6, 9, 10),))
    points = memory_points(sum_of_three(), spans, ["u0"] * 3)
    assert live(points, "u0") == [(0, 10), (6, 20), (9, 0), (10, 10), (12, 0)]
    assert live(points, "u1") == [(0, 10), (9, 0)]


def test_terms_that_nobody_reads_are_added_where_they_were_made() -> None:
    terms = [Buffer(f"t{r}", TEMP, 10, 0, producer=r, accumulator="0:grad", rank=r) for r in range(2)]
    points = memory_points(graph("0B0 0B1", terms), timeline("0B1 u0 0-2; 0B0 u0 2-5"), ["u0"] * 3)
    assert live(points, "u0") == [(0, 10), (2, 20), (5, 0)]


def test_a_first_term_that_is_not_temp_is_the_sum_and_lives_until_it_is_read() -> None:
    first = Buffer("c0", ACTIVATION, 8, 0, producer=0, readers=(2,), accumulator="0:cotangent", rank=0)
    second = Buffer("c1", TEMP, 8, 0, producer=1, readers=(2,), accumulator="0:cotangent", rank=1)
    spans = timeline("0C0.1 u0 0-2; 0C0.2 u0 2-4; 0G0 u0 9-11")
    points = memory_points(graph("0C0.1 0C0.2 0G0", [first, second]), spans, ["u0"] * 3)
    assert live(points, "u0") == [(0, 8), (2, 16), (4, 8), (11, 0)]


def test_fused_tasks_hold_their_buffers_for_the_whole_span() -> None:
    tasks = graph("0F0 1B0", [Buffer("a", ACTIVATION, 3, 0, producer=0), Buffer("b", TEMP, 4, 1, producer=1)])
    points = memory_points(tasks, timeline("0F0 u0 0-6; 1B0 u0 0-6"), ["u0"] * 3)
    assert live(points, "u0") == [(0, 7), (6, 0)]


def test_peak_and_categories_agree() -> None:
    points = (
        MemPoint("u0", 0, {PARAM: 5}),
        MemPoint("u0", 3, {PARAM: 5, TEMP: 4}),
        MemPoint("u0", 4, {PARAM: 5, ACTIVATION: 4}),
    )
    measured = Timeline("measured", "d", ("u0", "u1"), (), memory=points)
    assert peak_memory(measured) == {"u0": 9, "u1": 0}
    assert memory_by_category(measured) == {"u0": {PARAM: 5, TEMP: 4}, "u1": {}}


def test_every_interval_names_its_buffer() -> None:
    tasks = graph("0F0", [Buffer("p", PARAM, 1, 0, readers=(0,), resident=True), Buffer("a", ACTIVATION, 2, 0, 0)])
    found = list(lifetimes(tasks, timeline("0F0 u0 1-2"), ["u0"] * 3))
    assert [(one.buffer, one.start, one.end) for one in found] == [(0, 0, None), (1, 1, 2)]
    assert tasks.buffers[0].producer == NONE
