"""Schedulers that search, from the command line: options, bounds and gaps in text and JSON, what is refused."""

import json
from importlib.util import find_spec

import pytest

CHAIN = ("--durations", "f=1,b=1,w=1", "--units", 4, "-m", 8)


def test_simulate_tells_bound_and_gap_of_a_fixed_schedule(alrsim):
    ran = alrsim("simulate", "--method", "bp:1f1b", *CHAIN, "--json", "-")
    assert ran.status == 0
    bound = json.loads(ran.out)["bound"]
    assert bound == {
        "this_placement": 33,
        "gap": 0.0,
        "any_placement": 24,
        "gap_any_placement": 0.375,
        "status": "",
        "freedom": "",
    }


def test_the_text_ends_with_the_bound(alrsim):
    ran = alrsim("simulate", "--method", "bp:1f1b", *CHAIN)
    assert "lower bound 33, gap 0.0 % (any placement: 24, gap 37.5 %)" in ran.out


def test_fractions_stay_in_the_typed_unit(alrsim):
    ran = alrsim("simulate", "--method", "bp:gpipe", "--durations", "f=1/2,b=1,w=1/2", "--units", 2, "--json", "-")
    document = json.loads(ran.out)
    assert (document["makespan"], document["bound"]["this_placement"]) == (10, 10)


def test_search_options_reach_the_scheduler(alrsim):
    split = [a if a != "bp:1f1b" else "bp-split:auto" for a in ("simulate", "--method", "bp:1f1b", *CHAIN)]
    ran = alrsim(*split, "--search", "live=4", "--search", "exact=no", "--time-limit", 3, "--json", "-")
    assert json.loads(ran.out)["makespan"] == 27
    ran = alrsim(*split, "--search", "live=1", "--search", "exact=no", "--json", "-")
    assert json.loads(ran.out)["makespan"] == 72


@pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
def test_the_exact_scheduler_tells_its_status(alrsim):
    ran = alrsim("simulate", "--method", "bp-split:cpsat", *CHAIN, "--search", "live=4+3+2+1", "--json", "-")
    document = json.loads(ran.out)
    assert document["makespan"] == document["bound"]["this_placement"] == 30
    assert (document["bound"]["status"], document["bound"]["freedom"]) == ("OPTIMAL", "fixed")


def test_compare_and_schedule_tell_the_bounds_of_every_method(alrsim, graph_file):
    methods = "bp:1f1b,bp:heft,bp-split:local-search,lr:auto"
    ran = alrsim("compare", graph_file, "--methods", methods, "--search", "exact=no", "--time-limit", 1, "--json", "-")
    assert ran.status == 0, ran.err
    for method in json.loads(ran.out)["methods"]:
        bound = method["bound"]
        assert 0 < bound["any_placement"] <= bound["this_placement"] <= method["makespan_ns"]
        assert bound["gap"] == pytest.approx(method["makespan_ns"] / bound["this_placement"] - 1)
    text = alrsim("compare", graph_file, "--methods", methods, "--search", "exact=no", "--time-limit", 1).out
    assert "lower bound, this placement" in text
    assert "gap, any placement" in text
    ran = alrsim("schedule", graph_file, "--method", "lr:auto", "--search", "exact=no", "--json", "-")
    document = json.loads(ran.out)
    assert document["bound"]["this_placement"] <= document["makespan_ns"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--time-limit", 0), "--time-limit: is 0, must be above 0"),
        (("--search", "speed=1"), "'speed' is no search option"),
        (("--search", "live"), "--search: 'live' is not of the form KEY=VALUE"),
        (("--search", "live=2+2"), "2 live caps for 4 units"),
    ],
)
def test_search_options_that_make_no_sense_end_with_a_message(alrsim, options, message):
    ran = alrsim("simulate", "--method", "bp:auto", *CHAIN, *options)
    assert ran.status == 1
    assert message in ran.err
