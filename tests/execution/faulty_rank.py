"""A program for torchrun: the alrsim command with a task that goes wrong: ``faulty_rank.py FAULT TOKEN ARGUMENT...``.

The fault happens on the rank that has the task, in the second timed run. ``absent``: the rank never joins.
"""

import os
import signal
import sys
import time

import torch

from alrsim.cli.main import main
from alrsim.execution.kernels.registry import KERNELS

fault, token, *arguments = sys.argv[1:]
sys.argv[1:] = arguments
calls = []


def hang_with_the_interpreter():
    import ctypes

    ctypes.PyDLL(None).sleep(600)  # a PyDLL call keeps the interpreter's lock


FAULTS = {
    "raise": lambda: (_ for _ in ()).throw(ValueError("boom")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(600),
    "seize": hang_with_the_interpreter,
    "memory": lambda: torch.ones(1 << 60),
}


def with_fault(kernel):
    def run(step, index, id_):
        if str(id_) == token and not step.store.recording:
            calls.append(1)
            if len(calls) == 2:
                print(f"fault at {time.time()}", file=sys.__stdout__, flush=True)
                FAULTS[fault]()
        kernel(step, index, id_)

    return run


if fault == "absent" and os.environ["RANK"] == "1":
    time.sleep(600)
for kind, kernel in list(KERNELS.items()):
    KERNELS[kind] = with_fault(kernel)
main(arguments)
