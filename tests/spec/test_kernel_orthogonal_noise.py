"""Hadamard and Sobol noise: orthogonal rows, exact gradients of linear functions, and nothing depends on the order."""

import numpy as np
import pytest
import torch
from scipy import stats

from alrsim.errors import OptionError
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, perturbed, philox_noise
from alrsim.estimators.kernels.sobol import LARGEST

KEY = PhiloxKey(seed=7, step=2, stage=1)


@pytest.mark.parametrize("elements", [1, 2, 8, 64, 128, 256])
def test_rows_of_a_power_of_two_are_orthogonal_and_so_are_columns(elements):
    noise = philox_noise(KEY, range(elements), range(3), (elements,), "hadamard")
    assert bool((noise.abs() == 1).all())
    for sample in range(3):
        rows = noise[:, sample]
        assert torch.equal(rows @ rows.T, elements * torch.eye(elements))
        assert torch.equal(rows.T @ rows, elements * torch.eye(elements))


@pytest.mark.parametrize("elements", [3, 10, 100, 130])
def test_other_sizes_are_orthogonal_at_the_next_power_of_two_and_not_before(elements):
    order = 1 << (elements - 1).bit_length()
    columns = philox_noise(KEY, range(order), range(1), (elements,), "hadamard")[:, 0]
    assert torch.equal(columns.T @ columns, order * torch.eye(elements))
    fewer = columns[: order - 1]
    assert not torch.equal(fewer.T @ fewer, (order - 1) * torch.eye(elements))


def test_the_rows_are_those_of_sylvesters_matrix_with_signed_columns():
    hadamard = np.array([[1]])
    while len(hadamard) < 64:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    found = philox_noise(KEY, range(64), range(1), (64,), "hadamard")[:, 0].numpy()
    plain = found * found[0]  # the product of two rows is a row, and the signs of the columns cancel
    assert sorted(map(tuple, plain)) == sorted(map(tuple, hadamard))


@pytest.mark.parametrize("elements", [16, 100])
def test_a_linear_functions_gradient_is_exact_with_all_copies_of_a_matrix(elements):
    order = 1 << (elements - 1).bit_length()
    slope = torch.randint(-9, 10, (4, elements), generator=torch.Generator().manual_seed(0)).float()
    for start in (0, order, 5 * order):
        copies = range(start, start + order)
        losses = (philox_noise(KEY, copies, range(4), (elements,), "hadamard") * slope).sum(2)
        total = accumulate_noise(torch.zeros(4, elements), losses, KEY, copies, range(4), "hadamard")
        assert torch.equal(total / order, slope)


def test_copies_beyond_the_order_are_another_matrix():
    one = philox_noise(KEY, range(32), range(1), (32,), "hadamard")[:, 0]
    two = philox_noise(KEY, range(32, 64), range(1), (32,), "hadamard")[:, 0]
    assert not torch.equal(one, two)
    across = (one @ two.T).abs() / 32  # in the same basis each row would meet itself once
    assert float(across.max()) < 1


def test_samples_steps_and_stages_have_signs_of_their_own():
    base = philox_noise(KEY, range(16), range(1), (256,), "hadamard")
    others = [philox_noise(KEY, range(16), range(1, 2), (256,), "hadamard")]
    others += [philox_noise(key, range(16), range(1), (256,), "hadamard") for key in (KEY._replace(step=3),)]
    for other in others:
        assert abs(float((base * other).mean())) < 5 / (16 * 256) ** 0.5


@pytest.mark.parametrize(("kind", "elements"), [("hadamard", 100), ("sobol", 30)])
def test_mean_zero_and_variance_one_over_samples(kind, elements):
    """Each sample is randomised by itself, so that means over samples obey the central limit theorem."""
    noise = philox_noise(KEY, range(3), range(1500), (elements,), kind).double()
    assert float(noise.mean(1).abs().max()) < 5 / 1500**0.5
    assert float(((noise**2).mean(1) - 1).abs().max()) < 5 * (2 / 1500) ** 0.5
    pairs = (noise[0, :, :-1] * noise[0, :, 1:]).mean(0)
    assert float(pairs.abs().max()) < 5 / 1500**0.5


@pytest.mark.parametrize("kind", ["hadamard", "sobol"])
@pytest.mark.parametrize("elements", [5, 130])
def test_splitting_copies_and_samples_changes_nothing(kind, elements):
    whole = philox_noise(KEY, range(300), range(4), (elements,), kind)
    parts = [
        torch.cat(
            [philox_noise(KEY, copies, samples, (elements,), kind, threads=2) for samples in (range(1), range(1, 4))], 1
        )
        for copies in (range(1), range(1, 7), range(7, 300))
    ]
    assert torch.equal(whole, torch.cat(parts))
    weights = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    once = accumulate_noise(torch.zeros(4, elements), weights, KEY, range(300), range(4), kind, threads=2)
    twice = accumulate_noise(torch.zeros(4, elements), weights[:150], KEY, range(150), range(4), kind)
    accumulate_noise(twice, weights[150:], KEY, range(150, 300), range(4), kind)
    assert torch.equal(once, twice)
    assert torch.allclose(once, (weights[:, :, None] * whole).sum(0), atol=1e-4)


def test_sobol_noise_is_normal_and_fills_space_evenly():
    noise = philox_noise(KEY, range(1024), range(2), (6,), "sobol").double()
    for sample in range(2):
        for element in range(6):
            # 1024 points of a scrambled net put one into each of 1024 slices of equal probability.
            slices = np.floor(1024 * stats.norm.cdf(noise[:, sample, element].numpy())).astype(int)
            assert len(set(slices)) == 1024
    assert not torch.equal(noise[:, 0], noise[:, 1])


def test_sobol_noise_of_too_many_elements_is_refused():
    with pytest.raises(OptionError, match=f"at most {LARGEST:,} elements") as caught:
        philox_noise(KEY, range(1), range(1), (LARGEST + 1,), "sobol")
    assert "hadamard" in caught.value.fix
    with pytest.raises(OptionError, match="at most"):
        accumulate_noise(torch.zeros(1, LARGEST + 1), torch.ones(1, 1), KEY, range(1), range(1), "sobol")


@pytest.mark.parametrize("kind", ["rademacher", "gauss", "laplace", "hadamard", "sobol"])
def test_perturbed_values_are_values_plus_scaled_noise(kind):
    generator = torch.Generator().manual_seed(0)
    noise = philox_noise(KEY, range(3, 6), range(1, 3), (4, 50), kind)
    for copies in (1, 3):
        values = torch.randn(copies, 2, 4, 50, generator=generator)
        found = perturbed(values, 0.25, KEY, range(3, 6), range(1, 3), kind)
        assert torch.allclose(found, values + 0.25 * noise, atol=1e-6)


@pytest.mark.parametrize("kind", ["rademacher", "gauss", "hadamard"])
def test_noise_that_samples_share_is_that_of_the_first_sample(kind):
    """Noise on parameters: one vector per copy."""
    weights = torch.randn(5, generator=torch.Generator().manual_seed(0))
    noise = philox_noise(KEY, range(5), range(1), (3, 7), kind)
    total = accumulate_noise(torch.zeros(1, 3, 7), weights, KEY, range(5), range(1), kind)
    assert torch.allclose(total[0], torch.tensordot(weights, noise[:, 0], 1), atol=1e-6)
