"""What a renderer is made of, and what those of several kinds share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alrsim.errors import OptionError


@dataclass(frozen=True)
class Parts:
    """A renderer made of functions."""

    text: Callable[[Any], str]
    rows: Callable[[Any], list[dict[str, Any]]]
    draw: Callable[..., Any]
    files: Callable[[Any], Mapping[str, bytes]]


def axes_or_new(axes: Any) -> Any:
    """Axes to draw into: those of the caller, or of a new figure."""
    if axes is not None:
        return axes
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(11, 3))[1]


def no_picture(result: Any, axes: Any = None) -> Any:
    """Refuses: there is nothing to draw.

    Raises:
        OptionError: always.
    """
    raise OptionError(f"a {result.kind} result has no picture")


def no_files(result: Any) -> dict[str, bytes]:
    """Nothing beside the JSON."""
    return {}
