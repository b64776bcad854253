"""The closed forms of pipeline schedules hold exactly in their ranges; outside, bounds and brute force judge.

p units, m micro-batches, v chunks on each unit; f forward, b input gradient, w weight gradient, t = f + b + w.
"""

import pytest

from alrsim.schedule.check import check_tokens
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import lower
from alrsim.schedulers import schedule

UNITS = range(2, 9)
MICROBATCHES = range(1, 33)


def times(problem, name):
    """The schedule with the evaluator's starts and ends per lane (the conformance suite runs the full check)."""
    made = schedule(problem, name)
    check_tokens(problem.tasks, made)
    lowered = lower(problem, made)
    starts, ends = evaluate(lowered)
    return made, [[(int(starts[i]), int(ends[i])) for i in lane] for lane in lowered.lanes]


def makespan(problem, name):
    return max(span[1] for lane in times(problem, name)[1] for span in lane)


def peak_live(lane, release="B"):
    """Most micro-batches (or chunks) of a lane whose forward has started and whose last gradient has not ended."""
    live = peak = 0
    for task in lane.tasks:
        live += task.kind == "F"
        peak = max(peak, live)
        live -= task.kind == release
    return peak


def varied(p, m):
    """A triple (f, b, w) that runs through many values as p and m do."""
    return 1 + (3 * m + p) % 5, 1 + (m + 2 * p) % 4, (2 * m + p) % 7


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
def test_gpipe_and_1f1b_take_m_plus_p_minus_1_rounds(textbook, name):
    for p in UNITS:
        for m in MICROBATCHES:
            f, b, w = varied(p, m)
            made, lanes = times(textbook(p, p, m, f=f, b=b, w=w), name)
            assert max(lane[-1][1] for lane in lanes) == (m + p - 1) * (f + b + w), (p, m, f, b, w)
            for r, lane in enumerate(made.lanes):
                assert peak_live(lane) == (m if name == "gpipe" else min(p - r, m))


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("f", "b", "w"), [(1, 1, 1), (2, 3, 1), (3, 4, 2), (5, 1, 3), (1, 0, 9)])
def test_gpipe_and_1f1b_hold_for_any_durations(textbook, name, f, b, w):
    for p, m in [(2, 1), (3, 7), (4, 8), (5, 3), (8, 32)]:
        assert makespan(textbook(p, p, m, f=f, b=b, w=w), name) == (m + p - 1) * (f + b + w)


@pytest.mark.parametrize("v", [2, 3, 4])
def test_interleaved_1f1b_takes_m_v_plus_p_minus_1_chunk_times(textbook, v):
    for p in UNITS:
        for m in range(p, 33, p):
            f, b, w = varied(p, m)
            made, lanes = times(textbook(p * v, p, m, f=f, b=b, w=w), "interleaved-1f1b")
            assert max(lane[-1][1] for lane in lanes) == (m * v + p - 1) * (f + b + w), (p, m, f, b, w)
            for r, lane in enumerate(made.lanes):
                assert peak_live(lane) == min(2 * (p - r - 1) + (v - 1) * p + 1, m * v)


def test_interleaved_1f1b_beyond_multiples_of_p_is_never_worse_than_one_chunk_after_the_other(textbook):
    for p in (2, 3, 4, 5):
        for m in (1, 2, 3, 5, 7, 9, 11, 17, 31):
            problem = textbook(2 * p, p, m, f=2, b=3, w=1)
            assert 2 * m * 6 <= makespan(problem, "interleaved-1f1b") <= 2 * (m + p - 1) * 6


@pytest.mark.parametrize(("f", "b", "w"), [(1, 1, 1), (2, 3, 1), (3, 4, 2)])
def test_zb_h1_leaves_a_bubble_of_p_minus_1_times_f_plus_b_minus_w(textbook, f, b, w):
    for p in UNITS:
        for m in range(p, 33):
            made, lanes = times(textbook(p, p, m, "bp-split", f=f, b=b, w=w), "zb-h1")
            bubble = (p - 1) * (f + b - w)
            assert max(lane[-1][1] for lane in lanes) == m * (f + b + w) + bubble, (p, m)
            assert all(peak_live(lane, "W") <= p for lane in made.lanes)


def test_zb_h1_takes_27_steps_on_the_textbook_case(textbook):
    assert makespan(textbook(4, 4, 8, "bp-split"), "zb-h1") == 27


def test_zb_h1_is_never_slower_than_1f1b_where_a_weight_gradient_is_no_longer_than_an_input_gradient(textbook):
    for p in (2, 3, 5, 8):
        for m in (1, 2, 3, 4, 6, 9):
            for f, b, w in [(1, 1, 1), (2, 3, 1), (3, 4, 2), (1, 2, 2)]:
                split = makespan(textbook(p, p, m, "bp-split", f=f, b=b, w=w), "zb-h1")
                assert (p - 1) * f + m * (f + b + w) <= split <= (m + p - 1) * (f + b + w)


def test_zb_v_has_no_bubble_inside_a_unit(textbook):
    for p in UNITS:
        for m in range(2 * p, 33):
            made, lanes = times(textbook(2 * p, p, m, "bp-split"), "zb-v")
            assert max(lane[-1][1] for lane in lanes) == 2 * m * 3 + p - 1, (p, m)
            assert all(lane[-1][1] - lane[0][0] == 2 * m * 3 for lane in lanes)
            assert all(peak_live(lane, "W") <= 2 * p for lane in made.lanes)


def test_zb_v_stays_within_its_memory_and_bounds_outside_the_closed_form(textbook):
    for p, m, f, b, w in [(2, 1, 1, 1, 1), (3, 4, 1, 1, 1), (2, 4, 2, 3, 1), (4, 5, 3, 1, 2), (8, 9, 1, 2, 1)]:
        made, lanes = times(textbook(2 * p, p, m, "bp-split", f=f, b=b, w=w), "zb-v")
        t = f + b + w
        path = 2 * p * (f + b) + w  # through all chunks and back
        assert max(2 * m * t, path) <= max(lane[-1][1] for lane in lanes) <= 2 * (m + p - 1) * t
        assert all(peak_live(lane, "W") <= 2 * p for lane in made.lanes)


def test_zb_v_takes_longer_than_its_formula_where_the_durations_differ(textbook):
    # 2 m t_chunk + (p - 1) max(f, b, w) would be 51.
    assert makespan(textbook(4, 2, 4, "bp-split", f=2, b=3, w=1), "zb-v") == 52


def figure_two(textbook, layers, microbatches, rule, **options):
    """The paper's Figure 2: unit steps, the loss module on a unit of its own."""
    times_ = {"f": 1, "g": 1, "u": 1, "l": 1, "b": 0, "w": 1}  # a BP gradient is one step too
    common = {"loss": True, "update": True, "first_input_gradient": False, "loss_unit": layers}
    return textbook(layers, layers + 1, microbatches, rule, **times_, **common, **options)


def test_the_papers_bp_takes_twice_l_plus_n_plus_1_steps_and_its_lr_l_plus_2n(textbook):
    for layers in range(2, 12):
        for n in range(2, 12):
            bp = figure_two(textbook, layers, n, "bp", loss_gradient=True, loss_update=True)
            assert makespan(bp, "gpipe") == makespan(bp, "1f1b") == 2 * (layers + n) + 1
            lr = figure_two(textbook, layers, n, "lr", baseline="none")
            assert makespan(lr, "lr-fixed") == layers + 2 * n


def test_any_free_unit_saves_a_step_of_the_papers_figure(textbook):
    problem = figure_two(textbook, 4, 3, "lr", baseline="none")
    assert makespan(problem, "lr-free") == 9  # optimal for forwards fixed to their layers
    assert makespan(figure_two(textbook, 4, 1, "lr", baseline="none"), "lr-fixed") == 7  # n = 1: the path F..F L G U


def test_free_lr_gradients_take_no_longer_than_fixed_ones_even_where_transfers_are_slow(textbook):
    for transfer in (0, 1, 2, 5, 50):
        for baseline in ("none", "clean"):
            problem = textbook(
                4, 5, 3, "lr", l=1, u=1, transfer=transfer, loss=True, update=True, loss_unit=4, baseline=baseline
            )
            assert makespan(problem, "lr-free") <= makespan(problem, "lr-fixed")
