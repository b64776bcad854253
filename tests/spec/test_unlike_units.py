"""Balanced stages on unlike units: the slowest stage is as fast as it can be, each stage timed on its own unit."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.cost.cut import time_weights
from alrsim.cost.models import roofline
from alrsim.cost.runs import even_runs, small_runs
from alrsim.frontend.torch_export import export_model
from alrsim.hardware.machine import Machine, Unit
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.models import build
from alrsim.steps.chain import cut_for, expected_unit
from alrsim.steps.method import parse_method
from alrsim.steps.options import StepOptions


def slowest(sizes: list[list[float]], starts: list[int]) -> float:
    ends = [*starts[1:], len(sizes[0])]
    return max(sum(own[start:end]) for own, start, end in zip(sizes, starts, ends, strict=True))


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), st.data())
def test_the_programme_finds_the_best_of_all_cuts(parts: int, more: int, data: st.DataObject) -> None:
    count = parts + more
    row = st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count)
    sizes = data.draw(st.lists(row, min_size=parts, max_size=parts))
    starts = small_runs(sizes)
    best = min(slowest(sizes, [0, *inner]) for inner in combinations(range(1, count), parts - 1))
    assert slowest(sizes, starts) == best
    assert starts == sorted(set(starts))
    assert starts[0] == 0


def test_equal_units_give_the_same_slowest_stage_as_the_plain_programme() -> None:
    sizes = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    for parts in (1, 2, 3, 4):
        alike = [sizes] * parts
        assert slowest(alike, small_runs(alike)) == slowest(alike, even_runs([sizes] * parts, empty=False))


def test_a_slow_unit_gets_the_smaller_stage() -> None:
    graph = export_model(build("mlp", hidden=64, depth=4), 8).graph
    fast = Unit("u0", peak_flops={Precision.FP32: 1e12}, memory_bandwidth=1e11)
    slow = Unit("u1", peak_flops={Precision.FP32: 1e10}, memory_bandwidth=1e9)
    method = parse_method("bp:1f1b")
    shares = {}
    for name, units in (("fast first", (fast, slow)), ("slow first", (slow, fast))):
        renamed = tuple(
            Unit(f"u{i}", u.device, u.peak_flops, None, {}, None, u.memory_bandwidth) for i, u in enumerate(units)
        )
        stages = cut_for(graph, method, StepOptions(), Machine("two", renamed))
        shares[name] = [stage.forward.macs for stage in stages.stages]
    assert shares["fast first"][0] > shares["fast first"][1]
    assert shares["slow first"][0] < shares["slow first"][1]


def test_weights_in_time_are_the_cost_models_own_times() -> None:
    graph = export_model(build("mlp"), 4).graph
    unit = Unit("u0", peak_flops={Precision.FP32: 1e9}, memory_bandwidth=1e9, launch_overhead_ns=7)
    weights = time_weights(graph, roofline, unit, PrecisionPlan())
    assert set(weights) == {op.name for op in graph.ops}
    assert all(weight >= 0 for weight in weights.values())
    assert max(weights.values()) > 1000


@pytest.mark.parametrize(
    ("scheduler", "stages", "units", "places"),
    [
        ("1f1b", 4, 4, [0, 1, 2, 3]),
        ("interleaved-1f1b", 6, 3, [0, 1, 2, 0, 1, 2]),
        ("zb-v", 6, 3, [0, 1, 2, 2, 1, 0]),
        ("list", 6, 3, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_stages_are_timed_where_their_scheduler_puts_them(
    scheduler: str, stages: int, units: int, places: list[int]
) -> None:
    assert [expected_unit(scheduler, stage, stages, units) for stage in range(stages)] == places
