"""A process that ends with its parent, in every order of events."""

import os
import threading
import time

_LOOK_SECONDS = 0.2


def end_with(parent: int) -> None:
    """End this process when its parent is gone, however it went; at once if it is gone already.

    (Linux could also be asked for a signal then, but sends it at the end of the thread that started this process.)

    Args:
        parent: Process id, as the parent itself knows it.
    """
    _look(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="alrsim-follow").start()


def _watch(parent: int) -> None:
    while True:
        _look(parent)
        time.sleep(_LOOK_SECONDS)


def _look(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)
