"""Fits of measured times recover what was planted."""

from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.cost.cost_tables import slowdown
from alrsim.cost.curve_fit import fit_line, fit_sum, interpolate, left_out_error, monotone
from alrsim.cost.roofline_fit import fit_host, predicted_ns, with_error
from alrsim.hardware.calibration import Calibration, KernelSection
from alrsim.hardware.precision import Precision

QUICK = settings(derandomize=True, max_examples=60, deadline=None)
SIZES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22)


def test_a_planted_line_is_recovered() -> None:
    line = fit_line([(size, 12_000 + size / 5) for size in SIZES])
    assert line.start == pytest.approx(12_000)
    assert line.slope == pytest.approx(0.2)
    assert line.error == pytest.approx(0, abs=1e-9)


def test_a_line_never_starts_below_zero_nor_falls() -> None:
    through = fit_line([(10, 1), (100, 40), (1000, 500)])
    assert through.start == 0
    assert through.slope > 0
    falling = fit_line([(10, 5), (100, 3), (1000, 1)])
    assert falling.slope == 0
    assert 1 <= falling.start <= 5


def test_short_messages_count_as_much_as_long_ones() -> None:
    line = fit_line([(1, 110), (1, 90), (1_000_000, 1_000_100)])
    assert line.at(1) == pytest.approx(98, rel=0.05)  # absolute least squares would not care about 10 ns


def test_planted_sums_are_recovered_and_no_term_is_negative() -> None:
    rows = [(1, launches, body) for launches, body in ((1, 10), (2, 500), (7, 90), (20, 4000), (3, 0))]
    assert fit_sum(rows, [5 + 3 * a + 2 * b for _, a, b in rows]) == pytest.approx((5, 3, 2), rel=1e-6)
    assert min(fit_sum([(1, 10), (1, 20), (1, 30)], [30, 20, 10])) >= 0


@QUICK
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12))
def test_the_monotone_fit_is_the_projection(values: list[float]) -> None:
    found = monotone(values)
    assert all(first <= second + 1e-12 for first, second in pairwise(found))
    assert sum(found) == pytest.approx(sum(values), abs=1e-9)  # blocks are means
    # Optimality: the residual is at a right angle to the fit (a projection on a cone).
    assert sum((v - f) * f for v, f in zip(values, found, strict=True)) == pytest.approx(0, abs=1e-7)
    assert monotone(found) == pytest.approx(found)


def test_an_ascending_curve_is_its_own_fit() -> None:
    assert monotone([1, 2, 2, 5]) == [1, 2, 2, 5]
    assert monotone([3, 1]) == [2, 2]
    assert monotone([3, 0], [2, 1]) == [2, 2]


@QUICK
@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 4096))
def test_a_planted_power_law_is_met_between_and_beyond_its_points(power: float, scale: float, size: float) -> None:
    points = [(at, scale * at**power) for at in (2.0, 8.0, 64.0, 256.0)]
    time, how = interpolate(points, size)
    assert isclose(time, scale * size**power, rel_tol=1e-6)
    assert how == ("measured" if size in dict(points) else "interpolated" if 2 < size < 256 else "extrapolated")
    assert left_out_error(points) == pytest.approx(0, abs=1e-6)


def test_beyond_the_sizes_a_time_neither_falls_nor_outgrows_the_size() -> None:
    falls = [(1.0, 10.0), (2.0, 5.0)]
    steep = [(1.0, 1.0), (2.0, 16.0)]
    assert interpolate(falls, 8)[0] == pytest.approx(50**0.5)  # made level first: both are their mean in logarithms
    assert interpolate(steep, 4) == (pytest.approx(32), "extrapolated")
    assert interpolate([(4.0, 100.0)], 8) == (pytest.approx(200), "extrapolated")
    assert left_out_error(falls) is None


def planted_kernels(launch: float, peak: float, bandwidth: float) -> list[KernelSection]:
    """Kernels of a host whose products reach 25 % of the peak at 10^4 MACs, 50 % at 10^6 and all of it at 10^8."""
    shares = ((10**4, 0.25), (10**6, 0.5), (10**8, 1.0))

    def section(kernel: str, points: list[tuple[int, float]]) -> KernelSection:
        rows = tuple((size, time, 1.5 * time, 0.0) for size, time in points)
        return KernelSection(kernel=kernel, precision=Precision.FP32, error=0.0, points=rows)

    return [
        section("launch", [(64, 64 * launch)]),
        section("matmul", [(macs, 2e9 * macs / (peak * share) + launch) for macs, share in shares]),
        section("elementwise", [(2000, 2000 / 4 + launch)]),
        section("copy", [(1 << 24, 1e9 * (1 << 24) / bandwidth)]),
    ]


def test_a_planted_roofline_is_recovered() -> None:
    kernels = planted_kernels(100, 50e9, 200e9)
    fit = fit_host(kernels)
    assert fit.launch_ns == 100
    assert fit.peaks[Precision.FP32] == pytest.approx(50e9)
    assert [share for _, share in fit.efficiency[Precision.FP32]] == pytest.approx([0.25, 0.5, 1.0])
    assert fit.elementwise_flops == pytest.approx(4e9)
    assert fit.memory_bandwidth == pytest.approx(200e9)
    assert slowdown(Calibration.model_construct(tables=(), kernels=tuple(kernels))) == pytest.approx(1.5)
    assert [with_error(fit, one).error for one in kernels] == pytest.approx([0] * 4, abs=1e-3)


def test_the_error_of_a_roofline_is_that_of_its_points() -> None:
    kernels = planted_kernels(100, 50e9, 200e9)
    fit = fit_host(kernels)
    slower = kernels[1].model_copy(update={"points": tuple((s, 2 * a, 2 * b, x) for s, a, b, x in kernels[1].points)})
    assert with_error(fit, slower).error == pytest.approx(0.5, abs=1e-3)
    assert predicted_ns(fit, "copy", Precision.FP32, 200) == pytest.approx(1.0)
