"""Keep freed memory in the process, as device allocators do.

By default glibc gives large blocks back to the system at once, and every task that writes a fresh buffer pays page
faults: 15,000 of them, a quarter of the step, in a trial with ResNet-5, and a different number under every schedule.
Kept blocks make a task cost the same wherever it runs.
"""

import ctypes
from functools import cache

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -3, -1, -2, -8
_LARGEST_THRESHOLD = 32 << 20  # glibc's own maximum on 64 bits


@cache
def keep_freed_memory() -> bool:
    """Set glibc's allocator once for this process; ``False`` where the C library is another one."""
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wishes = (
        (_MMAP_THRESHOLD, _LARGEST_THRESHOLD),
        (_TRIM_THRESHOLD, 2**31 - 1),
        (_TOP_PAD, 64 << 20),
        (_ARENA_MAX, 1),  # blocks that one worker freed serve the others
    )
    accepted = [bool(adjust(option, value)) for option, value in wishes]
    return all(accepted)
