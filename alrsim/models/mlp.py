"""A multi-layer perceptron."""

from torch import Tensor, nn

from alrsim.frontend.torch_model import TorchModel, float_input
from alrsim.models.entry import SEED, Option, ZooEntry


class MLP(nn.Module):
    """``depth`` hidden ReLU layers of equal width; inputs ``(batch, features)``."""

    def __init__(self, features: int, hidden: int, depth: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for index in range(depth):
            self.layers.add_module(f"linear{index}", nn.Linear(features if index == 0 else hidden, hidden))
            self.layers.add_module(f"relu{index}", nn.ReLU())
        self.linear = nn.Linear(hidden, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.layers(inputs))
        return logits


def build_mlp(*, features: int, hidden: int, depth: int, classes: int, seed: int) -> TorchModel:
    """The perceptron from all of its options."""
    return TorchModel("mlp", MLP(features, hidden, depth, classes), float_input((features,), seed), classes)


MLP_ENTRY = ZooEntry(
    "mlp",
    build_mlp,
    {
        "features": Option(64, "inputs; 64 are the pixels of a digit"),
        "hidden": Option(128, "width of the hidden layers"),
        "depth": Option(2, "hidden layers"),
        "classes": Option(10, "number of logits", minimum=2),
        "seed": SEED,
    },
    "linear and ReLU layers, for the 8x8 digits",
    "64-128-128-10",
)
