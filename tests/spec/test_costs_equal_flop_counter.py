"""MAC counts against torch's FlopCounterMode on the meta device: forward, and forward plus backward, exactly."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alrsim.cost.operators import cost_graph
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.graph import Graph
from alrsim.graph.work import NO_WORK
from alrsim.models import ZOO, build

CNNS = [
    ("resnet5", "none"),
    ("resnet5", "group"),
    *((name, "batch") for name in ("resnet5", "resnet9", "resnet12", "vgg8")),
]


def counted(graph: Graph) -> tuple[int, int]:
    """FLOPs of matrix work, forward and forward plus both gradients, by our rules."""
    costs = cost_graph(graph).values()
    forward = sum((cost.forward for cost in costs), NO_WORK).macs
    backward = sum((cost.input_gradient + cost.weight_gradient for cost in costs), NO_WORK).macs
    return 2 * forward, 2 * (forward + backward)


def expected(model: TorchModel, batch: int) -> tuple[int, int]:
    """The same by torch's counter, which sees matrix products and convolutions only."""
    inputs = [value.to("meta") for value in model.example(batch)]
    module = model.module.to("meta")
    with FlopCounterMode(display=False) as forward:
        output = module(*inputs)
    with FlopCounterMode(display=False) as both:
        module(*inputs).sum().backward()
    assert output.shape[0] == batch
    return forward.get_total_flops(), both.get_total_flops()


def compare(model: TorchModel, batch: int) -> tuple[int, int]:
    ours = counted(export_model(model, batch).graph)
    assert ours == expected(model, batch)
    return ours


def random_input(*shape: int):
    def example(batch: int) -> tuple[Tensor, ...]:
        return (torch.zeros(batch, *shape),)

    return example


@pytest.mark.parametrize(("name", "norm"), CNNS)
def test_every_zoo_cnn_agrees(name, norm):
    compare(build(name, norm=norm), 2)


@pytest.mark.parametrize("name", sorted(set(ZOO) - {name for name, _ in CNNS}))
def test_every_other_zoo_model_agrees(name):
    compare(build(name), 2)


def test_the_mlp_of_the_task_agrees():
    layers = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    model = TorchModel("mlp", layers, random_input(784), 10)
    assert compare(model, 64) == (2 * 119_144_448, 612_106_240)


class BasicBlock(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.short = None
        if stride != 1 or inner != outer:
            self.short = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + (x if self.short is None else self.short(x)))


def resnet18() -> nn.Module:
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [BasicBlock(*width) for width in (*widths, (512, 512, 1))]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def test_resnet18_agrees():
    model = TorchModel("resnet18", resnet18(), random_input(3, 224, 224), 1000)
    assert compare(model, 1) == (2 * 1_814_073_344, 10_648_412_160)


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], layers: int, both_ways: bool) -> None:
        super().__init__()
        self.cell = cell(12, 10, layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(10 * (1 + both_ways), 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


@pytest.mark.parametrize(
    ("cell", "layers", "both_ways"), [(nn.LSTM, 1, False), (nn.LSTM, 2, True), (nn.GRU, 1, False), (nn.RNN, 1, False)]
)
def test_fused_recurrent_operators_agree(cell, layers, both_ways):
    # torch's counter sees the recursion's first step, whose state needs no gradient, exactly as we do
    compare(TorchModel("recurrent", Recurrent(cell, layers, both_ways), random_input(7, 12), 5), 3)


class TransformerBlock(nn.Module):
    """Pre-norm, attention written out; one block as in a language model, read at every position."""

    def __init__(self, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.softmax(q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5, -1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def test_a_transformer_block_with_explicit_attention_agrees():
    model = TorchModel("block", TransformerBlock(), random_input(128, 256), 0)
    assert compare(model, 2) == (2 * 218_103_808, 1_308_622_848)


class Convolutions(nn.Module):
    """Strides, dilation, padding, one and three dimensions, transposed: everything but groups."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), dilation=(1, 2), padding=(1, 0))
        self.b = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)
        self.c = nn.Conv1d(4, 6, 4, padding=2)
        self.d = nn.Conv3d(2, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(self.b(self.a(x)).flatten(2))
        return self.d(y[:, :, :360].reshape(y.shape[0], 2, 3, 60, 6)).flatten(1)


def test_convolutions_of_all_shapes_agree():
    compare(TorchModel("convolutions", Convolutions(), random_input(3, 16, 17), 0), 2)


def test_a_grouped_convolution_agrees_forward_and_torch_counts_its_weight_gradient_too_high():
    # torch's formula for the weight gradient ignores the groups: 4 times too many here. Ours: as many as forward.
    grouped = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 16, 3, groups=4), nn.Flatten())
    model = TorchModel("grouped", grouped, random_input(8, 6, 6), 0)
    ours, theirs = counted(export_model(model, 2).graph), expected(model, 2)
    one = 2 * (2 * 16 * 4 * 4) * 2 * 9
    assert ours[0] == theirs[0]
    assert theirs[1] - ours[1] == (4 - 1) * one


class Products(nn.Module):
    """Broadcast batches, vectors of weights on the left, einsum with and without contraction."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.ones(5, 6))
        self.stack = nn.Parameter(torch.ones(3, 4, 7))

    def forward(self, x: Tensor) -> Tensor:
        y = self.left @ x
        z = torch.einsum("bij,kjl->bkil", y, self.stack)
        return torch.einsum("bkil,bkil->bkil", z, z.exp()).flatten(1)


def test_matrix_products_and_einsums_agree():
    compare(TorchModel("products", Products(), random_input(6, 4), 0), 2)
