"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file.

The first line names the format and the SHA-256 of all that follows: tensors and plain values, read with
``weights_only=True``, so that nothing in it can run code. The file is written whole or not at all, and the one before
it is kept as ``FILE.previous``.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from alrsim.errors import FileError
from alrsim.estimators.monitor import SplitHalf
from alrsim.files import read_bytes
from alrsim.training.job import TrainJob, differences
from alrsim.training.log import Row
from alrsim.training.optimize import plain_state
from alrsim.training.state import TrainState
from alrsim.writing import check_folder, locked, make_folder, write_atomically

NAME = "alrsim.checkpoint/"
FORMAT = f"{NAME}3"

_REFUSED = (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch raises on a file, or on states, that are not its own."""


@dataclass(frozen=True)
class Checkpoint:
    """The fields of a file, of version 3. ``totals``: forwards, work, seconds; ``losses``: their sum and count."""

    format: str
    digest: str
    job: dict[str, Any]
    step: int
    parameters: dict[str, Any]
    buffers: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rows: list[Row]
    totals: tuple[float, float, float]
    losses: tuple[float, int]
    copies: int
    split: tuple[float, float, float]
    cosine: float | None
    measured: int
    decisions: list[str]
    log_sigma: Any
    sigma_optimizer: dict[str, Any] | None


def previous(path: Path) -> Path:
    """Where the checkpoint before ``path`` is kept."""
    return path.with_name(path.name + ".previous")


@contextmanager
def alone(folders: list[Path]) -> Iterator[None]:
    """Hold the folders that a run writes into; those that it made and left empty go again.

    Raises:
        FileError: another run holds one, or one cannot be written.
    """
    with ExitStack() as held:
        for folder in dict.fromkeys(Path(os.path.realpath(one)) for one in folders):
            check_folder(folder)
            if not folder.exists():
                held.callback(_remove_empty, folder)
            make_folder(folder)
            taken = "another train is writing into this folder"
            held.enter_context(locked(folder, taken, fix="wait for it, or choose another `out` or `checkpoint`"))
        yield


def save_checkpoint(path: Path, job: TrainJob, state: TrainState) -> None:
    """Write a checkpoint; the one that is there becomes the previous one.

    Raises:
        FileError: it cannot be written.
    """
    document = {
        "format": FORMAT,
        "digest": job.digest,
        "job": plain_state(job.identity),
        "step": state.step,
        "parameters": {name: value.detach() for name, value in state.parameters.items()},
        "buffers": dict(state.buffers),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": plain_state(state.scheduler.state_dict()),
        "rows": [asdict(row) for row in state.rows],
        "totals": [state.forwards, state.work, state.seconds],
        "losses": [state.loss_sum, state.loss_count],
        "copies": state.copies,
        "split": [state.split.product, state.split.first, state.split.second],
        "cosine": state.cosine,
        "measured": state.measured,
        "decisions": list(state.decisions),
        "log_sigma": state.log_sigma,
        "sigma_optimizer": None if state.sigma_optimizer is None else state.sigma_optimizer.state_dict(),
    }
    buffer = BytesIO()
    torch.save(document, buffer)
    if path.exists():  # copied, not renamed: there is a whole checkpoint at every moment
        write_atomically(previous(path), read_bytes(path))
    write_atomically(path, sealed(buffer.getvalue()))


def sealed(payload: bytes) -> bytes:
    """A file's content: its format and checksum, then the payload."""
    return f"{FORMAT} {sha256(payload).hexdigest()}\n".encode() + payload


def load_checkpoint(path: Path, job: TrainJob, state: TrainState) -> None:
    """Put a checkpoint into a fresh state of the same job.

    Raises:
        FileError: no file, one that is cut off or damaged, one of another job (named is what differs), or a field that
            does not fit (named is which).
    """
    found = read_checkpoint(path)
    if found.digest != job.digest:
        changed = differences(found.job, plain_state(job.identity))
        raise FileError(
            "was written by another job: " + "; ".join(changed or ["its options are those of another version"]),
            where=str(path),
            fix="give the options as they were, or begin anew with another `checkpoint`",
        )
    if found.step > job.steps:
        raise FileError(
            f"has done {found.step} steps, more than the {job.steps} asked for",
            where=str(path),
            fixes=[("steps", found.step)],
        )
    try:
        _put_tensors("parameters", found.parameters, state.parameters)
        _put_tensors("buffers", found.buffers, state.buffers)
        _put_optimizer("optimizer", found.optimizer, state.optimizer)
        _put("scheduler", state.scheduler.load_state_dict, found.scheduler)
        if state.log_sigma is not None and state.sigma_optimizer is not None:
            _put_tensors("log_sigma", {"": found.log_sigma}, {"": state.log_sigma})
            _put_optimizer("sigma_optimizer", found.sigma_optimizer, state.sigma_optimizer)
    except FileError as error:
        raise _damaged(path, error.what) from None
    state.step, state.copies, state.cosine = found.step, found.copies, found.cosine
    state.rows = list(found.rows)
    state.forwards, state.work, state.seconds = found.totals
    state.loss_sum, state.loss_count = found.losses
    state.split, state.measured = SplitHalf(*found.split), found.measured
    state.decisions = list(found.decisions)


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of a checkpoint file.

    Raises:
        FileError: no file, one that is cut off, damaged or something else, or a field that does not fit.
    """
    if not os.path.lexists(path):
        raise FileError("no such checkpoint", where=str(path), fix=_way_back(path) or "leave `resume` out to begin")
    content = _payload(path, read_bytes(path))
    try:
        document = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        return TypeAdapter(Checkpoint).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None
    except _REFUSED:
        raise _damaged(path, "it holds more than tensors and plain values") from None


def _payload(path: Path, data: bytes) -> bytes:
    head, _, content = data.partition(b"\n")
    words = head.decode("ascii", "replace").split(" ")
    if words == [FORMAT, sha256(content).hexdigest()]:
        return content
    if words[0] == FORMAT:
        raise _damaged(path, "its SHA-256 is not that of its content")
    if not head.startswith(NAME.encode()) and not data.startswith(b"PK"):
        raise _damaged(path, "it has no line of format")
    found = words[0] if head.startswith(NAME.encode()) else _old_format(data)
    fix = "begin anew, or go on with the version that wrote it" if found else "give a file that train wrote"
    raise FileError(
        f"is no {FORMAT}" + (f", it is {found}" if found else ""), where=str(path), fix=_way_back(path) or fix
    )


def _old_format(data: bytes) -> str:
    """What files of versions 1 and 2, which had no such line, say of themselves; empty: nothing."""
    with suppress(*_REFUSED):
        document = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
        return str(document.get("format", "")) if isinstance(document, dict) else ""
    return ""


def _damaged(path: Path, words: str) -> FileError:
    what = f"is damaged, cut off, or no checkpoint: {words}"
    return FileError(what, where=str(path), fix=_way_back(path) or "begin anew")


def _way_back(path: Path) -> str:
    """How to go on from the checkpoint before; empty: there is none, or it is damaged too."""
    before = previous(path)
    try:
        head, _, content = before.read_bytes().partition(b"\n")
    except OSError:
        return ""
    whole = head == sealed(content).partition(b"\n")[0]
    return f"mv {before} {path} goes back to the one before it" if whole else ""


def _put(name: str, load: Callable[[Any], Any], value: Any) -> None:
    try:
        load(value)
    except _REFUSED as error:
        raise FileError(f"{name}: {error}") from None


def _put_tensors(name: str, found: Mapping[str, Any], mine: Mapping[str, Tensor]) -> None:
    """Copy tensors of the same names, shapes and types."""
    other = sorted({*found} ^ {*mine})
    if other:
        raise FileError(f"{name}: {other[0]} is {'not known' if other[0] in found else 'missing'}")
    for key, value in mine.items():
        new, place = found[key], f"{name}.{key}" if key else name
        if not isinstance(new, Tensor) or (new.shape, new.dtype) != (value.shape, value.dtype):
            raise FileError(f"{place}: is not of shape {tuple(value.shape)} and {value.dtype}")
        with torch.no_grad():
            value.copy_(new)


def _put_optimizer(name: str, found: Any, mine: Optimizer) -> None:
    _put(name, mine.load_state_dict, found)
    for parameter, values in mine.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise FileError(f"{name}.{key}: is not of shape {tuple(parameter.shape)}")


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
