"""Every method of a comparison, planned: the part of the way that is the same with and without measuring."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alrsim.cli.model import LoadedModel
from alrsim.cli.output import progress, warn
from alrsim.cli.parse import MethodName
from alrsim.cli.pipeline import Planned, Settings, cut_for, plan_method, rule_options
from alrsim.graph.graph import Graph
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


def plan_all(setup: Setup, methods: Sequence[MethodName]) -> list[Planned]:
    """Cut, schedule and simulate every method."""
    planned = []
    graph, settings, profile, machine = setup.loaded.graph, setup.settings, setup.profile, setup.machine
    with progress(len(methods), "predict") as step:
        for method in methods:
            step(method.label)
            rule_options(settings, method)  # refuse what makes no sense before anything slow
            stages = cut_for(graph, method, settings, profile, machine)
            planned.append(plan_method(stages, method, settings, profile, machine))
    if len({one.problem.cost_model for one in planned}) > 1:
        # Two cost models side by side would compare their errors.
        planned = [
            plan_method(p.stages, p.method, replace(settings, cost="roofline"), profile, machine) for p in planned
        ]
        warn(f"{profile.name} has not measured every method: all are predicted by its roofline")
    for note in dict.fromkeys(note for one in planned for note in one.notes):
        warn(note)
    warn_batch_statistics(graph, methods)
    return planned


def warn_batch_statistics(graph: Graph, methods: Sequence[MethodName]) -> None:
    """LR copies that share a BatchNorm's statistics are not independent; say so once."""
    normed = any(op.kind in BATCH_STATISTICS for op in graph.ops)
    if normed and any(method.is_lr for method in methods):
        warn("the model has batch normalisation, which mixes LR's copies; for LR use --option norm=group (or none)")
