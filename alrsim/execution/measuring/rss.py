"""Resident memory of this process, as the kernel counts it: everything, Python and torch themselves included."""

import sys
from pathlib import Path

from alrsim.units import Bytes

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_rss() -> Bytes:
    """Most resident bytes of this process since it began or :func:`reset_peak_rss`; 0 where nothing tells.

    Linux: ``VmHWM``. Elsewhere: ``getrusage``, which cannot be reset (kibibytes, on macOS bytes). A forked process
    begins with what its parent had resident.
    """
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return _usage()


def reset_peak_rss() -> bool:
    """Let the peak begin again at what is resident now; ``False`` where the system does not allow it."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _usage() -> Bytes:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
