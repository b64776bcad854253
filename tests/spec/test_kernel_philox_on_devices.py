"""Noise in torch's own operators, as devices without machine code make it: the compiled loops' numbers, bit for bit."""

import sys
from types import SimpleNamespace

import pytest
import torch

from alrsim.estimators.codes import decode, encode
from alrsim.estimators.kernels import device_noise, philox, philox_torch
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise
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


def module_of(factor):
    """Kernels as a module: those of a CPU, wrong by a factor."""

    def perturbed(*given):
        return philox.perturbed(*given) * factor

    return SimpleNamespace(perturbed=perturbed, accumulate_noise=philox.accumulate_noise)


def test_kernels_are_trusted_only_with_the_right_bits(monkeypatch):
    monkeypatch.setitem(sys.modules, "right_kernels", module_of(1))
    monkeypatch.setitem(sys.modules, "wrong_kernels", module_of(1 + 2**-23))
    assert device_noise.trusted("right_kernels", CPU) is sys.modules["right_kernels"]
    assert device_noise.trusted("wrong_kernels", CPU) is None
    assert device_noise.trusted("kernels_that_do_not_exist", CPU) is None


def test_trusted_kernels_are_used_and_change_no_number(monkeypatch):
    calls = []
    right = module_of(1)
    counted = SimpleNamespace(
        perturbed=lambda *given: calls.append("noise") or right.perturbed(*given),
        accumulate_noise=lambda *given: calls.append("sum") or right.accumulate_noise(*given),
    )
    weights, given = torch.randn(3, 2), (KEYS[0], range(1, 4), range(2))
    expected = [device_noise.noise(*given, (9,), kind, CPU) for kind in KINDS]
    sums = [device_noise.accumulate(torch.ones(2, 9), weights, *given, kind) for kind in KINDS]
    monkeypatch.setattr(device_noise, "fused", lambda _device: counted)
    for kind, one, total in zip(KINDS, expected, sums, strict=True):
        assert torch.equal(device_noise.noise(*given, (9,), kind, CPU), one)
        assert torch.equal(device_noise.accumulate(torch.ones(2, 9), weights, *given, kind), total)
    assert calls == ["noise", "sum"] * len(device_noise.FUSED)


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
