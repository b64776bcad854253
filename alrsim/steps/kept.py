"""Operator graphs of zoo models, kept from one program to the next: torch exports in seconds, a file is read in
milliseconds.

A graph depends on the model's name and options, the number of samples, and the code that makes it. All are part of the
path, so that what is out of date is never found; what is damaged is made again.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from os.path import isdir
from pathlib import Path

from alrsim.compiled import sources
from alrsim.errors import AlrsimError
from alrsim.files import load_value, save_value
from alrsim.graph.graph import Graph
from alrsim.writing import cache_folder, make_folder

MOST = 256
"""Files of one model; the oldest go."""


def kept_folder(name: str, option: Mapping[str, object]) -> Path:
    """Where the graphs of a zoo model lie, a file per number of samples."""
    key = sha256(repr((sorted((key, str(value)) for key, value in option.items()), _makers())).encode())
    return cache_folder() / "graphs" / f"{name}-{key.hexdigest()[:16]}"


def is_kept(folder: Path) -> bool:
    """Whether the name and the options that make this folder were once looked at and found good."""
    return isdir(folder)


def kept_graph(folder: Path, samples: int) -> Graph | None:
    """The graph that is kept, if one is."""
    path = folder / f"{samples}.json"
    with suppress(AlrsimError, OSError):
        return load_value("graph", Graph, path) if path.is_file() else None
    return None


def keep_graph(folder: Path, samples: int, graph: Graph) -> None:
    """Keep a graph; a folder that cannot be written to is no reason to stop."""
    with suppress(AlrsimError, OSError):
        make_folder(folder)
        save_value("graph", graph, folder / f"{samples}.json")
        aged = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in aged[:-MOST]:
            path.unlink(missing_ok=True)


@cache
def _makers() -> tuple[str, ...]:
    """What graphs are made by: the packages, and our own files."""
    package = Path(__file__).parent.parent
    own = tuple(sources(package / room) for room in ("frontend", "graph", "models"))
    return tuple(f"{name} {version(name)}" for name in ("torch", "onnx", "onnxscript", "onnx-ir")) + own
