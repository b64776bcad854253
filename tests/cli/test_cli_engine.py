"""``--engine``: which engine made the numbers is said, and never changes them."""

import json
from typing import Any

import pytest

TEXTBOOK = ("simulate", "--method", "bp:1f1b", "--durations", "f=1,b=1,w=1,transfer=1/4", "--units", "3", "-m", "5")


def document(alrsim: Any, *more: str) -> dict[str, Any]:
    done = alrsim(*TEXTBOOK, *more, "--json", "-")
    assert done.status == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("semantics", ["latency", "link", "blocking"])
def test_both_engines_print_the_same_numbers_and_their_own_name(alrsim: Any, semantics: str) -> None:
    slow, fast = (document(alrsim, "--transfer-semantics", semantics, "--engine", name) for name in ("simpy", "fast"))
    assert (slow["facts"].pop("engine"), fast["facts"].pop("engine")) == ("simpy", "fast")
    assert slow == fast


def test_a_small_problem_is_not_worth_loading_compiled_loops(alrsim: Any) -> None:
    assert document(alrsim)["facts"]["engine"] == "simpy"


def test_an_unknown_engine_is_refused_with_the_known_ones(alrsim: Any) -> None:
    done = alrsim(*TEXTBOOK, "--engine", "quick")
    assert done.status == 1
    assert "auto" in done.err
    assert "--engine" in done.err


def test_fast_is_refused_where_units_share_cores(alrsim: Any, graph_file: Any) -> None:
    common = ("compare", graph_file, "--hardware", "cpu-2core", "--units", "3", "--methods", "bp:1f1b,lr:lr-fixed")
    assert alrsim(*common, "--engine", "auto").status == 0
    done = alrsim(*common, "--engine", "fast")
    assert done.status == 1
    assert "share 2 cores" in done.err
