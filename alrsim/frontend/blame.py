"""Which line of the user's own code an exception came from."""

import sysconfig
import traceback
from pathlib import Path

import torch

from alrsim.errors import ModelError

_OTHERS = (str(Path(__file__).parent), str(Path(torch.__file__).parent), sysconfig.get_path("stdlib"), "<")


def blamed(error: BaseException, what: str, where: str, fix: str, *, cause: str = "") -> ModelError:
    """The user error for an exception that the user's own code raised; names the line, where there is one.

    Args:
        what: What is wrong; the cause follows.
        where: What is to blame where no line of the user's is.
        fix: What the user can do.
        cause: In words; default: the exception's own.
    """
    at, line = _user_line(error)
    return ModelError(
        f"{what}: {cause or _first_line(error)}" + (f" in `{line}`" if line else ""), where=at or where, fix=fix
    )


def _user_line(error: BaseException) -> tuple[str, str]:
    """``("file.py:12", "if x.sum() > 0:")`` of the innermost frame outside torch, alrsim's frontend, the standard
    library and installed packages; two empty strings if there is none. A syntax error is blamed on its own line.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}", (error.text or "").strip()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_user_code(frame.filename):
            return f"{frame.filename}:{frame.lineno}", (frame.line or "").strip()
    return "", ""


def _first_line(error: BaseException) -> str:
    """``"ValueError: too big"``: the type and the first line that says something."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_user_code(filename: str) -> bool:
    return not filename.startswith(_OTHERS) and "site-packages" not in filename
