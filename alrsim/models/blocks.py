"""Building blocks of the convolutional networks: explicit modules, so that each is one operator of the graph."""

from collections.abc import Callable
from math import gcd

from torch import nn

from alrsim.frontend.torch_model import TorchModel, float_input

GROUPS = 4
"""GroupNorm groups, fewer where the channels do not divide."""


def conv_block(inputs: int, outputs: int, norm: str, *, pool: int = 1, activate: bool = True) -> nn.Sequential:
    """3x3 convolution, then normalisation, ReLU and max pooling where asked for.

    Children are called ``conv``, ``norm``, ``relu``, ``pool``.

    Args:
        norm: ``none``, ``group`` or ``batch``. LR needs ``none`` or ``group``: batch statistics tie the samples of a
            batch together, so that one sample's noise moves another one's loss.
    """
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1))
    if norm == "batch":
        block.add_module("norm", nn.BatchNorm2d(outputs))
    elif norm == "group":
        block.add_module("norm", nn.GroupNorm(gcd(GROUPS, outputs), outputs))
    if activate:
        block.add_module("relu", nn.ReLU())
    if pool > 1:
        block.add_module("pool", nn.MaxPool2d(pool))
    return block


def build_network(
    kind: Callable[[int, int, int, int, str], nn.Module],
    *,
    width: int,
    classes: int,
    in_channels: int,
    image_size: int,
    norm: str,
    seed: int,
) -> TorchModel:
    """A convolutional network from all of its options (:func:`alrsim.models.options.image_options`).

    Args:
        kind: The module's class, with the options up to ``norm`` in this order.
    """
    module = kind(width, classes, in_channels, image_size, norm)
    example = float_input((in_channels, image_size, image_size), seed)
    return TorchModel(type(module).__name__.lower(), module, example, classes)
