"""The parts of an operator's cost, before anyone decides which gradients are wanted."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from alrsim.graph.graph import Attribute, Graph, Op
from alrsim.graph.work import NO_WORK, Work

FLOATS = ("float16", "bfloat16", "float32", "float64", "double", "float")


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of one input, given the gradient of the output.

    Attributes:
        work: What it computes, reads and writes.
        saves: Values of the forward pass that it reads again.
    """

    work: Work
    saves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """One operator's cost, each gradient apart.

    Attributes:
        forward: The forward pass.
        gradients: By input position; an input that is not there has no gradient.
        interior: Backward work that any of the gradients needs first (recursion over time, reductions).
        interior_saves: Values of the forward pass that the interior work reads again.
        kept: Elements besides named values that the gradient needs: masks, indices, statistics, gates.
    """

    forward: Work
    gradients: Mapping[int, Gradient] = field(default_factory=dict)
    interior: Work = NO_WORK
    interior_saves: tuple[str, ...] = ()
    kept: int = 0


@dataclass(frozen=True)
class OpView:
    """One operator with the shapes around it.

    Attributes:
        weights: Values that depend on parameters only (parameters and layouts of them).
    """

    op: Op
    graph: Graph
    weights: Collection[str]

    def has(self, position: int) -> bool:
        """Whether the optional input is there."""
        return position < len(self.op.inputs) and bool(self.op.inputs[position])

    def shape(self, position: int) -> tuple[int, ...]:
        """Shape of an input."""
        return self.graph.tensors[self.op.inputs[position]].shape

    def size(self, position: int) -> int:
        """Elements of an input; 0 if it is absent."""
        return prod(self.shape(position)) if self.has(position) else 0

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the first output that is used."""
        return self.graph.tensors[next(filter(None, self.op.outputs))].shape

    @property
    def out_size(self) -> int:
        """Elements of all outputs."""
        return sum(self.graph.tensors[name].elements for name in self.op.outputs if name)

    def is_weight(self, position: int) -> bool:
        """Whether an input is a parameter or a layout of one."""
        return self.has(position) and self.op.inputs[position] in self.weights

    def is_float(self, position: int) -> bool:
        """Whether an input is there and holds real numbers."""
        return self.has(position) and self.graph.tensors[self.op.inputs[position]].dtype in FLOATS

    def number(self, name: str, default: float) -> float:
        """A numeric attribute."""
        value: Attribute = self.op.attributes.get(name, default)
        return value if isinstance(value, int | float) else default

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        value = self.op.attributes.get(name, default)
        return value if isinstance(value, str) else default

    def integers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of integers; empty if absent."""
        value = self.op.attributes.get(name, ())
        return tuple(int(item) for item in value) if isinstance(value, tuple) else ()

    def reads(self, positions: Iterable[int]) -> Work:
        """Elements that reading these inputs moves; shapes, axes and scalars are free."""
        real = [(self.size(position), self.is_weight(position)) for position in positions if self.is_float(position)]
        return Work(
            param_reads=sum(size for size, weight in real if weight),
            activation_reads=sum(size for size, weight in real if not weight and size > 1),
        )

    def forward(self, *, macs: int = 0, elementwise: int = 0, launches: int = 1) -> Work:
        """The usual forward pass: every input is read once, every output written once."""
        counts = Work(
            macs=macs,
            elementwise=elementwise,
            activation_writes=self.out_size,
            launches=launches,
            products=launches if macs else 0,
        )
        return counts + self.reads(range(len(self.op.inputs)))

    def gradient(
        self,
        position: int,
        *,
        macs: int = 0,
        elementwise: int = 0,
        saves: tuple[str, ...] = (),
        launches: int = 1,
    ) -> Gradient:
        """The usual gradient: reads the output's gradient and ``saves``, writes the input's gradient."""
        params = sum(self.graph.tensors[name].elements for name in saves if name in self.weights)
        others = sum(self.graph.tensors[name].elements for name in saves if name not in self.weights)
        size, weight = self.size(position), self.is_weight(position)
        work = Work(
            macs=macs,
            elementwise=elementwise,
            param_reads=params,
            param_writes=size if weight else 0,
            activation_reads=self.out_size + others,
            activation_writes=0 if weight else size,
            launches=launches,
            products=launches if macs else 0,
        )
        return Gradient(work, saves)


CostFunction = Callable[[OpView], Parts]
