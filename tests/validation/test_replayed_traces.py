"""The recorded runs of this repository, predicted again: a change that hurts accuracy fails here, without a device."""

from functools import cache
from pathlib import Path

import pytest

from alrsim.validation.replaying import ReplayRow, replay_run
from alrsim.validation.statistics import spread
from alrsim.validation.trace import SUFFIX

ROOT = Path(__file__).parents[2] / "traces"
TRACES = sorted(ROOT.rglob(f"*{SUFFIX}"))
SETS = sorted({path.parent.name for path in TRACES})

BOUNDS = {"cpu-2core": (60, 0.05, 0.12)}
"""Per set: least number of runs, and bounds on the median and the 95th percentile of the makespan error."""

MOST_BYTES = 1_500_000
"""All of them together."""

replayed = cache(replay_run)


def members(name: str) -> list[ReplayRow]:
    return [replayed(path) for path in TRACES if path.parent.name == name]


def test_recorded_runs_stay_small() -> None:
    assert sum(path.stat().st_size for path in TRACES) < MOST_BYTES
    assert {path.parent.parent for path in TRACES} <= {ROOT}, "one folder per set"


@pytest.mark.parametrize("path", TRACES, ids=lambda path: str(path.relative_to(ROOT)).removesuffix(SUFFIX))
def test_a_recorded_run_is_predicted_as_when_it_was_recorded(path: Path) -> None:
    one = replayed(path)
    assert one.verdict != "worse", "this version predicts it less well; if that cannot be avoided, record it again"
    assert one.verdict == "same", f"predicted otherwise, not worse: keep it with `alrsim replay {path} --accept`"
    assert one.run.prediction.calibration != one.run.prediction.schedule.digest, "predicted from itself"


@pytest.mark.parametrize("name", SETS)
def test_the_errors_of_a_recorded_set_stay_within_its_bounds(name: str) -> None:
    least, median, p95 = BOUNDS[name]
    found = members(name)
    errors = spread([one.error_now for one in found])
    assert errors is not None
    assert len(found) >= least
    assert errors.median <= median
    assert errors.p95 <= p95


@pytest.mark.parametrize("name", SETS)
def test_a_set_was_recorded_on_one_host_by_one_version(name: str) -> None:
    hosts = {(one.run.host.device, one.run.host.torch, one.run.host.executor) for one in members(name)}
    assert len(hosts) == 1
    assert all(one.run.host.commit or one.run.host.version for one in members(name))
