"""The one family of dependency rules: BP, LR and everything between, by segmentation.

* a stage's gradient waits for the gradients of its consumers in the same segment; at the end of its segment it waits
  for the loss instead;
* a stage computes an input gradient only if a parameter lies above it in the same segment;
* one segment that reaches the loss is BP; every stage a segment of its own is LR.
"""

from collections.abc import Callable
from dataclasses import replace

from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.rules.family import build_tasks
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import cut_segments
from alrsim.tasks.taskgraph import TaskGraph

Rule = Callable[[StageGraph, RuleOptions], TaskGraph]


def bp(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Backpropagation: one segment that reaches the loss; tasks F, L, B, U."""
    return _build(graph, options, (), exact=True, name="bp")


def bp_split(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Backpropagation with the backward split in input gradient (I) and weight gradient (W)."""
    return _build(graph, options, (), exact=True, name="bp-split", split=True)


def lr(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """Likelihood ratio: every stage a segment of its own; tasks F, L, G, U and C where cotangents accumulate."""
    starts = tuple(range(1, len(graph.stages)))
    return _build(graph, options, starts, exact=False, name="alr" if options.signs else "lr")


def segments(graph: StageGraph, options: RuleOptions) -> TaskGraph:
    """LR signals at the ends of the given segments, BP inside them.

    Raises:
        OptionError: if ``options.segments`` is not given or not ascending.
    """
    if options.segments is None:
        raise OptionError(
            "rule segments needs the first stage of every segment after the first",
            where="--segments",
            fix="for example --segments 2,4; for none of them choose rule bp",
        )
    return _build(graph, options, options.segments, exact=options.exact_head, name="segments")


def _build(
    graph: StageGraph,
    options: RuleOptions,
    starts: tuple[int, ...],
    *,
    exact: bool,
    name: str,
    split: bool = False,
) -> TaskGraph:
    segmentation = cut_segments(graph, starts, exact=exact, options=options)
    if not any(stage.parameters for stage in graph.stages):
        raise OptionError(f"{graph.name} has no parameters, so there is nothing to train", where=graph.name)
    if segmentation.has_lr:
        options = replace(
            options, loss_gradient=options.loss_gradient and exact, loss_update=options.loss_update and exact
        )
    return build_tasks(graph, segmentation, options, split=split, rule=name)


RULES: dict[str, Rule] = {"bp": bp, "bp-split": bp_split, "lr": lr, "segments": segments}

__all__ = ["RULES", "Rule", "RuleOptions", "bp", "bp_split", "lr", "segments"]
