"""Pickled arrays without trusting the file.

CIFAR and Planetoid's Cora are distributed as Python pickles, and unpickling runs whatever a file asks for. Here a file
may ask for a handful of names, and even these are stand-ins written below: no code of numpy or scipy is handed anything
by the file. What comes out is dictionaries, lists, numbers, bytes and numpy arrays of plain numbers.
"""

import io
import pickle
import re
from collections import defaultdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alrsim.datasets.folders import Layout, corrupt, read
from alrsim.errors import FileError

Array = NDArray[Any]

MOST_ELEMENTS = 100_000_000
"""Of a matrix that a file keeps sparse: 25 times the largest of the data sets."""


class _RefusedError(Exception):
    """A file asks for a name that no data need."""


class _Dtype:
    """Stands in for ``numpy.dtype``: a type code and a byte order."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def resolve(self) -> "np.dtype[Any]":
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", self.code) or self.order not in "<>|=":
            raise _RefusedError(f"an array of type {self.code!r}")
        dtype: np.dtype[Any] = np.dtype(self.code)
        return dtype if self.order in "|=" else dtype.newbyteorder("<" if self.order == "<" else ">")


class _Array:
    """Stands in for ``numpy.ndarray``; its state is ``(version, shape, dtype, fortran order, bytes)``."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise _RefusedError("an array that is not plain numbers")
        self.value = np.frombuffer(raw, dtype.resolve()).reshape(shape, order="F" if fortran else "C")


class _Sparse:
    """Stands in for ``scipy.sparse.csr_matrix``; its state is its attributes."""

    def __setstate__(self, state: Any) -> None:
        self.state = {_text(key): value for key, value in dict(state).items()}

    def dense(self) -> Array:
        """The matrix; indices outside it raise."""
        shape: Any = self.state.get("_shape", self.state.get("shape"))
        data, columns, starts = (_plain(self.state[key]) for key in ("data", "indices", "indptr"))
        if prod(shape) > MOST_ELEMENTS:
            words = "x".join(map(str, shape))
            raise _RefusedError(f"a matrix of {words} elements, at most {MOST_ELEMENTS:,} are made")
        matrix = np.zeros(shape, dtype=np.float32)
        if len(starts) != shape[0] + 1 or starts[-1] != len(columns) or (columns < 0).any():
            raise ValueError("sparse matrix with wrong bounds")
        rows = np.repeat(np.arange(shape[0]), np.diff(starts))
        np.add.at(matrix, (rows, columns), data)
        return matrix


def _reconstruct(kind: Any, *_empty: Any) -> _Array:
    if kind is not _Array:
        raise _RefusedError("an array of a special class")
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return array


def _new(kind: Any, *_base: Any) -> Any:
    if kind not in (_Array, _Sparse):
        raise _RefusedError("an object of an unknown class")
    return kind()


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes in old pickles."""
    if encoding != "latin1" or not isinstance(text, str):
        raise _RefusedError(f"text coded as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How Python 3 writes empty bytes in old pickles; a size to allocate is not taken."""
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("scipy.sparse.csr", "csr_matrix"): _Sparse,
    ("scipy.sparse._csr", "csr_matrix"): _Sparse,
    **{(module, "_reconstructor"): _new for module in ("copy_reg", "copyreg")},
    **{(module, kind.__name__): kind for module in ("__builtin__", "builtins") for kind in (object, list)},
    **{(module, "bytes"): _no_bytes for module in ("__builtin__", "builtins")},
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Called for every name that the file asks for, before anything is imported."""
        try:
            return _NAMES[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


def read_pickle(path: Path, layout: Layout) -> Any:
    """What the file holds; byte strings of Python 2 stay bytes, keys of dictionaries become text.

    Raises:
        FileError: missing or cut off, or the file asks for anything but plain data: nothing of it is run.
    """
    data = read(path, layout)
    try:
        return _plain(_Reader(io.BytesIO(data), encoding="bytes").load())
    except _RefusedError as refused:
        raise FileError(
            f"{layout.dataset}: the pickle asks for {refused}, which these data do not need; nothing of it was run",
            where=str(path),
            fix=f"do not trust this file: {layout.fix}",
        ) from None
    except Exception as error:  # a damaged pickle makes the unpickler raise whatever comes to its mind
        raise corrupt(path, layout, f"cannot be unpickled: {error or type(error).__name__}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Sparse):
        return value.dense()
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    return value


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value
