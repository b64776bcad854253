"""Measured costs as plain JSON and back, so that several programs can decide on the very same numbers."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts

TABLES = ("isolated", "busy", "spread", "samples", "scratch")
"""Fields by cost key: JSON has no such keys."""


def costs_to_json(costs: MeasuredCosts) -> dict[str, Any]:
    """Every field; tables as pairs of key and value."""
    document = {one.name: getattr(costs, one.name) for one in fields(costs)}
    tables: dict[str, Any] = {name: [[list(key), value] for key, value in document[name].items()] for name in TABLES}
    return {**document, **tables, "links": [asdict(link) for link in costs.links], "host": asdict(costs.host)}


def costs_from_json(document: Mapping[str, Any]) -> MeasuredCosts:
    """The inverse of :func:`costs_to_json`, after the numbers went through JSON text."""
    tables = {name: {tuple(key): value for key, value in document[name]} for name in TABLES}
    links = tuple(
        LinkFit(**{**link, "points": tuple(tuple(point) for point in link["points"])}) for link in document["links"]
    )
    parts = {**tables, "links": links, "host": HostLoad(**document["host"]), "notes": tuple(document["notes"])}
    return MeasuredCosts(**{**document, **parts})
