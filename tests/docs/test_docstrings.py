"""Examples in docstrings print what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import alrsim

ROOT = Path(alrsim.__file__).parent
MODULES = [
    ".".join(("alrsim", *path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.rglob("*.py"))
    if "\n>>> " in (text := path.read_text(encoding="utf-8")) or "    >>> " in text
]


def test_some_modules_have_examples() -> None:
    assert "alrsim.hardware.machine" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
