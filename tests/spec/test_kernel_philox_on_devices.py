"""Noise in torch's own operators, as devices without machine code make it: the compiled loops' numbers, bit for bit."""

import pytest
import torch

from alrsim.estimators.codes import decode, encode
from alrsim.estimators.kernels import philox_torch
from alrsim.estimators.kernels.philox import PhiloxKey, accumulate_noise, philox_noise
from alrsim.hardware.precision import Precision

CPU = torch.device("cpu")
KEYS = [PhiloxKey(11, 3, 2, 1), PhiloxKey(2**63 + 77, 2**32 + 5, 2**24 - 1, 255)]
KINDS = ["rademacher", "gauss", "laplace", "hadamard"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("elements", [1, 2, 5, 129, 4097])
@pytest.mark.parametrize("key", KEYS, ids=["small", "large"])
def test_noise_has_the_bits_of_the_compiled_loops(key, elements, kind):
    for copies in (range(5), range(3, 11), range(2**31 - 2, 2**31)):
        expected = philox_noise(key, copies, range(4, 7), (elements,), kind)
        found = philox_torch.noise(key, copies, range(4, 7), (elements,), kind, CPU)
        assert torch.equal(found, expected)
        assert torch.equal(found.signbit(), expected.signbit())


@pytest.mark.parametrize("kind", KINDS)
def test_words_at_the_ends_of_their_range_too(kind):
    """4096 blocks of 6 samples: logarithms near 0, all quadrants, all signs."""
    expected = philox_noise(KEYS[0], range(2), range(3), (1 << 14,), kind)
    assert torch.equal(philox_torch.noise(KEYS[0], range(2), range(3), (1 << 14,), kind, CPU), expected)


def test_noise_made_in_parts_is_the_same(monkeypatch):
    whole = philox_torch.noise(KEYS[0], range(1, 8), range(2), (3, 50), "gauss", CPU)
    monkeypatch.setattr(philox_torch, "TOGETHER", 600)
    assert torch.equal(philox_torch.noise(KEYS[0], range(1, 8), range(2), (3, 50), "gauss", CPU), whole)
    assert whole.shape == (7, 2, 3, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_noise_has_the_same_bits(kind):
    generator = torch.Generator().manual_seed(0)
    weights, start = torch.randn(6, 3, generator=generator), torch.randn(3, 7, 19, generator=generator)
    expected = accumulate_noise(start.clone(), weights, KEYS[0], range(3, 9), range(4, 7), kind)
    found = philox_torch.accumulate(start.clone(), weights, KEYS[0], range(3, 9), range(4, 7), kind)
    assert torch.equal(found, expected)
    assert not torch.equal(found, start)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this host")
@pytest.mark.parametrize("kind", [*KINDS, "sobol"])
def test_a_gpu_makes_the_same_noise(kind):
    expected = philox_noise(KEYS[0], range(5), range(3), (200,), kind)
    found = philox_noise(KEYS[0], range(5), range(3), (200,), kind, device=torch.device("cuda"))
    assert found.is_cuda
    if kind in ("gauss", "laplace"):  # its division may round otherwise
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(found.cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this host")
@pytest.mark.parametrize("code", ["sign", "threshold"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_gpu_packs_the_same_bytes(code, signed):
    value = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    value = value if signed else value.relu()
    here, there = (encode(one, Precision.SIGN1, code) for one in (value, value.cuda()))
    assert torch.equal(there.data.cpu(), here.data)
    torch.testing.assert_close(decode(there).cpu(), decode(here))
