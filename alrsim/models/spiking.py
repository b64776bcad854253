"""A spiking network of leaky integrate-and-fire neurons.

The spike is a step function: its derivative is zero, so that backpropagation trains only the read-out. That is
why the papers show it: LR needs no derivative of the spike.
"""

import itertools

import torch
from torch import Tensor, nn

from alrsim.frontend.torch_model import TorchModel, float_input
from alrsim.models.entry import SEED, Option, ZooEntry

DECAY = 0.5
THRESHOLD = 1.0


class LIF(nn.Module):
    """Membranes ``v = DECAY v + current``, a spike where ``v >= THRESHOLD``, which sets v back to 0.

    Currents and spikes are ``(batch, time, neurons)``.
    """

    def forward(self, currents: Tensor) -> Tensor:
        membrane = torch.zeros_like(currents[:, 0])
        spikes = []
        for time in range(currents.shape[1]):
            membrane = DECAY * membrane + currents[:, time]
            spike = (membrane >= THRESHOLD).to(currents.dtype)
            membrane = membrane * (1 - spike)
            spikes.append(spike)
        return torch.stack(spikes, dim=1)


class SNN(nn.Module):
    """Linear and LIF layers; the read-out is linear on the firing rate. Images ``(batch, channels, size, size)``.

    A layer runs over all time steps before the next one starts (membranes do not feed back), so each weight is
    used by one operator, and noise on a linear layer's result, ``(batch, time, neurons)``, is noise on the membrane
    potential of every step. The image is the same at every step, and so is the first layer's current: it is computed
    once, ``(batch, neurons)``, and one draw of noise on it moves the membranes of all steps.
    """

    def __init__(self, inputs: int, hidden: int, depth: int, steps: int, classes: int) -> None:
        super().__init__()
        self.steps = steps
        self.flatten = nn.Flatten()
        sizes = [inputs, *[hidden] * depth]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.neurons = nn.ModuleList(LIF() for _ in range(depth))
        self.readout = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        current = self.linears[0](self.flatten(images))
        spikes = self.neurons[0](current.unsqueeze(1).expand(-1, self.steps, -1))
        for linear, neurons in zip(list(self.linears)[1:], list(self.neurons)[1:], strict=True):
            spikes = neurons(linear(spikes))
        logits: Tensor = self.readout(spikes.mean(dim=1))
        return logits


def build_snn(
    *, in_channels: int, image_size: int, hidden: int, depth: int, steps: int, classes: int, seed: int
) -> TorchModel:
    """The spiking network from all of its options."""
    module = SNN(in_channels * image_size**2, hidden, depth, steps, classes)
    return TorchModel("snn", module, float_input((in_channels, image_size, image_size), seed), classes)


SNN_ENTRY = ZooEntry(
    "snn",
    build_snn,
    {
        "in_channels": Option(1, "channels of the image"),
        "image_size": Option(28, "height and width"),
        "hidden": Option(256, "neurons of a layer"),
        "depth": Option(2, "spiking layers"),
        "steps": Option(4, "time steps"),
        "classes": Option(10, "number of logits", minimum=2),
        "seed": SEED,
    },
    "leaky integrate-and-fire layers, for Fashion-MNIST",
    "the papers train it on Fashion-MNIST without printing sizes: sizes are our own choice",
)
