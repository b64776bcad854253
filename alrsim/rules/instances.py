"""Which forward instances a step has: the clean one, the noisy copy groups, and the forwards that each reaches."""

from dataclasses import dataclass

from alrsim.errors import OptionError
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
        first: Index of its first draw among those of its segment (joint: of all); group numbers do not tell.
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

    def draws(self, segment: int) -> int:
        """Noise draws per sample (pairs, for antithetic) of a segment, over all its copy groups."""
        return sum(one.draws for one in self.noisy if one.source in (None, segment))


def forward_instances(graph: StageGraph, segmentation: Segmentation, options: RuleOptions) -> Instances:
    """The forward instances that a rule needs for each micro-batch."""
    everything = frozenset(range(len(graph.stages)))
    if not segmentation.has_lr:
        return Instances(Instance(NONE, 1, 0, everything, None, options.loss), ())
    layerwise = options.scope == "layerwise"
    exact_head = any(segmentation.is_exact(stage) and segmentation.trainable[stage] for stage in everything)
    baseline = options.baseline == "clean"
    needs_input = options.reduction == "accumulate" and any(map(segmentation.exits, everything))
    needs_clean = baseline or exact_head or layerwise or needs_input
    loss = options.loss and (baseline or exact_head)
    clean = Instance(CLEAN, 1, 0, everything, None, loss) if needs_clean else None
    if not layerwise:
        alone = clean is None and options.groups(options.copies) == 1
        return Instances(clean, _noisy(options, options.copies, NONE if alone else 1, everything, None))
    noisy: list[Instance] = []
    for segment in segmentation.ranks:
        sources = {s for s in everything if segmentation.segment[s] == segment and segmentation.injects(s)}
        reached = _downstream(graph, sources, segmentation)
        noisy += _noisy(options, _copies(sources, options), 1 + len(noisy), reached, segment)
    return Instances(clean, tuple(noisy))


def noisy_groups(segmentation: Segmentation, options: RuleOptions) -> int:
    """Noisy copy groups of one micro-batch, without making them."""
    if options.scope == "joint":
        return options.groups(options.copies) if segmentation.has_lr else 0
    copies = {
        segmentation.segment[stage]: options.copies_of(stage)
        for stage in range(len(segmentation.segment))
        if segmentation.injects(stage)
    }
    return sum(map(options.groups, copies.values()))


def _copies(sources: set[int], options: RuleOptions) -> int:
    """Draws of a segment, in which several stages may inject noise."""
    found = {options.copies_of(stage): stage for stage in sorted(sources)}
    if len(found) > 1:
        told = " and ".join(f"{copies} for stage {stage}" for copies, stage in found.items())
        raise OptionError(
            f"stages of one segment share its copies, but there are {told}", field="copies", fix="give them the same"
        )
    return next(iter(found))


def keeps_state(segmentation: Segmentation, options: RuleOptions, stage: int, one: Instance) -> bool:
    """Whether the stage's gradient is computed from the state of this instance's forward.

    With layer-wise noise a segment's input is the clean one for every copy, so only the clean forward keeps it. A stage
    with noise on its parameters keeps nothing: its gradient is a sum of noise.
    """
    if not segmentation.trainable[stage] or segmentation.on_weights(stage):
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
        and not segmentation.inside(source)
        and not segmentation.joined(source, target)
    )


def _noisy(
    options: RuleOptions, copies: int, first_group: int, stages: frozenset[int], source: int | None
) -> tuple[Instance, ...]:
    """The copy groups of one segment (or of joint noise)."""
    groups = options.groups(copies)
    draws = copies // groups
    stacked = draws * (2 if options.baseline == "antithetic" else 1)
    return tuple(
        Instance(first_group + k, stacked, draws, stages, source, options.loss, first=k * draws) for k in range(groups)
    )


def _downstream(graph: StageGraph, sources: set[int], segmentation: Segmentation) -> frozenset[int]:
    """Stages that a segment's noise reaches: those that add it to themselves, readers of what leaves, and theirs."""
    reached = {stage for stage in sources if segmentation.own_noise(stage)}
    exits = {stage for stage in sources if not segmentation.own_noise(stage)}
    for stage in range(len(graph.stages)):
        for edge in graph.incoming(stage):
            left = edge.source in exits and not segmentation.joined(edge.source, stage)
            if left or edge.source in reached:
                reached.add(stage)
    return frozenset(reached)
