"""Steps of millions of tasks: the same numbers as of small ones, spans left out, and refusals that say how many."""

from dataclasses import replace
from pathlib import Path

import pytest

import alrsim as al
from alrsim.documents import read_document
from alrsim.errors import AlrsimWarning, OptionError
from alrsim.simulation import at_scale
from alrsim.steps import planned
from alrsim.steps.planned import Planned
from alrsim.steps.step import Step

LARGE = {"f": 1, "b": 1, "w": 1, "units": 64, "microbatches": 8192}
"""1,048,576 tasks."""


def both_ways(monkeypatch: pytest.MonkeyPatch, make) -> tuple[Step, Step]:
    """The same step from one micro-batch, and with every task written out."""
    plain = make()
    assert isinstance(plain.planned, Planned)
    monkeypatch.setattr(planned, "MANY_SPANS", 0)
    monkeypatch.setattr(at_scale, "AT_SCALE", 0)
    large = make()
    monkeypatch.undo()
    assert not isinstance(large.planned, Planned)
    return plain, large


@pytest.mark.parametrize("semantics", ["latency", "link", "blocking"])
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("bp:gpipe", {}),
        ("bp:1f1b", {"u": "1/3", "loss_unit": 4}),
        ("bp-split:gpipe", {"b": 2}),
        ("lr:lr-fixed", {"copies": 2, "transfer": 0}),
    ],
)
def test_a_textbook_step_is_the_same_from_one_micro_batch(
    monkeypatch: pytest.MonkeyPatch, method: str, more: dict[str, object], semantics: str
) -> None:
    keywords = {"f": 1, "b": 1, "w": 1, "transfer": "1/4", "stages": 4, "units": 5, "microbatches": 6, **more}
    plain, large = both_ways(monkeypatch, lambda: al.textbook(method, transfer_semantics=semantics, **keywords))
    one, other = plain.simulate(), large.simulate()
    about_engines = {"engine": "simpy", "transfer_semantics": semantics}
    assert one.facts == about_engines
    same = {"facts": one.facts, "bound": one.bound, "schedule_digest": one.schedule_digest}
    assert replace(other, **same) == one  # spans, transfers and lanes included
    assert other.bound is None


def test_a_step_of_a_model_is_the_same_from_one_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    make = lambda: al.step("mlp", "h100", "bp:1f1b", units=2, batch=64, microbatches=8)  # noqa: E731
    plain, large = both_ways(monkeypatch, make)
    one, other = plain.simulate(), large.simulate()
    same = {"facts": one.facts, "bound": one.bound, "schedule_digest": one.schedule_digest}
    assert replace(other, **same) == one
    assert max(one.peak_memory_bytes.values()) > 0


def test_spans_of_a_million_tasks_are_left_out_and_counted(tmp_path: Path) -> None:
    result = al.textbook("bp:1f1b", **LARGE).simulate()
    assert result.makespan == (8192 + 63) * 3
    assert result.spans_left_out == 2 * 64 * 8192
    assert (result.spans, result.transfers, result.schedule) == ((), (), {})
    assert len(result.to_json()) < 20_000
    assert "1,048,576 tasks on 64 units are not drawn" in result.table()
    with pytest.raises(OptionError, match="1,048,576 spans are too many for rows"):
        result.frame()
    with pytest.raises(OptionError, match="cannot draw 1,048,576 tasks"):
        result.plot()
    with pytest.warns(AlrsimWarning, match="charts and trace are left out: 1,048,576 tasks"):
        result.save(tmp_path)
    (written,) = tmp_path.glob("*.json")
    assert read_document(written).spans_left_out == result.spans_left_out


def test_tasks_are_written_out_when_somebody_asks_and_refused_beyond_a_number() -> None:
    step = al.textbook("bp:1f1b", **{**LARGE, "microbatches": 8192 * 4})
    assert step.summary.tasks == 4 * 1_048_576
    assert step.simulate().makespan == (4 * 8192 + 63) * 3
    for ask in (lambda: step.tasks, lambda: step.schedule, lambda: step.timeline.spans):
        with pytest.raises(OptionError, match="4,194,304 tasks are too many to write out one by one"):
            ask()


def test_semantics_of_a_large_step_can_be_asked_for_when_it_is_simulated() -> None:
    step = al.textbook("bp:gpipe", **LARGE, transfer="1/2")
    free, blocked = (step.simulate(transfer_semantics=how).makespan for how in ("latency", "blocking"))
    assert free < blocked


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"method": "bp:zb-h1"}, "the order of scheduler zb-h1 is not known"),
        ({"engine": "simpy"}, "engine simpy runs them"),
    ],
)
def test_what_needs_tasks_one_by_one_is_refused_with_their_number(keywords: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=f"tasks are too many to schedule one by one.*{message}"):
        al.textbook(**{"method": "bp:1f1b", **LARGE, "microbatches": 65_536, **keywords})


def test_a_pipeline_of_more_than_1024_units_is_simulated() -> None:
    result = al.textbook("bp:1f1b", f=1, b=1, w=1, units=1500, microbatches=2).simulate()
    assert result.makespan == (2 + 1499) * 3
    assert "..." in result.table()
    assert "largest bubble_size" in result.table()
