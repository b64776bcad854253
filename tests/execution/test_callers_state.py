"""A program that runs a schedule finds everything as it left it, whatever the executor and however the run ends."""

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings

import numpy
import pytest
import torch

from alrsim.execution.executor import Scheduled, execute_all, prepare
from alrsim.execution.executors import EXECUTORS, unavailable
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.session import RunError
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

HERE = [name for name in EXECUTORS if not unavailable(name)]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)


def state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return {
        "torch threads": torch.get_num_threads(),
        "switch interval": sys.getswitchinterval(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "cores": os.sched_getaffinity(0),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(one) for one in SIGNALS],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup": wakeup,
        "random": (random.getstate(), str(numpy.random.get_state()), torch.random.get_rng_state().tolist()),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "torch": (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cuda.matmul.allow_tf32,
        ),
        "ranks": torch.distributed.is_initialized(),
    }


def job_of(subject, problem_of, fault=None):
    one, options = subject("mlp", "layer", hidden=8, features=12), RuleOptions(microbatches=2, copies=2)
    graph = RULES["lr"](one.stages, options)
    problem = problem_of(graph, 2)

    def faulty(kernel):
        def run(step, index, id_):
            if str(id_).startswith("0F1") and not step.store.recording:
                raise fault
            kernel(step, index, id_)

        return run

    kernels = {kind: faulty(kernel) for kind, kernel in KERNELS.items()} if fault else KERNELS
    prepared = prepare(one.program, graph, one.batch(2), options, kernels=kernels)
    return Scheduled(prepared, problem, schedule(problem, "lr-free"))


@pytest.fixture
def unusual():
    """Settings that nobody has by accident."""
    before = torch.get_num_threads(), sys.getswitchinterval(), signal.getsignal(signal.SIGTERM), gc.get_threshold()
    torch.set_num_threads(2)
    sys.setswitchinterval(0.003)
    signal.signal(signal.SIGTERM, lambda *_: None)
    gc.set_threshold(701, 11, 9)
    yield
    torch.set_num_threads(before[0])
    sys.setswitchinterval(before[1])
    signal.signal(signal.SIGTERM, before[2])
    gc.set_threshold(*before[3])


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("fault", [None, ValueError("boom")], ids=["through", "failed"])
@pytest.mark.parametrize("frozen", [False, True], ids=["", "with objects of its own frozen"])
@pytest.mark.usefixtures("unusual")
def test_a_run_leaves_the_process_as_it_was(subject, problem_of, executor, fault, frozen):
    subject("mlp", "layer", hidden=8, features=12)  # the export is no part of it
    if frozen:
        gc.freeze()
    before = state()
    try:
        job = job_of(subject, problem_of, fault)
        if fault is None:
            execute_all([job], executor=executor, repeats=2)
        else:
            with pytest.raises(RunError):
                execute_all([job], executor=executor, repeats=2)
        after = state()
    finally:
        gc.unfreeze()
    before["threads"] = [name for name in before["threads"] if name in after["threads"]]  # of earlier tests: may end
    assert after == before
