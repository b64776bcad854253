"""No part of a profile accepts a key that it does not know, and no edit of a file gives anything but an AlrsimError."""

from contextlib import suppress
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.errors import AlrsimError
from alrsim.hardware.profile import key_path, machine_from, profile_folder, read_profile, shipped_names

TEXTS = {name: (profile_folder() / f"{name}.yaml").read_text(encoding="utf-8") for name in shipped_names()}


def sections(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Key paths of all mappings."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    own = [path] if isinstance(value, dict) else []
    return own + [found for key, child in children for found in sections(child, (*path, key))]


PLACES = [(name, path) for name, text in TEXTS.items() for path in sections(yaml.safe_load(text))]


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.sampled_from(PLACES), st.from_regex(r"[a-z]{3,8}_(gb|tb|hz)x", fullmatch=True), st.sampled_from([1, "x", {}, []])
)
def test_an_unknown_key_is_refused_wherever_it_stands_with_its_path(
    place: tuple[str, tuple[str | int, ...]], key: str, value: object
) -> None:
    name, path = place
    document = yaml.safe_load(TEXTS[name])
    section = document
    for part in path:
        section = section[part]
    section[key] = value
    faults, profile = read_profile(yaml.safe_dump(document), name)
    assert profile is None
    assert key_path((*path, key)) in [key_path(fault.path) for fault in faults]
    assert all(fault.message for fault in faults)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.data())
def test_a_damaged_file_is_refused_or_makes_a_machine_and_never_anything_else(name: str, data: st.DataObject) -> None:
    text = TEXTS[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = text[:start] + data.draw(st.text(alphabet=" \n:-{}[]&*!'\"#0a.\t%@|>", max_size=5)) + text[end:]
    faults, profile = read_profile(damaged, name)
    assert (profile is None) == bool(faults)
    if profile is not None:
        with suppress(AlrsimError):
            assert machine_from(profile).units
