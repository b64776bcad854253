"""Cost models by hand: the roofline's two sides, measured tables, and what they refuse."""

from dataclasses import replace
from math import sqrt

import pytest

from alrsim.cost.models import COST_MODELS, measured_model, roofline, unit
from alrsim.cost.roofline import bytes_moved, efficiency
from alrsim.errors import OptionError, ProfileError
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.machine import Unit, abstract_machine
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.tasks.problem import price
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId

FP32, FP16, INT8, SIGN1 = Precision.FP32, Precision.FP16, Precision.INT8, Precision.SIGN1
CHIP = Unit("u0", "chip", {FP32: 1e12, FP16: 4e12, INT8: 8e12}, memory_bandwidth=1e11, launch_overhead_ns=2000)
PLAN = PrecisionPlan()


def task(work: Work = NO_WORK, encoded: Work = NO_WORK, kind="F", copies=1) -> Task:
    return Task(TaskId(0, kind, NONE if kind == "U" else 0), work=work, encoded=encoded, copies=copies)


def test_a_large_product_takes_its_flops_over_the_peak_plus_its_launches():
    assert roofline(task(Work(macs=5 * 10**11, launches=3)), CHIP, PLAN) == 10**9 + 3 * 2000


def test_a_memory_bound_task_takes_its_bytes_over_the_bandwidth():
    work = Work(macs=10, activation_reads=10**9, param_writes=10**9)
    assert bytes_moved(work, PLAN) == 8 * 10**9
    assert roofline(task(work), CHIP, PLAN) == 80 * 10**6


def test_half_the_bytes_per_element_halve_the_traffic_and_use_another_peak():
    plan = replace(PLAN, activations=FP16)
    work = Work(macs=2 * 10**9, activation_reads=2 * 10**6, param_reads=10**6)
    assert bytes_moved(work, plan) == 8 * 10**6
    assert roofline(task(work), CHIP, plan) == 10**6


def test_element_wise_work_is_hidden_behind_memory_unless_the_unit_gives_its_rate():
    work = Work(elementwise=10**9, activation_reads=1)
    assert roofline(task(work), CHIP, PLAN) == 1
    assert roofline(task(work), replace(CHIP, elementwise_flops=1e12), PLAN) == 10**6


def test_efficiency_is_interpolated_in_the_logarithm_of_one_products_size_and_held_outside():
    chip = replace(CHIP, efficiency={FP32: ((10**6, 0.2), (10**8, 0.8))})
    assert efficiency(chip, FP32, 1) == 0.2
    assert efficiency(chip, FP32, 10**7) == pytest.approx(0.5)
    assert efficiency(chip, FP32, 10**9) == 0.8
    assert efficiency(chip, FP16, 10**7) == 1
    whole = roofline(task(Work(macs=10**8, products=10)), chip, PLAN)
    assert whole == pytest.approx(2 * 10**8 / (1e12 * efficiency(chip, FP32, 10**7)) * 1e9)
    assert efficiency(chip, FP32, sqrt(10**6 * 10**8)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("saved", "noise", "peaks", "rate"),
    [
        (INT8, INT8, {FP32: 1e12, INT8: 8e12}, 8e12),
        (SIGN1, SIGN1, {FP32: 1e12, INT8: 8e12}, 8e12),  # no 1-bit peak: int8
        (SIGN1, SIGN1, {FP32: 1e12, INT8: 8e12, SIGN1: 64e12}, 64e12),
        (SIGN1, INT8, {FP32: 1e12, INT8: 8e12, SIGN1: 64e12}, 8e12),  # the wider code decides
        (INT8, Precision.REGENERATED, {FP32: 1e12, INT8: 8e12}, 8e12),
        (INT8, INT8, {FP32: 1e12}, 1e12),  # decoded and multiplied in the activation format
    ],
)
def test_products_of_codes_run_at_the_peak_of_their_code(saved, noise, peaks, rate):
    plan = PrecisionPlan(saved=saved, noise=noise)
    chip = Unit("u0", "chip", peaks)
    assert roofline(task(encoded=Work(macs=10**12)), chip, plan) == 2 * 10**12 / rate * 1e9


def test_codes_are_read_in_their_own_format_and_results_written_in_theirs():
    chip = Unit("u0", "chip", {INT8: 1e30}, memory_bandwidth=1e9)
    plan = PrecisionPlan(saved=SIGN1, noise=SIGN1)
    assert roofline(task(encoded=Work(macs=1, activation_reads=8000, param_writes=1000)), chip, plan) == 1000 + 4000


def test_a_format_without_a_peak_names_the_unit_and_what_it_has():
    with pytest.raises(ProfileError, match=r"u0 \(chip\) has no peak for bf16; it has fp32, fp16, int8"):
        roofline(task(Work(macs=1)), CHIP, PrecisionPlan(activations=Precision.BF16))
    with pytest.raises(ProfileError, match="it is an abstract unit"):
        roofline(task(Work(macs=1)), Unit("u0"), PLAN)


def test_a_task_without_work_takes_no_time_and_an_abstract_unit_one_step():
    assert roofline(task(), CHIP, PLAN) == 0
    assert unit(task(), Unit("u0"), PLAN) == 1
    assert set(COST_MODELS) == {"roofline", "unit"}


def test_measured_times_are_looked_up_by_stage_kind_and_copies():
    model = measured_model({(0, "F", 1, False): 70, (0, "F", 8, False): 300})
    problem = price(
        TaskGraph((task(), replace(task(copies=8), id=TaskId(0, "F", 1))), (), "r", 1, 2),
        abstract_machine(2),
        PLAN,
        model,
        name="measured",
    )
    assert problem.durations == ((70, 70), (300, 300))
    with pytest.raises(
        OptionError, match=r"F \(forward\) of stage 0 with 2 copies was not measured; measured with \[1, 8\]"
    ):
        model(task(copies=2), CHIP, PLAN)
    with pytest.raises(OptionError, match=r"cost of 0W0: W \(weight gradient\) of stage 0"):
        model(task(kind="W"), CHIP, PLAN)


@pytest.mark.parametrize(
    "table",
    [
        {(0, "Q", 1, False): 5},
        {(0, "F", 0, False): 5},
        {(-1, "F", 1, False): 5},
        {(0, "F", 1, False): -5},
        {(0, "F", 1, False): 0.5},
    ],
)
def test_a_bad_measured_table_is_refused(table):
    with pytest.raises(OptionError, match="measured table"):
        measured_model(table)


def test_adding_work_loses_no_count():
    one = Work(*range(1, len(Work.__slots__) + 1))
    assert one + one == Work(*(2 * value for value in range(1, len(Work.__slots__) + 1)))
    assert one + NO_WORK == one
