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
        noised: Values that get noise, per stage, as ``(name, elements)``: those that leave an LR segment with trainable
            parameters, or the stage's own interior points (see :meth:`inside`).
        weight_noised: Elements of parameters that get noise, per stage: 0 for all but evolution strategies.
        pointed: Whether a stage's noise lies on its interior points.
        ranks: Rank among the LR segments that inject noise, by segment index.
    """

    segment: tuple[int, ...]
    exact: bool
    trainable: tuple[bool, ...]
    passes: tuple[bool, ...]
    noised: tuple[tuple[tuple[str, int], ...], ...]
    weight_noised: tuple[int, ...]
    pointed: tuple[bool, ...]
    ranks: dict[int, int]

    @property
    def has_lr(self) -> bool:
        """Whether any segment is estimated by LR."""
        return bool(self.ranks)

    def exits(self, stage: int) -> bool:
        """Whether noise is added to values of the stage: leaving ones, or points inside it."""
        return bool(self.noised[stage])

    def inside(self, stage: int) -> bool:
        """Whether that noise lies on points inside the stage, and none on its leaving values."""
        return self.pointed[stage]

    def on_weights(self, stage: int) -> bool:
        """Whether noise is added to the stage's parameters, and none to its values (evolution strategies)."""
        return self.weight_noised[stage] > 0

    def own_noise(self, stage: int) -> bool:
        """Whether only the stage itself can add its noise, so that every noisy forward of its segment runs it."""
        return self.inside(stage) or self.on_weights(stage)

    def injects(self, stage: int) -> bool:
        """Whether any noise is the stage's."""
        return self.exits(stage) or self.on_weights(stage)

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
    without_lr = replace(options, weight_noise=(), stage_copies=None)
    return cut_segments(graph, (), exact=True, options=without_lr)


def settle_options(options: RuleOptions, segmentation: Segmentation) -> RuleOptions:
    """The loss module has gradient and update cells only where an exact segment reaches it."""
    exact = segmentation.exact or not segmentation.has_lr
    return replace(options, loss_gradient=options.loss_gradient and exact, loss_update=options.loss_update and exact)


def cut_segments(graph: StageGraph, starts: Sequence[int], *, exact: bool, options: RuleOptions) -> Segmentation:
    """Segment a stage graph.

    Args:
        starts: First stage of every segment after the first, ascending.
        exact: Whether the last segment includes the loss.

    Points inside a stage (``Stage.points``) get its noise only where the stage is a segment of its own; inside a longer
    segment BP carries the gradient through it, and they are ignored.

    Raises:
        OptionError: starts that are not ascending stage indices; noise on parameters of a stage that has none or is no
            segment of its own; points that leave a path from a parameter to an output open.
    """
    count = len(graph.stages)
    if list(starts) != sorted(set(starts)) or any(not 0 < start < count for start in starts):
        raise OptionError(
            f"segments start at {', '.join(map(str, starts))}, which are not ascending stages of 1..{count - 1}",
            field="segments",
        )
    segment = tuple(sum(start <= stage for start in starts) for stage in range(count))
    estimated = [not (exact and segment[stage] == segment[-1]) for stage in range(count)]
    _check_weight_noise(graph, segment, estimated, options)
    weight_noised = [
        stage.parameters if stage.index in options.weight_noise and estimated[stage.index] else 0
        for stage in graph.stages
    ]
    passes, trainable = _flow(graph, segment, options)
    noised: list[tuple[tuple[str, int], ...]] = []
    pointed: list[bool] = []
    for stage in graph.stages:
        gets = trainable[stage.index] and estimated[stage.index] and not weight_noised[stage.index]
        leaving = _leaving(graph, segment, stage.index) if gets else ()
        points = stage.points if leaving and segment.count(segment[stage.index]) == 1 else ()
        noised.append(points or leaving)
        pointed.append(bool(points))
        if points and stage.uncut:
            raise OptionError(
                f"the marked places of stage {stage.index} ({stage.name}) do not cut every path from its parameters to "
                f"what leaves it: {stage.uncut}. A likelihood ratio of noise on them alone is biased",
                where=stage.name,
                fix="mark every state that is carried on (LSTM: noise=state marks h and c), or use noise on the output",
            )
    injecting = sorted({segment[stage] for stage in range(count) if noised[stage] or weight_noised[stage]})
    ranks = {index: rank for rank, index in enumerate(injecting)}
    return Segmentation(segment, exact, trainable, passes, tuple(noised), tuple(weight_noised), tuple(pointed), ranks)


def _leaving(graph: StageGraph, segment: tuple[int, ...], stage: int) -> tuple[tuple[str, int], ...]:
    """Values that a stage hands to other segments or to the loss."""
    found = {
        edge.value: edge.elements
        for edge in graph.outgoing(stage)
        if edge.target == len(segment) or segment[edge.target] != segment[stage]
    }
    return tuple(found.items())


def _check_weight_noise(
    graph: StageGraph, segment: tuple[int, ...], estimated: Sequence[bool], options: RuleOptions
) -> None:
    for index in options.weight_noise:
        if not 0 <= index < len(segment):
            problem, fix = "does not exist", f"name stages of 0..{len(segment) - 1}"
        elif not graph.stages[index].parameters:
            problem, fix = "has no parameters", "leave it out"
        elif not estimated[index]:
            problem, fix = "is in the segment with the exact gradient", "leave it out, or start that segment behind it"
        elif segment.count(segment[index]) > 1:
            problem, fix = "shares its segment with others", "make it a segment of its own"
        else:
            continue
        raise OptionError(
            f"noise cannot lie on the parameters of stage {index}: it {problem}", where="kind es", fix=fix
        )


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
        first = options.first_input_gradient and MODEL_INPUT in sources and stage.index not in options.weight_noise
        passes.append(above or first)
        trainable.append(stage.parameters > 0 or above or first)
    return tuple(passes), tuple(trainable)
