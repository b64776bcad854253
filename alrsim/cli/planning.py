"""Every method of a comparison, planned: the part of the way that is the same with and without measuring."""

from collections.abc import Sequence
from dataclasses import dataclass

from alrsim.cli.model import LoadedModel
from alrsim.cli.output import progress, warn
from alrsim.cli.parse import MethodName
from alrsim.cli.pipeline import Planned, Settings, cut_spec, cut_stages, plan_method
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import Profile

BATCH_STATISTICS = ("BatchNormalization",)


@dataclass(frozen=True)
class Setup:
    """What all methods of a comparison share."""

    loaded: LoadedModel
    settings: Settings
    profile: Profile
    machine: Machine


def stage_graphs(setup: Setup, methods: Sequence[MethodName]) -> dict[str, StageGraph]:
    """One stage graph per cut that the methods need; methods with the same cut share it."""
    specs = dict.fromkeys(cut_spec(setup.settings, method, len(setup.machine.units)) for method in methods)
    return {spec: cut_stages(setup.loaded.graph, spec) for spec in specs}


def plan_all(setup: Setup, methods: Sequence[MethodName]) -> list[Planned]:
    """Cut, schedule and simulate every method."""
    planned = []
    with progress(len(methods) + 1, "predict") as step:
        step("cut")
        stages = stage_graphs(setup, methods)
        for method in methods:
            step(method.label)
            planned.append(
                plan_method(setup.loaded.graph, method, setup.settings, setup.profile, setup.machine, stages=stages)
            )
    warn_batch_statistics(setup.loaded.graph, methods)
    return planned


def warn_batch_statistics(graph: Graph, methods: Sequence[MethodName]) -> None:
    """LR copies that share a BatchNorm's statistics are not independent; say so once."""
    normed = any(op.kind in BATCH_STATISTICS for op in graph.ops)
    if normed and any(method.is_lr for method in methods):
        warn("the model has batch normalisation, which mixes LR's copies; for LR use --option norm=group (or none)")
