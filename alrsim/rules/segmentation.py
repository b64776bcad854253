"""Which stages form a segment, and what follows from it: who injects noise, who has a gradient, who passes it on.

A segment is a run of stages inside which BP carries the gradient; the LR signal starts at its end. One segment that
reaches the loss is BP; every stage a segment of its own is LR.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alrsim.errors import OptionError
from alrsim.graph.stages import MODEL_INPUT, StageGraph
from alrsim.rules.options import RuleOptions


@dataclass(frozen=True)
class Segmentation:
    """The segmentation of a stage graph and its consequences, per layer stage.

    Attributes:
        segment: Segment index per stage.
        exact: The last segment includes the loss module: its cotangent is exact.
        trainable: Whether a gradient task exists: the stage has parameters, or must pass a gradient up.
        passes: Whether it computes its input gradient (a parameter lies above it in its segment).
        noised: Values that leave an LR segment with trainable parameters, per stage: ``(name, elements)``.
        ranks: Rank among the LR segments that inject noise, by segment index.
    """

    segment: tuple[int, ...]
    exact: bool
    trainable: tuple[bool, ...]
    passes: tuple[bool, ...]
    noised: tuple[tuple[tuple[str, int], ...], ...]
    ranks: dict[int, int]

    @property
    def has_lr(self) -> bool:
        """Whether any segment is estimated by LR."""
        return bool(self.ranks)

    def exits(self, stage: int) -> bool:
        """Whether noise is added to the stage's leaving values."""
        return bool(self.noised[stage])

    def is_exact(self, stage: int) -> bool:
        """Whether the stage's gradient comes from the loss by BP alone."""
        return self.exact and self.segment[stage] == self.segment[-1]

    def joined(self, source: int, target: int) -> bool:
        """Whether a gradient flows from ``target`` back to ``source`` (the loss has index ``len(segment)``)."""
        if target == len(self.segment):
            return self.is_exact(source)
        return source != MODEL_INPUT and self.segment[source] == self.segment[target]


def segmentation_of(rule: str, graph: StageGraph, options: RuleOptions) -> Segmentation:
    """The segmentation that a rule stands for.

    Args:
        rule: ``bp``, ``bp-split``: one segment that reaches the loss; ``lr``, ``alr``: every stage its own;
            ``segments``: as the options say.

    Raises:
        OptionError: see :func:`cut_segments`.
    """
    if rule in ("lr", "alr"):
        return cut_segments(graph, range(1, len(graph.stages)), exact=False, options=options)
    if rule == "segments":
        return cut_segments(graph, options.segments or (), exact=options.exact_head, options=options)
    return cut_segments(graph, (), exact=True, options=options)


def settle_options(options: RuleOptions, segmentation: Segmentation) -> RuleOptions:
    """The loss module has gradient and update cells only where an exact segment reaches it."""
    if not segmentation.has_lr:
        return options
    exact = segmentation.exact
    return replace(options, loss_gradient=options.loss_gradient and exact, loss_update=options.loss_update and exact)


def cut_segments(graph: StageGraph, starts: Sequence[int], *, exact: bool, options: RuleOptions) -> Segmentation:
    """Segment a stage graph.

    Args:
        starts: First stage of every segment after the first, ascending.
        exact: Whether the last segment includes the loss.

    Raises:
        OptionError: starts that are not ascending stage indices.
    """
    count = len(graph.stages)
    if list(starts) != sorted(set(starts)) or any(not 0 < start < count for start in starts):
        raise OptionError(
            f"segments start at {', '.join(map(str, starts))}, which are not ascending stages of 1..{count - 1}",
            where="--segments",
        )
    segment = tuple(sum(start <= stage for start in starts) for stage in range(count))
    passes, trainable = _flow(graph, segment, options)
    last = segment[-1]
    noised: list[tuple[tuple[str, int], ...]] = []
    for stage in range(count):
        leaving = {
            edge.value: edge.elements
            for edge in graph.outgoing(stage)
            if not (exact and segment[stage] == last)
            and (edge.target == count or segment[edge.target] != segment[stage])
        }
        noised.append(tuple(leaving.items()) if trainable[stage] else ())
    injecting = sorted({segment[stage] for stage in range(count) if noised[stage]})
    ranks = {index: rank for rank, index in enumerate(injecting)}
    return Segmentation(segment, exact, trainable, passes, tuple(noised), ranks)


def _flow(
    graph: StageGraph, segment: tuple[int, ...], options: RuleOptions
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    passes: list[bool] = []
    trainable: list[bool] = []
    for stage in graph.stages:
        sources = [edge.source for edge in graph.incoming(stage.index)]
        above = any(
            source != MODEL_INPUT and segment[source] == segment[stage.index] and trainable[source]
            for source in sources
        )
        first = options.first_input_gradient and MODEL_INPUT in sources
        passes.append(above or first)
        trainable.append(stage.parameters > 0 or above or first)
    return tuple(passes), tuple(trainable)
