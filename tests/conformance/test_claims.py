"""One suite over every claim: where it is from, by which rule it is judged, and what measures it."""

import inspect
import re

import pytest

from alrsim.datasets import DATASETS
from alrsim.experiments.claim import CITATIONS, Claim, measure_of
from alrsim.experiments.measures.training import METHODS, SETTINGS
from alrsim.experiments.paper import FIGURE_3, TABLES
from alrsim.experiments.registry import CLAIMS
from alrsim.experiments.wording import AREAS
from alrsim.models import ZOO
from alrsim.quality.paper import ACC
from alrsim.training.table import LEARNERS

every = pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)


@every
def test_says_where_and_what(claim: Claim) -> None:
    assert re.fullmatch(r"(alr|ulr)\.[a-z0-9]+\.[a-z0-9-]+", claim.id)
    assert claim.id.startswith(claim.paper.lower())
    assert claim.paper in CITATIONS
    assert claim.where
    assert claim.unit
    assert claim.area in AREAS
    assert 8 < len(claim.text) <= 66, "one line of the picture"


@every
def test_is_measured_or_says_why_not(claim: Claim) -> None:
    assert bool(claim.measure) != bool(claim.missing)
    if claim.measure:
        function = measure_of(claim)
        inspect.signature(function).bind(None, **claim.arguments)
        assert inspect.getdoc(function)
        assert claim.rule.describe(claim.figure)


@every
def test_rule_and_figure_go_together(claim: Claim) -> None:
    if claim.rule.kind != "ordering":
        assert claim.figure is not None
    else:
        assert claim.rule.margin(1.0) == 0.0, "an ordering has no margin"


@every
def test_names_only_what_there_is(claim: Claim) -> None:
    given = claim.arguments
    assert set(claim.needs) <= {name for name, entry in DATASETS.items() if entry.needs_folder}
    assert given.get("setting", "cifar10") in SETTINGS
    if claim.measure.startswith("accuracy:"):
        assert {given.get(key, "LR") for key in ("first", "second", "column")} <= set(METHODS)
    if claim.measure == "gradients:table_order":
        assert {given["first"], given["second"]} <= set(ACC)
    if claim.measure == "accuracy:table_levels":
        assert set(TABLES[given["table"]]) <= set(METHODS)
        assert SETTINGS[given["setting"]].data in claim.needs


def test_differences_are_those_of_the_printed_tables() -> None:
    names = {"table 1": "tab1", "table 2": "tab2", "figure 3": "fig3"}
    checked = 0
    for claim in CLAIMS.values():
        for table, place in names.items():
            cells = TABLES[table]
            pair = [claim.arguments.get(key) for key in ("first", "second")]
            if claim.id.startswith(f"alr.{place}.") and claim.figure is not None and set(pair) <= set(cells):
                assert claim.figure == pytest.approx(cells[pair[0]] - cells[pair[1]], abs=0.051), claim.id
                checked += 1
    assert checked >= 17
    assert len(FIGURE_3) == 3


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_of_the_zoo_and_the_registries(name: str) -> None:
    setting = SETTINGS[name]
    assert DATASETS[setting.data].needs_folder
    assert setting.model in ZOO
    for job in (setting.quick, setting.full):
        assert job.model in ZOO
        assert set(job.model_options) <= set(ZOO[job.model].options)
        assert not DATASETS[job.data].needs_folder
        assert job.steps // job.eval_every >= 4, "early and fluctuation readings need rows"
    assert {method for method, _ in METHODS.values()} <= set(LEARNERS)
