"""Libraries that not everybody needs: which extra of the package brings each, and what is said where it is missing."""

from importlib.util import find_spec

from alrsim.errors import OptionError
from alrsim.warning import warn

EXTRAS = {"ortools": ("OR-Tools", "search"), "pandas": ("pandas", "frame"), "dask": ("Dask", "cluster")}
"""Name and extra of every optional library, by what it is imported as."""


def has(library: str) -> bool:
    """Whether a library is installed; nothing is imported."""
    return find_spec(library) is not None


def require(library: str, what: str) -> None:
    """Refuse what cannot be done without a library.

    Args:
        what: What needs it.

    Raises:
        OptionError: says how to get it.
    """
    if not has(library):
        raise OptionError(f"{what} needs {EXTRAS[library][0]}, which is not installed", fix=install(library))


def install(library: str) -> str:
    """The command that installs a library."""
    return f"pip install 'alrsim[{EXTRAS[library][1]}]'"


def did_without(library: str, who: str) -> None:
    """Warn that somebody did less than could be done."""
    warn(f"{who} did without {EXTRAS[library][0]}, which is not installed: {install(library)}")
