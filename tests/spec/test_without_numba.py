"""Without numba everything runs, slower, with the same result; that is said once."""

import pytest

from alrsim import compiled
from alrsim.errors import AlrsimWarning, OptionError
from alrsim.schedulers import list_schedule, schedule
from alrsim.simulation import engine


@pytest.fixture
def _no_numba(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda _: None)
    monkeypatch.setattr(engine, "FAST_FROM", 1)
    monkeypatch.setattr(list_schedule, "FAST_FROM", 1)
    compiled.available.cache_clear()
    yield
    compiled.available.cache_clear()


@pytest.mark.usefixtures("_no_numba")
def test_large_problems_are_scheduled_and_simulated_without_numba(textbook):
    problem = textbook(4, 2, 6, "lr", f=1, g=2, transfer=1)
    with pytest.warns(AlrsimWarning, match="numba is not installed"):
        made = schedule(problem, "list")
    timeline = engine.simulate(problem, made, engine="auto")  # a second warning would be an error
    assert timeline.facts.engine == "simpy"
    assert timeline.makespan == engine.simulate(problem, made, engine="simpy").makespan
    with pytest.raises(OptionError, match="numba, which is not installed"):
        engine.simulate(problem, made, engine="fast")
