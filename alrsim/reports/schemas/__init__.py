"""The schemas (JSON Schema 2020-12) of everything that ``--json`` prints, one file per verb."""

import json
from importlib import resources
from typing import Any

from alrsim.errors import OptionError


def schema_names() -> tuple[str, ...]:
    """The verbs with a schema, sorted; ``hardware list`` is ``hardware-list``."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".schema.json") for name in files if name.endswith(".schema.json")))


def load_schema(verb: str) -> dict[str, Any]:
    """The schema of a verb's JSON.

    Raises:
        OptionError: a verb without one.
    """
    if verb not in schema_names():
        raise OptionError(f"there is no schema {verb!r}", fix=f"choose from {', '.join(schema_names())}")
    document: dict[str, Any] = json.loads((resources.files(__name__) / f"{verb}.schema.json").read_text("utf-8"))
    return document
