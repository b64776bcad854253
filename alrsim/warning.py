"""Warnings: what a user should know goes through Python's own channel, named by one category."""

import sys
import warnings

from alrsim.errors import AlrsimWarning, printable

_PACKAGE = __name__.partition(".")[0]


def warn(message: str) -> None:
    """Warn of something, at the line outside this package that called into it."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(printable(message), AlrsimWarning, stacklevel=depth)
