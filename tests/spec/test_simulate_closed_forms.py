"""Simulated textbook schedules against closed forms; transfers in each semantics; live micro-batches in memory.

The schedulers' own tests hold the full ranges against the evaluator; here a sample goes through the simulator.
"""

from fractions import Fraction

import pytest

from alrsim.errors import OptionError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.hardware.machine import Unit, abstract_machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules import RULES
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.textbook_problem import fill_durations, textbook_options, textbook_problem
from alrsim.tasks.problem import Problem, Semantics, price
from alrsim.tasks.taskgraph import Category, Task
from alrsim.timeline.metrics import bubble_size, idle_fraction, rank_span, rank_span_bubble, typed
from alrsim.timeline.timeline import Timeline
from tests.linked import every_link

TIMES = [(1, 1, 1), (2, 3, 1), (3, 4, 2), (Fraction(1, 3), Fraction(2, 7), Fraction(5, 2))]


def simulated(
    name: str,
    rule: str,
    durations: dict[str, Fraction | int],
    *,
    units: int,
    microbatches: int,
    chunks: int = 1,
    semantics: Semantics = "link",
) -> Timeline:
    options = textbook_options(microbatches)
    problem = textbook_problem(rule, durations, stages=units * chunks, units=units, options=options)
    return simulate(problem, schedule(problem, name), semantics=semantics)


def makespan(timeline: Timeline) -> Fraction:
    return typed(timeline, timeline.makespan)


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("f", "b", "w"), TIMES)
@pytest.mark.parametrize(("p", "m"), [(2, 1), (3, 2), (4, 8), (5, 3)])
def test_gpipe_and_1f1b_take_m_plus_p_minus_1_steps(
    name: str, f: Fraction, b: Fraction, w: Fraction, p: int, m: int
) -> None:
    timeline = simulated(name, "bp", {"f": f, "b": b, "w": w}, units=p, microbatches=m)
    assert makespan(timeline) == (m + p - 1) * (f + b + w)
    assert idle_fraction(timeline) == Fraction(p - 1, m + p - 1)


@pytest.mark.parametrize(("f", "b", "w"), TIMES)
@pytest.mark.parametrize(("p", "m", "v"), [(2, 4, 2), (4, 8, 2), (3, 3, 4)])
def test_interleaved_1f1b_takes_mv_plus_p_minus_1_chunks(
    f: Fraction, b: Fraction, w: Fraction, p: int, m: int, v: int
) -> None:
    timeline = simulated("interleaved-1f1b", "bp", {"f": f, "b": b, "w": w}, units=p, microbatches=m, chunks=v)
    assert makespan(timeline) == (m * v + p - 1) * (f + b + w)


@pytest.mark.parametrize(("f", "b", "w"), TIMES[:3])
@pytest.mark.parametrize(("p", "m"), [(2, 2), (4, 8), (5, 6)])
def test_zb_h1_leaves_a_bubble_of_p_minus_1_times_f_plus_b_minus_w(f: int, b: int, w: int, p: int, m: int) -> None:
    timeline = simulated("zb-h1", "bp-split", {"f": f, "b": b, "w": w}, units=p, microbatches=m)
    assert set(bubble_size(timeline).values()) == {(p - 1) * (f + b - w)}


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (3, 7)])
def test_zb_v_has_no_bubble_inside_the_span_of_any_unit(p: int, m: int) -> None:
    timeline = simulated("zb-v", "bp-split", {"f": 1, "b": 1, "w": 1}, units=p, microbatches=m, chunks=2)
    assert timeline.makespan == 2 * m * 3 + p - 1
    assert rank_span(timeline) == 2 * m * 3
    assert rank_span_bubble(timeline) == 0


@pytest.mark.parametrize(("semantics", "expected"), [("latency", 30), ("link", 30), ("blocking", Fraction(127, 4))])
def test_zb_h1_with_transfers_of_a_quarter_in_each_semantics(semantics: Semantics, expected: Fraction) -> None:
    # Other tools give 30.0 for a sender that is not blocked, too; blocked senders differ between tools (31.25 in one).
    durations = {"f": 1, "b": 1, "w": 1, "transfer": Fraction(1, 4)}
    timeline = simulated("zb-h1", "bp-split", durations, units=4, microbatches=8, semantics=semantics)
    assert makespan(timeline) == expected


def test_one_blocking_pipeline_counted_by_hand() -> None:
    # Two units, two micro-batches, f = b = w = 1, transfer 1/2. Unit 0: F0 0-1, busy to 1.5; F1 1.5-2.5, busy to 3.
    # Unit 1: F0 1.5-2.5; F1 at 3-4. GPipe, so B0 4-6 (b + w), busy to 6.5; B1 6.5-8.5, arrives at 9. Unit 0: B0
    # 6.5-8.5, B1 9-11.
    durations = {"f": 1, "b": 1, "w": 1, "transfer": Fraction(1, 2)}
    timeline = simulated("gpipe", "bp", durations, units=2, microbatches=2, semantics="blocking")
    found = {str(s.task): (typed(timeline, s.start), typed(timeline, s.end)) for s in timeline.spans}
    half = Fraction(1, 2)
    assert {token: found[token] for token in ("0F0", "0F1", "1F0", "1F1", "1B0", "1B1", "0B0", "0B1")} == {
        "0F0": (0, 1),
        "0F1": (1 + half, 2 + half),
        "1F0": (1 + half, 2 + half),
        "1F1": (3, 4),
        "1B0": (4, 6),
        "1B1": (6 + half, 8 + half),
        "0B0": (6 + half, 8 + half),
        "0B1": (9, 11),
    }


def live_problem(rule: str, units: int, microbatches: int) -> Problem:
    """A chain in which every forward keeps exactly one byte-sized activation for its gradient."""
    stages = tuple(Stage(i, f"s{i}", parameters=1, saved=1) for i in range(units))
    edges = tuple(Edge(i - 1, i, f"x{i}", 0) for i in range(units + 1))
    graph = StageGraph("live", stages, edges, Stage(units, "loss"))
    times = {"F": 1, "B": 2, "I": 1, "W": 1}

    def cost(task: Task, _unit: Unit, _plan: PrecisionPlan) -> int:
        return times.get(task.id.kind, 0)

    tasks = RULES[rule](graph, textbook_options(microbatches))
    return price(tasks, abstract_machine(units), PrecisionPlan(), cost, name="hand")


def most_live(timeline: Timeline) -> list[int]:
    """Peak number of saved activations (4 bytes each) per unit."""
    peaks = dict.fromkeys(timeline.units, 0)
    for point in timeline.memory:
        peaks[point.unit] = max(peaks[point.unit], point.live.get(Category.ACTIVATION, 0))
    return [peak // 4 for peak in peaks.values()]


@pytest.mark.parametrize(("p", "m"), [(4, 8), (4, 2), (3, 3), (2, 6)])
def test_gpipe_holds_every_micro_batch_and_1f1b_only_the_ranks_still_to_come(p: int, m: int) -> None:
    problem = live_problem("bp", p, m)
    assert most_live(simulate(problem, schedule(problem, "gpipe"))) == [m] * p
    assert most_live(simulate(problem, schedule(problem, "1f1b"))) == [min(p - rank, m) for rank in range(p)]


def test_zb_h1_holds_p_micro_batches_on_every_unit() -> None:
    problem = live_problem("bp-split", 4, 8)
    assert max(most_live(simulate(problem, schedule(problem, "zb-h1")))) == 4


def test_typed_durations_become_exact_ticks() -> None:
    options = textbook_options(1)
    third = {"f": Fraction(1, 3), "b": Fraction(1, 4), "transfer": Fraction(1, 6)}
    problem = textbook_problem("bp", third, stages=1, units=2, options=options)
    assert (problem.time_unit, problem.ticks_per_unit) == ("user", 12)
    rows = {str(task.id): row for task, row in zip(problem.tasks.tasks, problem.durations, strict=True)}
    assert rows == {"0F0": (4, 4), "1L0": (0, 0), "0B0": (3, 3), "0U": (0, 0)}
    assert every_link(problem.machine)[0].hold_ns(10**9) == 2


def test_an_lr_gradient_takes_as_long_as_a_weight_gradient_unless_it_is_typed() -> None:
    assert fill_durations({"f": 1, "w": 3})["g"] == 3
    assert fill_durations({"f": 1, "w": 3, "g": 5})["g"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"durations": {"f": 1, "x": 2}}, "no duration is called x"),
        ({"durations": {"f": -1}}, "f is -1, must not be negative"),
        ({"rule": "bbp"}, "rule: 'bbp' is not a rule"),
        ({"units": 0}, "units: is 0, must be at least 1"),
    ],
)
def test_bad_textbook_problems_are_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"rule": "bp", "durations": {"f": 1}, "units": 2} | change
    with pytest.raises(OptionError, match=message):
        textbook_problem(stages=2, options=textbook_options(2), **given)  # type: ignore[arg-type]


def test_an_unknown_semantics_or_a_negative_overlap_is_refused() -> None:
    problem = textbook_problem("bp", {"f": 1}, stages=2, units=2, options=textbook_options(2))
    order = schedule(problem, "gpipe")
    with pytest.raises(OptionError, match="unknown semantics 'magic'"):
        simulate(problem, order, semantics="magic")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="overlap is -1"):
        simulate(problem, order, overlap=Fraction(-1))
