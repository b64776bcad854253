"""Published peaks from first principles, and figures that published tables are known to get wrong."""

import pytest

from alrsim.hardware.precision import Precision
from alrsim.hardware.profile import load_profile, machine_from

# processors x matrix units x fused multiply-adds per clock x 2 operations x clock in GHz -> 10^9 operations/s
FIRST_PRINCIPLES = [
    ("v100", "fp16", 80 * 8 * 64 * 2 * 1.53),
    ("v100", "fp32", 80 * 64 * 2 * 1.53),
    ("t4", "fp16", 40 * 8 * 64 * 2 * 1.59),
    ("t4", "int8", 40 * 8 * 128 * 2 * 1.59),
    ("a100-40", "fp16", 108 * 4 * 256 * 2 * 1.41),
    ("a100-40", "fp32", 108 * 64 * 2 * 1.41),
    ("a100-80", "bf16", 108 * 4 * 256 * 2 * 1.41),
    ("a100-80", "int8", 108 * 4 * 256 * 2 * 1.41 * 2),
    ("a100-80", "int4", 108 * 4 * 256 * 2 * 1.41 * 4),
    ("a100-80", "sign1", 108 * 4 * 256 * 2 * 1.41 * 16),
    ("h100", "fp16", 132 * 4 * 512 * 2 * 1.83),
    ("h100", "bf16", 132 * 4 * 512 * 2 * 1.83),
    ("h100", "fp32", 132 * 128 * 2 * 1.98),
    ("h200", "bf16", 132 * 4 * 512 * 2 * 1.83),
    ("rtx4090", "fp8", 128 * 4 * 128 * 2 * 2.52),
    ("rtx4090", "fp16", 128 * 4 * 128 * 2 * 2.52 / 2),
    ("l4", "fp16", 58 * 4 * 128 * 2 * 2.04),
    ("jetson-agx-orin", "int8", 16 * 4 * 512 * 2 * 1.3),
    ("mi300x", "bf16", 304 * 2048 * 2.1),
    ("tpu-v4", "bf16", 8 * 128 * 128 * 2 * 1.05),
    ("tpu-v5e", "bf16", 4 * 128 * 128 * 2 * 1.5),
]


@pytest.mark.parametrize(("name", "precision", "gflops"), FIRST_PRINCIPLES)
def test_a_peak_is_units_times_operations_times_clock(name: str, precision: str, gflops: float) -> None:
    unit = machine_from(load_profile(name)).units[0]
    assert unit.peak_flops[Precision(precision)] == pytest.approx(gflops * 10**9, rel=0.005)


def peak(name: str, precision: Precision) -> float:
    return machine_from(load_profile(name)).units[0].peak_flops[precision] / 10**12


def test_the_l4_has_its_own_memory_bandwidth_and_not_that_of_the_h100() -> None:
    assert machine_from(load_profile("l4")).units[0].memory_bandwidth == 300e9
    assert machine_from(load_profile("h100")).units[0].memory_bandwidth == 3350e9


def test_the_a100s_have_the_bandwidth_of_their_own_memory() -> None:
    assert machine_from(load_profile("a100-40")).units[0].memory_bandwidth == 1555e9
    assert machine_from(load_profile("a100-80")).units[0].memory_bandwidth == 2039e9


@pytest.mark.parametrize(
    ("name", "precision", "dense", "sparse"),
    [
        ("h100", Precision.BF16, 989.4, 1979),
        ("h100", Precision.INT8, 1978.9, 3958),
        ("h200", Precision.FP8, 1978.9, 3940),
        ("l4", Precision.BF16, 121, 242),
        ("l4", Precision.FP8, 242.5, 485),
        ("jetson-agx-orin", Precision.INT8, 85, 170),
        ("mi300x", Precision.FP16, 1307.4, 2615),
    ],
)
def test_a_peak_is_the_dense_figure_and_not_the_sparse_one(
    name: str, precision: Precision, dense: float, sparse: float
) -> None:
    assert peak(name, precision) == pytest.approx(dense)
    assert peak(name, precision) == pytest.approx(sparse / 2, rel=0.01)


def test_fp32_is_never_halved_for_a_sparsity_that_it_does_not_have() -> None:
    assert peak("h100", Precision.FP32) == pytest.approx(66.9)


def test_the_a100_is_the_card_and_not_the_full_die() -> None:
    derivation = load_profile("a100-40").spec.unit.peak_tflops_dense[Precision.FP16].derivation  # type: ignore[union-attr]
    assert derivation is not None
    assert derivation.units == 108


@pytest.mark.parametrize(
    ("name", "precision"), [("v100", "bf16"), ("t4", "bf16"), ("a100-40", "fp8"), ("cpu-2core", "fp16")]
)
def test_a_precision_that_the_hardware_lacks_has_no_peak_and_a_reason(name: str, precision: str) -> None:
    section = load_profile(name).spec.unit
    assert section is not None
    assert Precision(precision) not in section.peak_tflops_dense
    assert section.not_offered[Precision(precision)]


def test_fp16_on_the_cpu_is_called_emulated_and_not_timed() -> None:
    section = load_profile("cpu-2core").spec.unit
    assert section is not None
    assert section.not_offered[Precision.FP16].startswith("emulated, not timed")


def test_a_cpu_core_has_half_of_what_two_threads_measured() -> None:
    unit = machine_from(load_profile("cpu-2core")).units[0]
    assert unit.peak_flops == {
        Precision.FP32: pytest.approx(85e9 / 2),
        Precision.BF16: pytest.approx(349e9 / 2),
        Precision.INT8: pytest.approx(578e9 / 2),
    }
    assert unit.memory_bandwidth == pytest.approx(23.6e9 / 2)
    for precision, small in ((Precision.FP32, 63 / 85), (Precision.BF16, 89 / 349), (Precision.INT8, 386 / 578)):
        assert unit.efficiency[precision] == ((512**3, pytest.approx(small, abs=0.001)), (2048**3, 1.0))
