"""RNN, GRU and LSTM text classifiers with their cells written out.

torch's fused ``nn.LSTM`` would become one opaque operator. Written out, every state (h, and c of the LSTM) is a
value of the graph where noise can be injected, and the graph is cut like any other. Parameters are laid out as
in ``torch.nn``, so that they can be copied over. Time runs inside a layer: layer 0 ends before layer 1 starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alrsim.errors import OptionError
from alrsim.frontend.inject import inject
from alrsim.frontend.torch_model import TorchModel
from alrsim.models.entry import SEED, Option, ZooEntry


@dataclass(frozen=True, slots=True)
class Marks:
    """Which values of a cell are places for noise (:func:`alrsim.frontend.inject.inject`).

    Attributes:
        noise: ``output``: none, noise lies on what a layer hands on, and backpropagation through time lies behind it;
            ``state``: the whole state (LSTM: h and c) after a step; ``hidden``: h alone, where backpropagation follows
            the LSTM's c through time (complete as long as only h leaves the layer; an estimator that cut c as well
            would be biased); ``gates``: the gates' pre-activations of every step.
        every: With ``state``: only every so many steps, and the last one.
    """

    noise: str = "output"
    every: int = 1

    def state(self, state: tuple[Tensor, ...], time: int, steps: int) -> tuple[Tensor, ...]:
        """The state after step ``time`` of ``steps``, marked where it is asked for."""
        if self.noise == "hidden":
            return (inject(state[0]), *state[1:])
        if self.noise == "state" and ((time + 1) % self.every == 0 or time + 1 == steps):
            return tuple(inject(value) for value in state)
        return state

    def gate(self, value: Tensor) -> Tensor:
        """A pre-activation, marked if gates are asked for."""
        return inject(value) if self.noise == "gates" else value


class RecurrentLayer(nn.Module):
    """A cell run over ``(batch, time, inputs)``; returns the states ``h``, ``(batch, time, hidden)``.

    Attributes:
        from_input: Gate pre-activations of all time steps at once.
        from_state: Gate pre-activations of one step's state.
        gates: Gates of the cell.
        states: Tensors of its state, ``h`` first.
    """

    gates, states = 1, 1

    def __init__(self, inputs: int, hidden: int, marks: Marks = Marks()) -> None:
        super().__init__()
        self.hidden, self.marks = hidden, marks
        self.from_input = nn.Linear(inputs, self.gates * hidden)
        self.from_state = nn.Linear(hidden, self.gates * hidden)

    def initial(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The state before the first step, all zeros."""
        return (inputs.new_zeros(inputs.shape[0], self.hidden),) * self.states

    def step(self, drive: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The next state from ``drive = from_input(x_t)``: ``h' = tanh(drive + from_state(h))``."""
        return (torch.tanh(self.marks.gate(drive + self.from_state(state[0]))),)

    def forward(self, inputs: Tensor) -> Tensor:
        drive = self.from_input(inputs)
        state = self.initial(inputs)
        outputs = []
        steps = inputs.shape[1]
        for time in range(steps):
            state = self.marks.state(self.step(drive[:, time], state), time, steps)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1)


class GRULayer(RecurrentLayer):
    """Gates r, z, n; ``h' = (1 - z) n + z h`` with ``n = tanh(drive_n + r * from_state(h)_n)``."""

    gates = 3

    def step(self, drive: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, gate = state[0], self.marks.gate
        drive_r, drive_z, drive_n = drive.chunk(3, dim=-1)
        state_r, state_z, state_n = self.from_state(hidden).chunk(3, dim=-1)
        update = torch.sigmoid(gate(drive_z + state_z))
        candidate = torch.tanh(gate(drive_n + torch.sigmoid(gate(drive_r + state_r)) * state_n))
        return (candidate + update * (hidden - candidate),)


class LSTMLayer(RecurrentLayer):
    """Gates i, f, g, o; ``c' = f c + i g``, ``h' = o tanh(c')``."""

    gates, states = 4, 2

    def step(self, drive: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, memory = state
        write, keep, value, read = self.marks.gate(drive + self.from_state(hidden)).chunk(4, dim=-1)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(write) * torch.tanh(value)
        return (torch.sigmoid(read) * torch.tanh(memory), memory)


def token_input(length: int, vocabulary: int, seed: int) -> Callable[[int], tuple[Tensor, ...]]:
    """Example inputs of token numbers ``(batch, length)``, int64, the same for the same batch size."""

    def example(batch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randint(vocabulary, (batch, length), generator=generator),)

    return example


class TextClassifier(nn.Module):
    """Embedding, recurrent layers, linear on the last state; tokens ``(batch, sequence)`` int64."""

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.layers = nn.Sequential(*(layer(hidden if index else embedding, hidden) for index in range(layers)))
        self.linear = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.layers(self.embedding(tokens))
        logits: Tensor = self.linear(states[:, -1])
        return logits


def _build(
    name: str,
    layer: type[RecurrentLayer],
    *,
    vocabulary: int,
    embedding: int,
    hidden: int,
    layers: int,
    sequence: int,
    classes: int,
    noise: str,
    every: int,
    seed: int,
) -> TorchModel:
    if every > 1 and noise != "state":
        raise OptionError(
            f"every={every} marks states, but noise={noise}", where=name, fix="give noise=state, or leave every out"
        )
    marked = partial(layer, marks=Marks(noise, every))
    module = TextClassifier(
        marked, vocabulary=vocabulary, embedding=embedding, hidden=hidden, layers=layers, classes=classes
    )
    return TorchModel(name, module, token_input(sequence, vocabulary, seed), classes)


_MARKED = ("state", "hidden", "gates")
_OPTIONS = {
    "vocabulary": Option(4000, "distinct tokens", minimum=2),
    "embedding": Option(64, "width of a token's vector"),
    "hidden": Option(64, "width of the state"),
    "layers": Option(1, "recurrent layers on top of each other"),
    "sequence": Option(16, "tokens in a text"),
    "classes": Option(4, "number of logits", minimum=2),
    "noise": Option(
        "output", "where LR's noise can go: see alrsim.models.recurrent.Marks", choices=("output", *_MARKED)
    ),
    "every": Option(1, "with noise=state: steps between two marked states"),
    "seed": SEED,
}
_SOURCE = "the papers train it on Ag-News (4 classes) without printing sizes: sizes are our own choice"

RECURRENT = tuple(
    ZooEntry(name, partial(_build, name, layer), _OPTIONS, f"text classifier with a {what}, for Ag-News", _SOURCE)
    for name, layer, what in (
        ("lstm", LSTMLayer, "long short-term memory"),
        ("gru", GRULayer, "gated recurrent unit"),
        ("rnn", RecurrentLayer, "plain tanh recurrence"),
    )
)
