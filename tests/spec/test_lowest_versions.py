"""The versions that ``make test-lowest`` installs are the lowest that pyproject.toml allows."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def test_what_is_tested_lowest_is_what_is_allowed_lowest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        Requirement(one) for one in [*project["dependencies"], *extras["search"], *extras["frame"], *extras["cluster"]]
    ]
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tested = [Requirement(line) for line in lines if not line.startswith("#")]
    lowest = {one.name.lower(): _version(one, "==") for one in tested}
    assert {one.name.lower(): _version(one, ">=") for one in asked}.items() <= lowest.items()
    assert set(lowest) - {one.name.lower() for one in asked} == {"distributed"}  # of dask[distributed]


def _version(one: Requirement, operator: str) -> Version:
    return next(Version(found.version) for found in one.specifier if found.operator == operator)
