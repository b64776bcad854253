"""An operator graph in topological order, proved at construction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log10, prod
from typing import Any

from alrsim.errors import ModelError

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

DIFFERENTIABLE = "alrsim_differentiable"
"""Attribute of a custom operator of a torch model: 1 if it has a derivative, 0 if it has none."""


BEYOND = 1 << 63
"""Where whole numbers of ONNX end."""

MOST_ELEMENTS = 10**24
"""Of a value. What is priced is only counted, so this keeps counts and times in the range of floating-point numbers."""


def _size(number: int) -> str:
    return f"{number:,}" if abs(number) < BEYOND else f"about 1e{int(abs(number).bit_length() * log10(2))}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value.

    Attributes:
        shape: Static shape; ``()`` is a scalar.
        dtype: The ONNX element type in lower case (``float32``, ``int64``, ``bool``...).

    Raises:
        ModelError: a size that is negative or beyond 64 bits, as of ONNX, or more than :data:`MOST_ELEMENTS`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        wrong = next((size for size in self.shape if not 0 <= size < BEYOND), None)
        if wrong is not None:
            raise ModelError(f"the shape of {self.name!r} has {_size(wrong)}, which is no size", where="graph")
        if self.elements > MOST_ELEMENTS:
            raise ModelError(
                f"{self.name!r} has {_size(self.elements)} elements, at most {_size(MOST_ELEMENTS)} are priced",
                where="graph",
            )

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Op:
    """One operator.

    Attributes:
        name: Unique in its graph.
        kind: ONNX operator type, such as ``Conv``.
        inputs: Names of the values it reads; ``""`` is an absent optional input.
        outputs: Names of the values it writes; ``""`` is an unused optional output.
        domain: ONNX domain; ``""`` is the standard one.
        attributes: Plain attributes (numbers, strings, tuples of them).
        module: Dotted path of the torch module that it came from, ``""`` if unknown.
        fx_nodes: The torch graph nodes that it came from. Operators that share a node are cut together.

    Raises:
        ModelError: an attribute beyond 64 bits.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    module: str = ""
    fx_nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.attributes.items():
            if any(_is_beyond(one) for one in (value if isinstance(value, tuple) else (value,))):
                raise ModelError(f"attribute {name!r} of {self.name!r} is beyond 64 bits", where="graph")


def _is_beyond(value: object) -> bool:
    return isinstance(value, int) and not -BEYOND <= value < 2 * BEYOND  # some constants are unsigned


@dataclass(frozen=True)
class Graph:
    """Operators in topological order with the shape of every value.

    Attributes:
        name: The model's name.
        ops: Topologically ordered: every input is a graph input, an initializer, or written earlier.
        tensors: Every value by name, initializers included.
        inputs: Values fed at run time.
        outputs: Values handed to the loss.
        parameters: Trainable initializers.
        buffers: Initializers that the forward pass updates (running statistics) or that are not trained.
        constants: All other initializers (shapes, axes, scalars).
        constant_values: The integers of small constants (shape and axis arguments) by name.
        warnings: What the import could not fully understand. Shown to the user, never dropped.

    Raises:
        ModelError: if an operator reads a value that nothing before it writes, if a value is written twice, or
            if a value has no shape.
    """

    name: str
    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    constant_values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        written = {"", *self.inputs, *self.parameters, *self.buffers, *self.constants}
        names: set[str] = set()
        for op in self.ops:
            if op.name in names:
                raise ModelError(f"two operators are called {op.name!r}", where=self.name)
            names.add(op.name)
            for value in op.inputs:
                if value not in written:
                    raise ModelError(
                        f"operator {op.name!r} ({op.kind}) reads {value!r}, which nothing before it writes",
                        where=self.name,
                        fix="the graph has a cycle or is not in topological order",
                    )
            for value in filter(None, op.outputs):
                if value in written:
                    raise ModelError(f"value {value!r} is written twice, again by {op.name!r}", where=self.name)
                written.add(value)
        for value in self.outputs:
            if value not in written:
                raise ModelError(f"output {value!r} is written by no operator", where=self.name)
        self._check_values(written - {""})

    def _check_values(self, written: set[str]) -> None:
        beyond = next((name for name, numbers in self.constant_values.items() if any(map(_is_beyond, numbers))), None)
        if beyond is not None:
            raise ModelError(f"constant {beyond!r} is beyond 64 bits", where=self.name)
        for value in written:
            if value not in self.tensors:
                raise ModelError(f"value {value!r} has no shape", where=self.name)

    @property
    def parameter_elements(self) -> int:
        return sum(self.tensors[name].elements for name in self.parameters)

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph``: a node per operator, an edge per value that one writes and another reads.

        Nodes are operators' names with ``op``, an :class:`Op`; edges have ``value``, a :class:`Tensor`.

        >>> ops = (Op("a", "Relu", ("x",), ("y",)), Op("b", "Neg", ("y",), ("z",)))
        >>> tensors = {name: Tensor(name, (2, 3)) for name in "xyz"}
        >>> graph = Graph("two", ops, tensors, inputs=("x",), outputs=("z",)).to_networkx()
        >>> [(source, target, value.shape) for source, target, value in graph.edges(data="value")]
        [('a', 'b', (2, 3))]
        """
        import networkx

        graph = networkx.MultiDiGraph(name=self.name)
        writer = {value: op.name for op in self.ops for value in op.outputs if value}
        for op in self.ops:
            graph.add_node(op.name, op=op)
            for value in op.inputs:
                if value in writer:
                    graph.add_edge(writer[value], op.name, value=self.tensors[value])
        return graph
