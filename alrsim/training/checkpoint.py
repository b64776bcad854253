"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file.

The file holds tensors and plain values only and is read with ``weights_only=True``: nothing in it can run code. It is
written whole or not at all, and the one before it is kept as ``FILE.previous``.
"""

import pickle
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from alrsim.errors import FileError
from alrsim.estimators.monitor import SplitHalf
from alrsim.files import write_atomically
from alrsim.training.job import TrainJob, differences
from alrsim.training.log import Row
from alrsim.training.optimize import plain_state
from alrsim.training.state import TrainState

FORMAT = "alrsim.checkpoint/2"


def previous(path: Path) -> Path:
    """Where the checkpoint before ``path`` is kept."""
    return path.with_name(path.name + ".previous")


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
        write_atomically(previous(path), path.read_bytes())
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, job: TrainJob, state: TrainState) -> None:
    """Put a checkpoint into a fresh state of the same job.

    Raises:
        FileError: no file, a file that is cut off, or one of another job; the last names what differs.
    """
    document = read_checkpoint(path)
    if document["digest"] != job.digest:
        found = differences(document["job"], plain_state(job.identity))
        raise FileError(
            "was written by another job: " + "; ".join(found or ["its options are those of another version"]),
            where=str(path),
            fix="give the options as they were, or begin anew with another `checkpoint`",
        )
    if document["step"] > job.steps:
        raise FileError(
            f"has done {document['step']} steps, more than the {job.steps} asked for",
            where=str(path),
            fixes=[("steps", document["step"])],
        )
    with torch.no_grad():
        for name, value in document["parameters"].items():
            state.parameters[name].copy_(value)
    state.buffers = dict(document["buffers"])
    state.optimizer.load_state_dict(document["optimizer"])
    state.scheduler.load_state_dict(document["scheduler"])
    state.step, state.copies, state.cosine = document["step"], document["copies"], document["cosine"]
    state.rows = [Row(**row) for row in document["rows"]]
    state.forwards, state.work, state.seconds = document["totals"]
    state.loss_sum, state.loss_count = document["losses"]
    state.split, state.measured = SplitHalf(*document["split"]), document["measured"]
    state.decisions = list(document["decisions"])
    if state.log_sigma is not None and state.sigma_optimizer is not None:
        state.log_sigma.copy_(document["log_sigma"])
        state.sigma_optimizer.load_state_dict(document["sigma_optimizer"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file.

    Raises:
        FileError: no file, or one that is cut off or something else.
    """
    before = previous(path)
    fix = f"mv {before} {path} goes back to the one before it" if before.exists() else ""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileError("no such checkpoint", where=str(path), fix=fix or "leave `resume` out to begin") from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=str(path)) from None
    try:
        document: dict[str, Any] = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise FileError("is cut off, or no checkpoint", where=str(path), fix=fix or "begin anew") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        fix = "begin anew, or go on with the version that wrote it" if found else "give a file that train wrote"
        raise FileError(f"is no {FORMAT}" + (f", it is {found}" if found else ""), where=str(path), fix=fix)
    return document
