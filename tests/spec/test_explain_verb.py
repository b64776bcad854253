"""``explain``: answers that can be checked by hand, and the sums of its document."""

import json

import pytest
from jsonschema import Draft202012Validator

from alrsim.errors import AlrsimError
from alrsim.reports.explanation import Explanation
from alrsim.study.explaining import explain
from alrsim.study.stepping import step, textbook

TEXTBOOK = {"durations": "f=1,b=1,w=1,transfer=0.25", "method": "bp:1f1b", "units": 4}


@pytest.fixture(scope="module")
def made():
    return textbook("bp:1f1b", f=1, b=1, w=1, transfer="1/4", units=4)


@pytest.mark.parametrize("semantics", ["latency", "link", "blocking"])
def test_the_critical_path_is_as_long_as_the_step_and_idle_time_is_all_there(semantics):
    found = explain(**TEXTBOOK, transfer_semantics=semantics)
    path = found.critical_path
    assert path[0].start == 0
    assert sum(one.end - one.start for one in path) == found.makespan == path[-1].end
    assert all(found.slack[one.what] == 0 for one in path if one.kind == "task")
    for unit, row in found.idle.items():
        assert sum(row.causes.values()) == row.idle == found.makespan - row.busy
        assert sum(one.end - one.start for one in found.stretches if one.unit == unit) == row.idle


def test_each_reason_is_told_in_words_that_name_task_unit_link_and_time(made):
    def answer(unit, at, **more):
        return " ".join(explain(made, unit=unit, at=at, **more).answer.text)

    assert answer("u0", 0.5) == "u0 at 0.5 runs 0F0 (0 to 1); it is on the critical path."
    assert answer("u1", 0.5) == (
        "u1 at 0.5 is idle from 0 to 1: 1F0 waits. It reads 0F0:x1, which 0F0 makes on u0 (0 to 1); "
        "over u0 -> u1 it travels 1 to 1.25."
    )
    assert "idle from 1 to 1.25" in answer("u1", "1.1")
    assert answer("u2", 6).startswith(
        "u2 at 6 is idle from 4.5 to 7: a choice of the schedule. Its lane goes on with 2B0, which is not ready, "
        "although 2F2 is (planned for 9)."
    )
    held = answer("u2", 6, search={"live": "2"})
    assert "2F2 is, but it takes room for 1 more live micro-batch, and there is room for 0" in held
    assert answer("u3", "100%").startswith("u3 at 23.5: the step is over")
    assert answer("u3", "99%").endswith("nothing is left in its lane.")
    assert "it sends what 0F0 made" in answer("u0", 1.1, transfer_semantics="blocking")


def test_a_unit_that_waits_for_a_busy_link_or_a_shared_core_says_so():
    slow = {"durations": "f=1,b=1,w=1,transfer=2", "method": "lr:lr-free", "units": 4, "stages": 8}
    queued = next(one for one in explain(**slow).stretches if one.cause == "link")
    asked = explain(**slow, unit=queued.unit, at=(queued.start + queued.end) / 2)
    assert "The link is busy with other messages until then." in asked.answer.text[0]
    found = explain("mlp", method="lr:lr-fixed", units=3, microbatches=8, hardware="cpu-2core")
    assert "core" in {one.cause for one in found.stretches}  # two cores, three units


def test_a_step_a_result_and_a_file_are_explained_alike(made, tmp_path):
    path = tmp_path / "s.json"
    made.write(path)
    by_step = explain(made)
    assert explain(made.simulate()) == by_step
    by_file = explain(path, durations="f=1,b=1,w=1,transfer=1/4")
    assert by_file.critical_path == by_step.critical_path == explain(**TEXTBOOK).critical_path
    assert by_file.name == "s.json"


def test_the_document_reads_back_and_shows_the_same_text(made, tmp_path):
    found = explain(made, unit="u2", at=6)
    document = json.loads(found.to_json())
    Draft202012Validator(Explanation.schema()).validate(document)
    again = Explanation.from_dict(document)
    assert again == found
    assert again.table() == found.table()
    text = explain(made).table()
    assert "critical path: 14 tasks" in text
    assert "idle time by reason" in text
    files = {path.name: path.read_bytes() for path in explain(made).save(tmp_path)}
    assert files["explained.png"].startswith(b"\x89PNG")
    assert explain(made).frame()["cause"].tolist() == [one.cause for one in found.stretches]


def test_idle_time_by_reason_is_of_the_unit_that_was_asked_about(made):
    every = explain(made).idle_by_reason()
    assert list(every) == ["u0", "u1", "u2", "u3"]
    assert explain(made, unit="u3").idle_by_reason() == {"u3": every["u3"]}
    assert "u2" not in explain(made, unit="u3").table()


def test_the_step_of_a_model_is_asked_by_times_on_the_clock():
    found = explain(step("mlp", "h100", "bp:1f1b", units=2, batch=8), unit="u1", at="1us")
    assert found.about == {"model": "mlp", "hardware": "h100"}
    assert found.answer.at == 1000


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"at": "1"}, "at: is a moment of a unit"),
        ({"unit": "u9", "at": "1"}, "'u9' is not a unit"),
        ({"unit": "u1", "at": "3ms"}, "typed durations have no seconds"),
        ({"unit": "u1", "at": "soon"}, "not a number"),
        ({"unit": "u1", "at": "-1"}, "negative"),
        ({"copies": 4}, "copies: is said by the step"),
    ],
)
def test_questions_that_make_no_sense_are_refused(made, keywords, message):
    with pytest.raises(AlrsimError, match=message):
        explain(made, **keywords)
