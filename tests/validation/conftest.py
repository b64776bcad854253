"""A grid that takes seconds: a small perceptron, two methods."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alrsim.validation.cells import Cell, Grid, ModelSpec
from alrsim.validation.journal import Header, Journal, open_journal
from alrsim.validation.records import Host
from alrsim.validation.run import Plan

TINY = ModelSpec("mlp", 4, (("hidden", "16"), ("depth", "3")))
CELLS = (Cell("mlp", 2, "bp:gpipe"), Cell("mlp", 2, "lr:lr-free", 1))
HOST = Host("cpu", "test", 1, "0", "0", "", "threads", 1, 0)


def tiny_plan(repeats: int = 3, **changes: object) -> Plan:
    grid = Grid("tiny", CELLS, repeats)
    return Plan(grid, CELLS, "threads", calibration_repeats=1, models={"mlp": TINY}, **changes)  # type: ignore[arg-type]


def tiny_journal(folder: Path | None, repeats: int = 3) -> Journal:
    return open_journal(folder, Header("tiny", repeats, 1, HOST))


@pytest.fixture
def plan() -> Callable[..., Plan]:
    return tiny_plan


@pytest.fixture
def journal() -> Callable[..., Journal]:
    return tiny_journal
