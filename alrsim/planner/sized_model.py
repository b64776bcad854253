"""A model at every size of a micro-batch, from graphs at two of them.

All counts of a stage (elements, operations, launches) are affine in the samples of a micro-batch: parameters and
kernels do not depend on them, values do linearly. So two sizes give all others exactly; where a count at another size
would be no whole number, or the graphs differ in more than counts, the model is refused and has to be given at every
size that is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from alrsim.errors import ModelError
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.graph.work import Work
from alrsim.steps.model import CutKey, cut_key, cut_stages


@dataclass(frozen=True)
class Source:
    """A model whose micro-batches can have any of several sizes.

    Attributes:
        graphs: Graph by samples in one micro-batch, one or more.
        batch: Samples of the whole batch.
    """

    name: str
    graphs: Mapping[int, Graph]
    batch: int
    built: dict[tuple[CutKey, int], StageGraph] = field(default_factory=dict, repr=False, compare=False)
    """Stage graphs made so far: counting operators takes longer than everything that is done with the counts."""

    def any_graph(self) -> Graph:
        """The graph of the largest micro-batch."""
        return self.graphs[max(self.graphs)]

    def cut(self, spec: str, weights: Mapping[str, float] | None = None) -> CutKey:
        """The operators of every stage.

        Args:
            weights: What ``balanced`` balances; default: FLOPs.

        Raises:
            OptionError: an unknown or impossible cut.
        """
        stages = cut_stages(self.any_graph(), spec, weights=weights)
        cut = cut_key(stages)
        self.built.setdefault((cut, max(self.graphs)), stages)
        return cut

    def stages(self, cut: CutKey, microbatches: int) -> StageGraph:
        """The stages of one micro-batch.

        Raises:
            ModelError: the size is not known and does not follow from two that are.
        """
        key = cut, self.batch // microbatches
        if key not in self.built:
            self.built[key] = self._build(*key)
        return self.built[key]

    def _build(self, cut: CutKey, samples: int) -> StageGraph:
        if samples in self.graphs:
            return cut_stages(self.graphs[samples], cut)
        if len(self.graphs) < 2:
            raise ModelError(f"is not known at {samples} samples", where=self.name, fix="give it at two sizes")
        low, high = min(self.graphs), max(self.graphs)
        ends = (self.stages(cut, self.batch // size) for size in (low, high))
        return between(next(ends), low, next(ends), high, samples)


def between(first: StageGraph, low: int, other: StageGraph, high: int, samples: int) -> StageGraph:
    """The stage graph at another number of samples.

    Raises:
        ModelError: the two graphs differ in more than counts, or a count would be no whole number.
    """

    def at(a: Any, b: Any) -> Any:
        if a == b:
            return a
        if isinstance(a, bool) or not isinstance(a, int) or not isinstance(b, int):
            raise _uneven(first.name, low, high)
        step, rest = divmod((b - a) * (samples - low), high - low)
        if rest or a + step < 0:
            raise _uneven(first.name, low, high)
        return a + step

    def value(a: Any, b: Any) -> Any:
        if isinstance(a, Work):
            return Work(*(at(getattr(a, one.name), getattr(b, one.name)) for one in fields(Work)))
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(value(x, y) for x, y in zip(a, b, strict=True))
        if is_dataclass(a) and not isinstance(a, type) and type(a) is type(b):
            return replace(a, **{one.name: value(getattr(a, one.name), getattr(b, one.name)) for one in fields(a)})
        return at(a, b)

    if len(first.stages) != len(other.stages) or len(first.edges) != len(other.edges):
        raise _uneven(first.name, low, high)
    return StageGraph(
        first.name,
        value(first.stages, other.stages),
        value(first.edges, other.edges),
        value(first.loss, other.loss),
        samples,
    )


def _uneven(name: str, low: int, high: int) -> ModelError:
    return ModelError(
        f"does not grow evenly from {low} to {high} samples, so that other sizes of a micro-batch cannot be derived",
        where=name,
        fixes=[("microbatches", 4)],
    )
