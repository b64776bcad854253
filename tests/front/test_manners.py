"""A verb leaves the process as it found it."""

import gc
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

import alrsim as al
from alrsim.errors import OptionError


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(al.AlrsimError):
        call()


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)

TRACE = min((Path(__file__).parents[2] / "traces").rglob("*.json.gz"), key=lambda one: one.stat().st_size)

VERBS: dict[str, Callable[[], Any]] = {
    "compare": lambda: al.compare("mlp", "h100", units=2, methods=["bp:1f1b", "lr:lr-fixed"]),
    "compare measured": lambda: al.compare("mlp", methods=["bp:1f1b"], measure=True, repeats=1),
    "step": lambda: al.step("mlp", "h100", "bp:zb-h1", units=2),
    "execute": lambda: al.execute("mlp", method="bp:gpipe", repeats=1),
    "execute in processes": lambda: al.execute("mlp", method="bp:gpipe", repeats=1, executor="processes"),
    "simulate": lambda: al.simulate(durations="f=1,b=1", method="bp:1f1b", units=2),
    "textbook": lambda: al.textbook(f=1, b=1, units=2),
    "calibrate": lambda: al.calibrate(al.step("mlp", "cpu-2core"), executor="threads", repeats=1),
    "figure2": lambda: al.figure2(),
    "sweep": lambda: al.sweep("compare", {"units": [1, 2]}, {"model": "mlp", "hardware": "h100"}, workers=1),
    "plan": lambda: al.plan(durations="f=1,b=1,w=1", units=2),
    "explain": lambda: al.explain(al.textbook("bp:1f1b", f=1, b=1, units=2)),
    "gradcheck": lambda: al.gradcheck("mlp", option={"hidden": "8"}, methods=["lr"], copies=[2], draws=2, batch=4),
    "trajectory": lambda: al.trajectory(steps=10),
    "train": lambda: al.train("mlp", option={"hidden": "8"}, steps=2),
    "validate": lambda: al.validate(list=True),
    "replay": lambda: al.replay(TRACE),
    "reproduce": lambda: al.reproduce(list=True),
    "load": lambda: al.load_machine("h100"),
    "an error": lambda: refused(lambda: al.compare("nothing")),
    "an error while running": lambda: refused(lambda: al.execute("mlp", method="bp:gpipe", batch=7)),
}


def state() -> dict[str, Any]:
    """What a verb must not change."""
    return {
        "threads of torch": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "format": torch.get_default_dtype(),
        "random numbers of torch": hash(torch.get_rng_state().numpy().tobytes()),
        "random numbers of numpy": hash(repr(np.random.get_state())),
        "random numbers of Python": hash(random.getstate()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {one: signal.getsignal(one) for one in SIGNALS},
        "log level": logging.getLogger().level,
        "handlers": list(logging.getLogger().handlers),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "settings of matplotlib": dict(matplotlib.rcParams),
        "cores": os.sched_getaffinity(0),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_leaves_everything_as_it_was(name: str) -> None:
    al.compare("mlp", "h100", units=1, methods=["bp:serial"])  # what is imported once is imported now
    before, threads = state(), {one.name for one in threading.enumerate()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", al.AlrsimWarning)
        VERBS[name]()
    after = state()
    assert {key for key in before if before[key] != after[key]} == set()
    assert {one.name for one in threading.enumerate() if one.name.startswith("alrsim")} <= threads


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("compare", "simulate", "execute", "figure2"):
        VERBS[name]()
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_who_asks() -> None:
    heard: list[Any] = []
    al.compare("mlp", "h100", units=2, methods=["bp:1f1b", "bp:gpipe"], progress=heard.append)
    assert [(one.title, one.step) for one in heard if one.title == "predict"] == [
        ("predict", "bp:1f1b"),
        ("predict", "bp:gpipe"),
        ("predict", ""),
    ]


def test_an_error_names_the_keyword_and_what_would_do() -> None:
    with pytest.raises(al.AlrsimError) as found:
        al.compare("mlp", copies=0)
    assert found.value.field == "copies"
    with pytest.raises(al.AlrsimError, match=r"choose from .*microbatches"):
        al.compare("mlp", microbatch=4)
    with pytest.raises(al.AlrsimError, match="zb-h1") as wrong:
        al.compare("mlp", methods=["bp:zb-h"])
    assert wrong.value.field == "methods"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"units": "2"}, "units: is '2', must be a whole number"),
        ({"units": True}, "units: is True, must be a whole number"),
        ({"units": 2.0}, "units: is 2.0, must be a whole number"),
        ({"microbatches": [2]}, r"microbatches: is \[2\], must be a whole number"),
        ({"update": 1}, "update: is 1, must be True or False"),
        ({"measure": "yes"}, "measure: is 'yes', must be True or False"),
    ],
)
def test_a_keyword_of_the_wrong_type_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        al.compare("mlp", **given)


def test_numbers_of_numpy_are_numbers() -> None:
    result = al.simulate(durations="f=1,b=1", method="bp:1f1b", units=np.int64(2), microbatches=np.int32(2))
    assert result.makespan == 6
