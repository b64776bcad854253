"""Which forward instances a step has: the clean one, the noisy copy groups, and the forwards that each reaches."""

from dataclasses import dataclass

from alrsim.graph.stages import MODEL_INPUT, StageGraph
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation
from alrsim.tasks.token import NONE

CLEAN = 0
"""Copy group of the clean forward where noisy groups exist beside it."""


@dataclass(frozen=True)
class Instance:
    """One forward of a micro-batch through some stages.

    Attributes:
        group: Copy group in the token, ``NONE`` if there is nothing to tell apart.
        copies: Replicas of the micro-batch stacked in it.
        draws: Noise draws (pairs, for antithetic) among them; 0 for the clean forward.
        stages: Layer stages it runs; values of other stages come from the clean forward.
        source: Segment whose noise it carries; ``None`` means every segment's (joint noise), or none if clean.
        loss: Whether its loss is computed.
        first: Index of its first draw among those of its segment.
    """

    group: int
    copies: int
    draws: int
    stages: frozenset[int]
    source: int | None
    loss: bool
    first: int = 0

    @property
    def noisy(self) -> bool:
        return self.draws > 0


@dataclass(frozen=True)
class Instances:
    """All instances of one micro-batch, in reference order (clean first, groups ascending)."""

    clean: Instance | None
    noisy: tuple[Instance, ...]

    @property
    def ordered(self) -> tuple[Instance, ...]:
        return (*(() if self.clean is None else (self.clean,)), *self.noisy)

    def of_segment(self, segment: int) -> tuple[Instance, ...]:
        """Noisy instances that carry the noise of a segment."""
        return tuple(one for one in self.noisy if one.source in (None, segment))


def forward_instances(graph: StageGraph, segmentation: Segmentation, options: RuleOptions) -> Instances:
    """The forward instances that a rule needs for each micro-batch."""
    everything = frozenset(range(len(graph.stages)))
    if not segmentation.has_lr:
        return Instances(Instance(NONE, 1, 0, everything, None, options.loss), ())
    layerwise = options.scope == "layerwise"
    exact_head = any(segmentation.is_exact(stage) and segmentation.trainable[stage] for stage in everything)
    baseline = options.baseline == "clean"
    needs_clean = baseline or exact_head or layerwise or options.reduction == "accumulate"
    loss = options.loss and (baseline or exact_head)
    clean = Instance(CLEAN, 1, 0, everything, None, loss) if needs_clean else None
    if not layerwise:
        if clean is None and options.groups == 1:
            return Instances(None, (_noisy(NONE, options, everything, None),))
        return Instances(clean, tuple(_noisy(1 + k, options, everything, None) for k in range(options.groups)))
    noisy = []
    for segment, rank in segmentation.ranks.items():
        reached = _downstream(
            graph,
            {s for s in everything if segmentation.segment[s] == segment and segmentation.noised[s]},
            segmentation,
        )
        first = 1 + rank * options.groups
        noisy += [_noisy(first + k, options, reached, segment) for k in range(options.groups)]
    return Instances(clean, tuple(noisy))


def keeps_state(segmentation: Segmentation, options: RuleOptions, stage: int, one: Instance) -> bool:
    """Whether the stage's gradient is computed from the state of this instance's forward.

    With layer-wise noise a segment's input is the clean one for every copy, so only the clean forward keeps it.
    """
    if not segmentation.trainable[stage]:
        return False
    shared = options.reduction == "accumulate" or options.scope == "layerwise"
    return one.noisy is not (shared or segmentation.is_exact(stage))


def adds_noise(segmentation: Segmentation, source: int, target: int, one: Instance) -> bool:
    """Layer-wise: whether the reader ``target`` adds the noise of ``source``'s segment to a clean value."""
    return (
        one.source is not None
        and source != MODEL_INPUT
        and segmentation.segment[source] == one.source
        and segmentation.exits(source)
        and not segmentation.joined(source, target)
    )


def _noisy(group: int, options: RuleOptions, stages: frozenset[int], source: int | None) -> Instance:
    return Instance(group, options.stacked, options.draws_per_group, stages, source, options.loss)


def _downstream(graph: StageGraph, exits: set[int], segmentation: Segmentation) -> frozenset[int]:
    """Stages that a segment's noise reaches: readers of its leaving values, and readers of theirs."""
    reached: set[int] = set()
    for stage in range(len(graph.stages)):
        for edge in graph.incoming(stage):
            left = edge.source in exits and not segmentation.joined(edge.source, stage)
            if left or edge.source in reached:
                reached.add(stage)
    return frozenset(reached)
