"""Facts of a timeline: typed in memory, the JSON of earlier versions on disk."""

import pytest

from alrsim.errors import FileError
from alrsim.files import from_json, to_json
from alrsim.timeline.facts import Facts
from alrsim.timeline.terms import Terms
from alrsim.timeline.timeline import Timeline

TERMS, PEAKS = Terms(compute=371, transfer=12, overhead=3, contention=26), {"u0": 10, "u=1": 20}


def timeline(**facts):
    return Timeline("simulated", "digest", ("u0",), (), facts=Facts(**facts))


@pytest.mark.parametrize(
    ("facts", "plain"),
    [
        ({}, {}),
        ({"engine": "fast", "repeats": 3, "cpu_share": 0.5}, {"engine": "fast", "repeats": 3, "cpu_share": 0.5}),
        ({"terms_ns": TERMS}, {"terms_ns": ["compute=371", "transfer=12", "overhead=3", "contention=26"]}),
        ({"peak_rss_bytes": PEAKS}, {"peak_rss_bytes": ["u0=10", "u=1=20"]}),
        ({"peak_rss_bytes": {"process": 5}}, {"peak_rss_bytes": 5}),
        ({"flags": (), "sigma": ("0.1", "0.2")}, {"flags": [], "sigma": ["0.1", "0.2"]}),
        ({"sigma": 0.02, "partial": True}, {"sigma": 0.02, "partial": True}),
    ],
)
def test_facts_are_written_as_ever_and_read_back(facts, plain):
    one = timeline(**facts)
    document = to_json("timeline", one)
    assert document["value"]["facts"] == plain
    assert from_json("timeline", Timeline, document, where="test") == one


@pytest.mark.parametrize("facts", [{"repeats": "many"}, {"colour": "red"}, {"terms_ns": ["compute"]}, 3, []])
def test_facts_that_are_none_are_refused(facts):
    document = to_json("timeline", timeline())
    document["value"]["facts"] = facts
    with pytest.raises(FileError):
        from_json("timeline", Timeline, document, where="test")


def test_what_a_session_knows_is_added_to_what_a_run_knows():
    run, session = Facts(device="cpu", repeats=3), Facts(device="gpu", executor="cuda")
    assert run.joined(session) == Facts(device="gpu", repeats=3, executor="cuda")
