"""The split-half monitor's arithmetic, against vectors whose cosine is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.estimators.monitor import NOTHING, SplitHalf, smoothed, steer
from alrsim.estimators.variance_law import noise_to_signal


def split(first: torch.Tensor, second: torch.Tensor) -> SplitHalf:
    return SplitHalf(float(first @ second), float(first @ first), float(second @ second))


def test_equal_halves_are_exact_and_orthogonal_ones_know_nothing():
    vector = torch.tensor([1.0, -2.0, 0.5])
    assert split(vector, vector).cosine == pytest.approx(1.0)
    assert split(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).cosine == 0.0
    assert split(vector, -vector).cosine == 0.0
    assert NOTHING.cosine == 0.0


@pytest.mark.parametrize("rho", [0.5, 3.0, 20.0])
def test_the_estimate_is_the_cosine_of_the_mean_of_the_halves(rho):
    """Truth plus noise of energy rho/(n/2) in each half: the mean has cosine 1/sqrt(1 + rho/n)."""
    generator = torch.Generator().manual_seed(1)
    size, copies = 4000, 8
    truth = torch.randn(size, generator=generator, dtype=torch.float64)
    truth /= truth.norm()
    sums, true = NOTHING, []
    for _ in range(40):
        spread = math.sqrt(rho / (copies / 2) / size)
        halves = [truth + spread * torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2)]
        sums += split(*halves)
        mean = (halves[0] + halves[1]) / 2
        true.append(float(torch.cosine_similarity(mean, truth, 0)))
    assert sums.cosine == pytest.approx(sum(true) / len(true), abs=0.02)
    assert sums.cosine == pytest.approx(1 / math.sqrt(1 + rho / copies), abs=0.02)
    assert noise_to_signal(sums.cosine, copies) == pytest.approx(rho, rel=0.15)


def test_a_running_mean_forgets_what_it_is_told_to():
    one = SplitHalf(1.0, 2.0, 3.0)
    assert smoothed(NOTHING, one) == one
    assert smoothed(one, SplitHalf(3.0, 4.0, 5.0), keep=0.5) == SplitHalf(2.0, 3.0, 4.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cosine=st.floats(0, 1),
    copies=st.integers(1, 9).map(lambda power: 2**power),
    target=st.floats(0.05, 0.95),
)
def test_steering_stays_in_its_range_and_moves_towards_the_target(cosine, copies, target):
    now = steer(cosine, copies, target, 2, 256)
    if cosine < target:
        assert now == min(256, 2 * copies)
    else:
        assert now in (copies, copies // 2)
        assert now >= 2
        if now < copies:
            after = 1 / math.sqrt(1 + noise_to_signal(cosine, copies) / now)
            assert after > target, "half of the copies must still hold the target"


def test_steering_halves_where_there_is_much_to_spare():
    assert steer(0.99, 64, 0.5, 2, 256) == 32
    assert steer(0.99, 2, 0.5, 2, 256) == 2
    assert steer(0.2, 200, 0.5, 2, 256) == 256
