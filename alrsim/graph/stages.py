"""The model cut into stages: what a rule needs to know of it, and no more."""

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from alrsim.errors import ModelError
from alrsim.graph.work import NO_WORK, Work

MODEL_INPUT = -1
MAX_CHAIN = 100_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A group of operators that is scheduled as one. All counts are for ONE micro-batch and one copy.

    Attributes:
        index: Position, from 0.
        name: For people: the module path or the operators' range.
        ops: Names of its operators, in topological order.
        forward: The forward pass.
        input_gradient: Gradients of the stage's inputs and of everything between its operators.
        interior_gradient: The part of ``input_gradient`` that the stage needs even if nobody asks for its input's
            gradient: the chain from its output back to its first parametrised operator.
        weight_gradient: Gradients of its parameters.
        recompute: Forward work that an LR gradient repeats because only the stage's input was kept (none for a
            stage that is a single linear map).
        parameters: Trainable elements.
        saved: Activation elements that BP keeps from forward to gradient, besides values that cross a stage
            boundary (those are edges).
        operators: Number of operators, for reports.
        lr_saved: Elements of the input that an LR gradient keeps: of a linear-map stage the input of its one
            parametrised operator, of any other stage its input edges.
        lr_scales: Scales of a code of that input that has one for each sample and channel (the second of three or
            more dimensions), or for each sample where there are no channels.
        lr_whole: That input holds whole numbers (tokens, indices), for which there is no code.
        lr_unsigned: That input cannot be negative if the stage's own inputs carry no noise.
        lr_unsigned_noisy: It cannot be negative even if every stage with parameters adds noise to what leaves it:
            operators behind the noise rectify it.
        linear: The stage ends in its only parametrised operator, a convolution or matrix product (with its bias), so
            an LR gradient is one product of input and noise.
        deltas: Elements of the cotangents at the outputs of its parametrised operators: what a split backward hands
            from the input-gradient task (I) to the weight-gradient task (W).
        direct: A linear map that multiplies one of the stage's inputs as it comes, so that keeping the input is enough.
        points: Values inside the stage that are marked for noise (``alrsim::inject``): ``(name, elements)``. Where
            there are any, LR adds its noise there instead of to the values that leave the stage.
        uncut: In words, a path from a parameter of the stage to a value that leaves it that avoids all points; empty if
            there is none.
        unreached: The stage has parameters, and no derivative leads from the model's output back to any of them (a
            spike or a black box lies between).
        jumps: Noise on the stage's output (its points) passes a step function before the loss.
        jumps_inside: Noise on its parameters does.
    """

    index: int
    name: str
    ops: tuple[str, ...] = ()
    forward: Work = NO_WORK
    input_gradient: Work = NO_WORK
    interior_gradient: Work = NO_WORK
    weight_gradient: Work = NO_WORK
    recompute: Work = NO_WORK
    parameters: int = 0
    saved: int = 0
    operators: int = 0
    lr_saved: int = 0
    lr_scales: int = 0
    lr_whole: bool = False
    lr_unsigned: bool = False
    lr_unsigned_noisy: bool = False
    linear: bool = False
    deltas: int = 0
    direct: bool = False
    points: tuple[tuple[str, int], ...] = ()
    uncut: str = ""
    unreached: bool = False
    jumps: bool = False
    jumps_inside: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """One value read by one stage: ``source`` writes it (-1 = the model's input), ``target`` reads it.

    A value with several readers has one edge for each; they share ``value``. The loss module is the stage after
    the last, so an edge to it is a model output.

    Attributes:
        elements: Elements for one micro-batch and one copy.
        saved_by_source: BP's gradient of the source needs the value again.
        saved_by_target: BP's gradient of the target needs the value again.
    """

    source: int
    target: int
    value: str
    elements: int
    saved_by_source: bool = False
    saved_by_target: bool = True


@dataclass(frozen=True)
class StageGraph:
    """Stages in topological order with the values that cross between them.

    Attributes:
        loss: The loss module's work and name; its ``index`` is ``len(stages)``.
        batch: Samples in one micro-batch.

    Raises:
        ModelError: if indices are not 0..n-1, an edge points backward or a stage reads nothing.
    """

    name: str
    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    loss: Stage
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.stages:
            raise ModelError("a model needs at least one stage", where=self.name)
        for position, stage in enumerate((*self.stages, self.loss)):
            if stage.index != position:
                raise ModelError(f"stage {stage.name!r} has index {stage.index}, expected {position}", where=self.name)
        for edge in self.edges:
            if not MODEL_INPUT <= edge.source < edge.target <= len(self.stages):
                raise ModelError(f"edge {edge.source} -> {edge.target} ({edge.value}) points backward", where=self.name)

    def incoming(self, stage: int) -> tuple[Edge, ...]:
        """Edges that the stage (or the loss, index ``len(stages)``) reads."""
        return self._ends[0].get(stage, ())

    def outgoing(self, stage: int) -> tuple[Edge, ...]:
        """Edges that the stage writes, one for each reader."""
        return self._ends[1].get(stage, ())

    @cached_property
    def _ends(self) -> tuple[dict[int, tuple[Edge, ...]], dict[int, tuple[Edge, ...]]]:
        """Edges by target and by source, each in their order."""
        into, out = (
            {stage: tuple(found) for stage, found in groupby(sorted(self.edges, key=end), end)}
            for end in (attrgetter("target"), attrgetter("source"))
        )
        return into, out


def chain(stages: int, name: str = "chain", parameters: int = 1, elements: int = 0) -> StageGraph:
    """A textbook chain of ``stages`` equal abstract stages and a loss: no work, so durations come from a table."""
    if not 1 <= stages <= MAX_CHAIN:
        raise ModelError(f"a chain has 1 to {MAX_CHAIN} stages, not {stages}", where=name, fix="use fewer stages")
    body = tuple(Stage(index, f"stage{index}", parameters=parameters) for index in range(stages))
    edges = tuple(Edge(index - 1, index, f"x{index}", elements) for index in range(stages + 1))
    return StageGraph(name, body, edges, Stage(stages, "loss"))
