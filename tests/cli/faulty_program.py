"""``python faulty_program.py MARKER [ALRSIM ARGUMENTS]``: alrsim, with a task that hangs the third time that it runs.

The first time is the recording pass, the second the warm-up. The task makes the file MARKER before it hangs. What it is
told to print stays in the buffer, as the output of a script does whose reader is no terminal.
"""

import os
import sys
import time

import torch

from alrsim.cli.main import main
from alrsim.execution.kernels.registry import KERNELS

TOKEN, WHEN = "1F2", 3


def planted(kernel, marker):
    calls = []

    def run(run_, index, id_):
        if str(id_) == TOKEN:
            calls.append(1)
            if len(calls) == WHEN:
                with open(marker, "w", encoding="ascii") as file:
                    file.write(str(os.getpid()))
                time.sleep(600)
        kernel(run_, index, id_)

    return run


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind, kernel in list(KERNELS.items()):
        KERNELS[kind] = planted(kernel, sys.argv[1])
    print("printed once")
    main(sys.argv[2:])
