"""A user's own model, as a factory; what it imports of alrsim is what a user may import."""

import torch
from torch import nn

from alrsim.frontend.torch_model import TorchModel


def make() -> TorchModel:
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    return TorchModel("mine", module, lambda batch: (torch.ones(batch, 8),), 4)
