"""The numbers of gradient quality against hand computations and synthetic data."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.estimators.variance_law import law
from alrsim.quality.gradcheck import parse_copies
from alrsim.quality.metrics import (
    accuracy,
    copy_weights,
    cosine,
    fit_law,
    mean_interval,
    noise_factor,
    stability,
    student_t,
)


def test_accuracy_is_the_mean_cosine_over_the_range_of_copies() -> None:
    # by hand: trapezoids over 10..20 and 20..40: (0.2+0.4)/2 * 10 + (0.4+0.6)/2 * 20 = 13, over 30
    assert accuracy([10, 20, 40], np.array([0.2, 0.4, 0.6])) == pytest.approx(13 / 30)
    assert accuracy([7], np.array([0.3])) == pytest.approx(0.3)
    assert accuracy([10, 11, 500], np.full(3, 0.25)) == pytest.approx(0.25)


def test_a_dense_range_gives_equation_7_up_to_its_two_end_points() -> None:
    copies = list(range(10, 201))
    cosines = 1 / np.sqrt(1 + 80 / np.array(copies))
    printed = cosines.sum() / (200 - 10)  # eq. 7 as printed: 191 terms over 190
    ends = (cosines[0] + cosines[-1]) / 2 / 190
    assert accuracy(copies, cosines) == pytest.approx(printed - ends)


def test_stability_is_the_distance_from_the_fitted_line() -> None:
    # evenly spaced weights 1/4, 1/2, 1/4: the line through (-1, 0), (0, 1), (1, 0) is flat at 1/2, residuals +-1/2
    assert stability([1, 2, 3], np.array([0.0, 1.0, 0.0])) == pytest.approx(0.5)
    assert stability([10, 20, 40], np.array([0.1, 0.2, 0.4])) == pytest.approx(0, abs=1e-12)
    assert stability([10], np.array([0.1])) == pytest.approx(0)


def test_stability_agrees_with_a_weighted_polynomial_fit() -> None:
    copies = [10, 13, 50, 90, 200]
    cosines = np.array([0.1, 0.25, 0.2, 0.5, 0.45])
    weights = copy_weights(copies)
    line = np.polyval(np.polyfit(copies, cosines, 1, w=np.sqrt(weights)), copies)
    assert stability(copies, cosines) == pytest.approx(np.sqrt((weights * (cosines - line) ** 2).sum()))
    both = np.stack([cosines, 2 * cosines])
    assert stability(copies, both) == pytest.approx(np.array([1, 2]) * stability(copies, cosines))


def test_students_interval_by_hand() -> None:
    found = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (found.value, found.high) == (2.0, pytest.approx(2 + 4.303 / np.sqrt(3)))
    assert mean_interval(np.array([1.0])).low is None
    assert student_t(31) == 2.042
    assert student_t(61) == pytest.approx(2.000, abs=0.002)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.floats(0.5, 50_000), st.floats(0.3, 1.0), st.booleans())
def test_the_fit_recovers_what_made_the_curve(rho: float, ceiling: float, free: bool) -> None:
    copies = [10, 30, 100, 300, 1000, 3000]
    k = noise_factor("gauss", signs=free)
    curve = law(np.array(copies, float), rho, ceiling if free else 1.0, k)
    found = fit_law(copies, curve[None], k=k, free_ceiling=free)
    assert found.rho.low is None
    assert np.asarray(found.at(np.array(copies, float))) == pytest.approx(curve, abs=2e-3)
    if not free:
        assert found.rho.value == pytest.approx(rho, rel=0.02)
    elif rho < 1000:
        assert (found.rho.value, found.ceiling.value) == (pytest.approx(rho, rel=0.1), pytest.approx(ceiling, rel=0.05))


def test_intervals_of_rho_hold_the_truth_about_as_often_as_they_say() -> None:
    copies, generator = [10, 30, 100, 300], np.random.default_rng(4)
    curve = law(np.array(copies, float), 60.0, 1.0, 1.0)
    held = 0
    for _ in range(60):
        found = fit_law(copies, curve + 0.05 * generator.standard_normal((10, 4)))
        assert found.rho.low is not None
        assert found.rho.high is not None
        assert found.determined
        held += found.rho.low < 60 < found.rho.high
    assert held >= 52, "of 60, 57 expected; 52 or fewer has a chance below 3 %, and this seed is fixed"


def test_a_curve_of_noise_alone_determines_no_rho() -> None:
    found = fit_law([10, 30, 100], 0.1 * np.random.default_rng(1).standard_normal((6, 3)))
    assert not found.determined


def test_the_cosine_of_nothing_is_zero() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.array([1.0, 0.0]), np.array([-2.0, 0.0])) == -1.0


def test_a_range_of_copies_is_evenly_spaced_in_its_logarithm() -> None:
    numbers = parse_copies("10..2000", "copies")
    assert (numbers[0], numbers[-1], len(numbers)) == (10, 2000, 16)
    ratios = [later / earlier for earlier, later in pairwise(numbers)]
    assert min(ratios) > 1.3
    assert max(ratios) < 1.6
    assert parse_copies("1..3", "copies") == (1, 2, 3)
    assert parse_copies("10, 50,200", "copies") == (10, 50, 200)
