"""Codes of a stage's input: their scales are least squares, and their ceilings have the measured order."""

import pytest
import torch

from alrsim.estimators.codes import decode, encode, quantised
from alrsim.hardware.precision import Precision

INT8, SIGN1 = Precision.INT8, Precision.SIGN1
KINDS = ["sign", "sign-scaled", "threshold"]


def values(shape, *, relu, seed=0):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.relu() if relu else drawn


@pytest.mark.parametrize("precision", [INT8, SIGN1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(6, 40), (6, 5, 7, 7)])
def test_scales_are_least_squares(precision, kind, relu, shape):
    """The residual is orthogonal to the code wherever one scale applies."""
    value = values(shape, relu=relu)
    coded = quantised(value, precision, kind, copies=2)
    decoded = decode(encode(value, precision, kind, copies=2))
    rows = (6,) if len(shape) == 2 else (6, 5)
    assert coded.scale.shape == (rows if kind == "sign-scaled" else (2,))
    products = ((value - decoded) * coded.codes).reshape(*coded.scale.shape, -1).sum(-1)
    torch.testing.assert_close(products, torch.zeros_like(products), atol=1e-3, rtol=0)


def ceiling(kind, value, signals, precision=INT8):
    """Cosine of the weight gradient from the code with that of the value."""
    exact, coded = (signals.T @ x for x in (value, decode(encode(value, precision, kind))))
    return float(torch.cosine_similarity(exact.flatten(), coded.flatten(), 0))


def test_ceilings_on_rectified_values_have_the_measured_order():
    """Facts 2.4: for half-Gaussian values the sign's ceiling is sqrt(2/pi) of the non-zero part; threshold is better,
    int8 is lossless in practice."""
    value, signals = values((4000, 30), relu=True), values((4000, 20), relu=False, seed=1)
    found = {kind: ceiling(kind, value, signals) for kind in ("sign", "threshold", "plain")}
    assert found["sign"] + 0.03 < found["threshold"] < found["plain"]
    assert found["plain"] > 0.9999
    assert abs(found["sign"] - (2 / torch.pi) ** 0.5) < 0.03
    for kind in ("sign", "threshold"):
        assert found[kind] == pytest.approx(ceiling(kind, value, signals, SIGN1), abs=1e-6)


def test_scales_per_channel_win_where_channels_differ_in_size():
    spread = torch.logspace(-1, 1, 8).view(1, 8, 1, 1)
    value = values((20, 8, 6, 6), relu=True) * spread
    signals = values((20, 4, 6, 6), relu=False, seed=1)

    def gradient(x):
        return torch.einsum("nohw,nchw->oc", signals, x).flatten()

    exact = gradient(value)
    cosine = {
        kind: float(torch.cosine_similarity(exact, gradient(decode(encode(value, INT8, kind))), 0)) for kind in KINDS
    }
    assert cosine["sign-scaled"] > cosine["sign"] + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_codes_of_rectified_values_are_one_bit_and_keep_zeros(kind):
    value = values((4, 50), relu=True)
    code = encode(value, SIGN1, kind, copies=2, unsigned=True)
    assert code.data.nbytes == 25
    assert bool((decode(code)[value == 0] == 0).all())
    assert torch.equal(decode(code), decode(encode(value, INT8, kind, copies=2)))


def test_a_threshold_code_of_values_with_signs_has_three_levels_in_two_bits():
    value = values((4, 50), relu=False)
    code = encode(value, SIGN1, "threshold")
    assert code.data.nbytes == 50
    level = 0.7 * value.abs().mean()
    assert torch.equal(decode(code).sign(), value.sign() * (value.abs() > level))


def test_a_value_of_zeros_has_a_code_of_zeros():
    for kind in KINDS:
        assert not decode(encode(torch.zeros(4, 6), INT8, kind, copies=2)).any()
        assert not decode(encode(torch.zeros(4, 6), SIGN1, kind, copies=2, unsigned=True)).any()
