"""What several suites share: builders of small problems, and a process that Ctrl-C reaches."""

import copy
import gc
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from alrsim.graph.stages import StageGraph, chain
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.problem import Problem

TextbookBuilder = Callable[..., Problem]


def build_textbook(
    stages: int | StageGraph,
    units: int,
    microbatches: int,
    rule: str = "bp",
    *,
    f: int = 1,
    b: int = 1,
    w: int = 1,
    u: int = 0,
    l: int = 0,  # noqa: E741 - the key of --durations
    g: int | None = None,
    c: int = 0,
    transfer: int = 0,
    loss_unit: int | None = None,
    **options: Any,
) -> Problem:
    """A chain (or a given stage graph) with the same durations on every unit, as ``--durations`` builds it.

    Losses and updates are off and stage 0 has an input gradient unless ``options`` say otherwise.
    """
    graph = chain(stages) if isinstance(stages, int) else stages
    chosen: dict[str, Any] = {"first_input_gradient": True, "loss": False, "update": False, **options}
    tasks = RULES[rule](graph, RuleOptions(microbatches=microbatches, **chosen))
    ticks = {"F": f, "B": b + w, "I": b, "W": w, "U": u, "L": l, "G": w if g is None else g, "C": c}
    rows = {kind: (time,) * units for kind, time in ticks.items()}
    durations = tuple(rows[task.id.kind] for task in tasks.tasks)
    return Problem(tasks, abstract_machine(units, transfer), durations, "durations", loss_unit=loss_unit)


@pytest.fixture(scope="session")
def textbook() -> TextbookBuilder:
    """:func:`build_textbook`."""
    return build_textbook


@pytest.fixture
def interruptible() -> Iterator[None]:
    """This process, and programs that it starts, heed Ctrl-C: a shell starts its background jobs with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def what_stays_is_seldom_collected() -> Iterator[None]:
    """The garbage collector goes less often through half a million objects of torch and onnx.

    They are not frozen: a run must leave the number of frozen objects alone, and the first run changes some of these.
    """
    before = gc.get_threshold()
    gc.set_threshold(20_000, 50, 100)
    yield
    gc.set_threshold(*before)


@pytest.fixture(scope="session", autouse=True)
def kept_graphs_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Graphs of zoo models are kept in a folder that workers and child programs of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def translations_are_read_once() -> Iterator[None]:
    """Exports share torch's table of ONNX translations, which ``torch.onnx.export`` makes anew at every call.

    It parses the source of 500 functions for that: more than half the time of an export. An export adds its own
    translations to the table that it was given, so each gets a copy.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    make = cache(ONNXRegistry.from_torchlib)

    def copied(**named: int) -> ONNXRegistry:
        registry = copy.copy(make(**named))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield


@pytest.fixture(scope="session", autouse=True)
def operators_are_listed_once() -> Iterator[None]:
    """Exports ask torch for all its composite operators once per namespace, a few thousand look-ups each time: a tenth
    of the time of this suite. Here they are looked up again only when their number has changed."""
    import torch
    from torch._export import utils

    list_them, seen = utils._materialize_cpp_cia_ops, set()

    def listed() -> None:
        known = len(torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd"))
        if known not in seen:
            list_them()
            seen.add(known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_materialize_cpp_cia_ops", listed)
        yield
