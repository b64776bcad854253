"""VGG-8: six plain convolutions and two linear layers."""

from functools import partial

from torch import Tensor, nn

from alrsim.models.blocks import build_network, conv_block
from alrsim.models.entry import ZooEntry
from alrsim.models.options import image_options


class VGG8(nn.Module):
    """Six convolutions with four poolings, two linear layers; images ``(batch, in_channels, size, size)``."""

    def __init__(self, width: int, classes: int, in_channels: int, image_size: int, norm: str) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_block(in_channels, width, norm),
            conv_block(width, 2 * width, norm, pool=2),
            conv_block(2 * width, 2 * width, norm),
            conv_block(2 * width, 4 * width, norm, pool=2),
            conv_block(4 * width, 4 * width, norm, pool=2),
            conv_block(4 * width, 4 * width, norm, pool=2),
        )
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(4 * width * (image_size // 16) ** 2, 8 * width)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.hidden(self.flatten(self.features(images))))
        logits: Tensor = self.linear(hidden)
        return logits


VGG8_ENTRY = ZooEntry(
    "vgg8",
    partial(build_network, VGG8),
    image_options(width=64, classes=10, channels=3, size=32, multiple=16),
    "6 convolutions and 2 linear layers, for CIFAR-10",
    "the ULR paper names it without a table; the plan is that of VGG8B (Nokland and Eidnes 2019, arXiv:1901.06656) "
    "at half its width by default, without its dropout",
)
