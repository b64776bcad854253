"""The one family of dependency rules: BP, LR and everything between, by segmentation.

* a stage's gradient waits for the gradients of its consumers in the same segment; at the end of its segment it waits
  for the loss instead;
* a stage computes an input gradient only if a parameter lies above it in the same segment;
* one segment that reaches the loss is BP; every stage a segment of its own is LR.
"""

from collections.abc import Callable

from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.registry import Registry
from alrsim.rules.family import build_tasks
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import refuse_discrete_noise
from alrsim.rules.segmentation import segmentation_of, settle_options
from alrsim.tasks.taskgraph import TaskGraph

Rule = Callable[[StageGraph, RuleOptions], TaskGraph]


def bp(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Backpropagation: one segment that reaches the loss; tasks F, L, B, U."""
    return _build(graph, options, "bp")


def bp_split(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Backpropagation with the backward split in input gradient (I) and weight gradient (W)."""
    return _build(graph, options, "bp-split")


def lr(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Likelihood ratio: every stage a segment of its own; tasks F, L, G, U and C where cotangents accumulate."""
    return _build(graph, options, "alr" if options.signs else "lr")


def segments(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """LR signals at the ends of the given segments, BP inside them.

    Raises:
        OptionError: if ``options.segments`` is not given or not ascending.
    """
    if options.segments is None:
        raise OptionError(
            "rule segments needs the first stage of every segment after the first",
            field="segments",
            fix="for example `segments=2,4`; for none of them choose rule bp",
        )
    return _build(graph, options, "segments")


def _build(graph: StageGraph, options: RuleOptions, name: str) -> TaskGraph:
    segmentation = segmentation_of(name, graph, options)
    if not any(stage.parameters for stage in graph.stages):
        raise OptionError(f"{graph.name} has no parameters, so there is nothing to train", where=graph.name)
    noisy = [
        stage.index
        for stage in graph.stages
        if (segmentation.weight_noised[stage.index] and stage.jumps_inside)
        or (segmentation.noised[stage.index] and stage.jumps)
    ]
    refuse_discrete_noise(options, noisy, graph.name)
    settled = settle_options(options, segmentation)
    return build_tasks(graph, segmentation, settled, split=name == "bp-split", rule=name)


RULES: Registry[Rule] = Registry(
    "rule", {"bp": bp, "bp-split": bp_split, "lr": lr, "segments": segments}, "alrsim.rules"
)


__all__ = ["RULES", "Rule", "RuleOptions", "bp", "bp_split", "lr", "segments"]
