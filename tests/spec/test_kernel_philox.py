"""Counter-based noise: the generator, the distributions, and that nothing depends on the order."""

import numpy as np
import pytest
import torch
from scipy import stats

from alrsim.errors import OptionError
from alrsim.estimators.kernels.machine.philox import draw
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise

KEY = PhiloxKey(seed=11, step=3, stage=2, value=1)
KINDS = ("rademacher", "gauss", "laplace", "hadamard")

CONSTANTS = {
    32: ((0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)),
    64: ((0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)),
}


def philox(counter, key, width):
    """Philox4xW-10 in Python's integers, for any word width: the definition of the SC 2011 paper."""
    (m0, m1), (w0, w1) = CONSTANTS[width]
    mask = (1 << width) - 1
    x, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = m0 * x[0], m1 * x[2]
        x = [p1 >> width ^ x[1] ^ k0, p1 & mask, p0 >> width ^ x[3] ^ k1, p0 & mask]
        k0, k1 = k0 + w0 & mask, k1 + w1 & mask
    return x


def drawn(key, counter, count=1):
    out = np.zeros((4, count), dtype=np.uint32)
    draw(key, counter[1:], counter[0], count, out)
    return out


def test_the_oracle_is_numpys_philox_at_64_bits():
    counter, key = [5, 6, 7, 2**63 + 8], [9, 2**64 - 1]
    raw = np.random.Philox(counter=np.array(counter, dtype=np.uint64), key=np.array(key, dtype=np.uint64)).random_raw(8)
    # numpy counts up before it draws
    expected = philox([6, 6, 7, 2**63 + 8], key, 64) + philox([7, 6, 7, 2**63 + 8], key, 64)
    assert raw.tolist() == expected


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_random123(counter, key, expected):
    assert tuple(drawn(key, counter)[:, 0]) == expected
    assert tuple(philox(counter, key, 32)) == expected


def test_the_compiled_loop_is_the_oracle_on_many_counters():
    out = drawn((123456789, 42), (1000, 7, 3, 513), count=64)
    for i in range(64):
        assert out[:, i].tolist() == philox((1000 + i, 7, 3, 513), (123456789, 42), 32)


def test_the_counter_is_block_sample_copy_and_stage_with_value():
    signs = philox_noise(KEY, range(4, 5), range(9, 10), (300,), "rademacher")[0, 0]
    for element in (0, 31, 32, 127, 128, 255, 299):
        words = philox((element // 128, 9, 4, 2 << 8 | 1), (11, 3), 32)
        bit = words[element % 128 // 32] >> element % 32 & 1
        assert signs[element] == 1 - 2 * bit


def words_of(samples, elements):
    blocks = -(-elements // 4)
    out = np.zeros((samples, 4 * blocks), dtype=np.uint32)
    for sample in range(samples):
        out[sample] = drawn(KEY.words, (0, sample, 0, KEY.lane), blocks).T.reshape(-1)
    return out.astype(np.float64), out


def test_gaussian_noise_is_box_muller_on_the_words():
    real, _ = words_of(3, 4000)
    radius = np.sqrt(-2 * np.log((real[:, 0::2] + 0.5) / 2**32))
    # The angle's quadrant is its upper two bits, and the rest is centred: a turn by an eighth of a circle.
    angle = (real[:, 1::2] + 0.0) / 2**32 * 2 * np.pi
    quarter = np.floor(angle / (np.pi / 2))
    rest = angle - quarter * np.pi / 2
    rest = np.where(rest >= np.pi / 4, rest - np.pi / 2, rest)
    turn = quarter * np.pi / 2 + rest
    expected = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 2).reshape(3, -1)
    found = philox_noise(KEY, range(1), range(3), (4000,), "gauss")[0].numpy()
    # 4 ulp of the radius and the 2e-7 of the sine's series, scaled by radii up to 6.8; near radius 0 the root of the
    # logarithm's own rounding.
    assert np.abs(found - expected).max() < 4e-4
    assert np.quantile(np.abs(found - expected), 0.99) < 3e-6


def test_laplace_noise_inverts_the_distribution_function():
    _, words = words_of(3, 4000)
    size = -np.log(((words | 1).astype(np.float64) + 0.5) / 2**32) / np.sqrt(2)
    expected = np.where(words & 1, -size, size)
    found = philox_noise(KEY, range(1), range(3), (4000,), "laplace")[0].numpy()
    assert np.abs(found - expected).max() < 3e-6


@pytest.mark.parametrize(("kind", "law"), [("gauss", stats.norm().cdf), ("laplace", stats.laplace(scale=2**-0.5).cdf)])
def test_the_distribution_passes_kolmogorov_smirnov(kind, law):
    sample = philox_noise(KEY, range(20), range(10), (1000,), kind).double().numpy().reshape(-1)
    assert stats.kstest(sample, law).pvalue > 0.001


def test_neighbouring_counters_are_uncorrelated():
    noise = philox_noise(KEY, range(40), range(50), (512,), "rademacher").double()
    for first, second in (
        (noise[1:], noise[:-1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[..., 128:], noise[..., :-128]),
    ):
        assert abs(float((first * second).mean())) < 4 / first.numel() ** 0.5
    assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("elements", [1, 5, 130, 9000])
def test_chunks_and_threads_change_nothing(kind, elements):
    whole = philox_noise(KEY, range(6), range(5), (elements,), kind)
    parts = [
        torch.cat(
            [philox_noise(KEY, copies, samples, (elements,), kind, threads=2) for samples in (range(2), range(2, 5))], 1
        )
        for copies in (range(1), range(1, 4), range(4, 6))
    ]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("elements", [1, 5, 33, 130, 9000])
def test_accumulation_equals_the_materialised_sum_bit_for_bit(kind, elements):
    weights = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    start = torch.randn(3, elements, generator=torch.Generator().manual_seed(1))
    noise = philox_noise(KEY, range(2, 9), range(4, 7), (elements,), kind)
    expected = start.numpy().copy()
    for row, weight in zip(noise.numpy(), weights.numpy(), strict=True):
        expected += row * weight[:, None]
    for threads in (1, 2):
        total = accumulate_noise(start.clone(), weights, KEY, range(2, 9), range(4, 7), kind, threads=threads)
        assert np.array_equal(total.numpy(), expected)
    halves = accumulate_noise(start.clone(), weights[:3], KEY, range(2, 5), range(4, 7), kind)
    accumulate_noise(halves, weights[3:], KEY, range(5, 9), range(4, 7), kind)
    assert torch.equal(halves, total)


def test_accumulation_is_close_to_fp64():
    weights = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    for kind in ("rademacher", "gauss"):
        noise = philox_noise(KEY, range(50), range(2), (40,), kind).double()
        exact = (noise * weights[:, :, None]).sum(0)
        size = (noise.abs() * weights[:, :, None].abs()).sum(0)
        found = accumulate_noise(torch.zeros(2, 40), weights, KEY, range(50), range(2), kind)
        # 50 sums and 50 products, each rounded to half an ulp of at most the sum of magnitudes
        assert bool(((found - exact).abs() <= 100 * 2.0**-24 * size).all())


def test_every_field_of_the_key_changes_the_noise():
    base = philox_noise(KEY, range(1), range(1), (256,))
    others = [KEY._replace(seed=12), KEY._replace(seed=11 + (5 << 32)), KEY._replace(step=4), KEY._replace(stage=3)]
    for key in [*others, KEY._replace(value=0)]:
        assert not torch.equal(philox_noise(key, range(1), range(1), (256,)), base)


def test_a_value_without_a_counter_is_refused():
    with pytest.raises(OptionError, match="value 256 of stage 2"):
        philox_noise(KEY._replace(value=256), range(1), range(1), (4,))
