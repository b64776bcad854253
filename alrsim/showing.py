"""How results are shown: each finds its renderer by its kind in a table that the reports fill.

This is the one upward step of the package: values know nothing of tables and pictures, and load what draws them when
somebody looks (:data:`TABLE`, by name).
"""

from collections.abc import Mapping
from html import escape
from importlib import import_module
from typing import Any, ClassVar, Protocol

from alrsim.errors import printable
from alrsim.extras import require

TABLE = "alrsim.reports.renderers"
"""Module whose ``RENDERERS`` maps a kind to a :class:`Renderer`."""

MOST_HTML = 200_000
"""Characters of a notebook's view of a result."""


class Renderer(Protocol):
    """What can be shown of one kind of result."""

    def text(self, value: Any) -> str:
        """For a terminal."""

    def rows(self, value: Any) -> list[dict[str, Any]]:
        """One flat row per line of a data frame."""

    def draw(self, value: Any, axes: Any = None) -> Any:
        """Draw into matplotlib axes; new ones if none are given."""

    def files(self, value: Any) -> Mapping[str, bytes]:
        """Pictures and traces by file name."""


class Shown:
    """Something that can be looked at."""

    kind: ClassVar[str]

    def table(self) -> str:
        """The result for a terminal."""
        return printable(renderer(self).text(self))

    def frame(self) -> Any:
        """The result as a pandas data frame.

        Raises:
            OptionError: pandas is not installed.
        """
        require("pandas", "a frame")
        return import_module("pandas").DataFrame(renderer(self).rows(self))

    def plot(self, ax: Any = None) -> Any:
        """The result drawn with matplotlib.

        Args:
            ax: Axes to draw into; ``None``: new ones.

        Returns:
            The axes.
        """
        return renderer(self).draw(self, ax)

    def _repr_html_(self) -> str:
        text = self.table()
        cut = text if len(text) < MOST_HTML // 2 else text[: MOST_HTML // 2] + "\n..."
        return f"<pre>{escape(cut)}</pre>"


def renderer(value: Shown) -> Renderer:
    """What shows a value."""
    found: Renderer | str = import_module(TABLE).RENDERERS[value.kind]
    return load_attribute(found) if isinstance(found, str) else found


def load_attribute(path: str) -> Any:
    """What an import path such as ``package.module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def files(value: Shown) -> Mapping[str, bytes]:
    """Pictures and traces of a value, by file name."""
    return renderer(value).files(value)
