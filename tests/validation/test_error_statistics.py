"""Statistics of errors against closed forms."""

import math

import pytest

from alrsim.validation.statistics import clear_pairs, order_agreement, quartiles, spread


def test_the_spread_of_known_errors() -> None:
    found = spread([-0.10, 0.02, 0.04, -0.06, 0.08])
    assert found is not None
    assert found.count == 5
    assert found.median == pytest.approx(0.06)
    # Sizes 2, 4, 6, 8, 10: the 95th percentile lies at 0.95 * 4 = 3.8 steps, so at 8 + 0.8 * 2.
    assert found.p95 == pytest.approx(0.096)
    assert found.bias == pytest.approx(0.02)
    assert (found.least, found.most) == (-0.10, 0.08)
    assert spread([]) is None


def test_quartiles_are_interpolated() -> None:
    assert quartiles([4, 1, 3, 2]) == (1.75, 2.5, 3.25)
    assert quartiles([7]) == (7, 7, 7)


def test_kendalls_tau_counts_pairs() -> None:
    assert order_agreement([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert order_agreement([1, 2, 3, 4], [40, 30, 20, 10]) == pytest.approx(-1)
    # One of the six pairs is the other way round: (5 - 1) / 6.
    assert order_agreement([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(4 / 6)
    # tau-b with one tie among the predictions: 5 pairs agree, of 5 untied and 6: 5 / sqrt(5 * 6).
    assert order_agreement([1, 2, 2, 4], [10, 20, 30, 40]) == pytest.approx(5 / math.sqrt(30))


def test_an_order_of_less_than_two_is_undefined() -> None:
    assert order_agreement([1], [2]) is None
    assert order_agreement([1, 1], [1, 2]) is None


def test_only_pairs_beyond_the_margin_count() -> None:
    measured = {"a": 100.0, "b": 104.0, "c": 106.0, "d": 120.0}
    predicted = {"a": 110.0, "b": 101.0, "c": 105.0, "d": 130.0}
    pairs = {(pair.faster, pair.slower): pair for pair in clear_pairs(predicted, measured, 0.05)}
    assert set(pairs) == {("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}
    assert not pairs["a", "c"].right
    assert all(pairs[key].right for key in pairs if key != ("a", "c"))
    assert pairs["a", "d"].ratio == pytest.approx(1.2)


def test_a_tied_prediction_does_not_order_a_pair() -> None:
    (pair,) = clear_pairs({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}, 0.05)
    assert not pair.right
