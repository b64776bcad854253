"""What the registry of the zoo knows about a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alrsim.frontend.torch_model import TorchModel
from alrsim.models.options import Option


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One architecture.

    Attributes:
        name: As typed on the command line.
        build: Makes the model from its options as keyword arguments, all of them. Draws the initial parameters from
            torch's global generator; use :func:`alrsim.models.build`, which seeds it and puts it back.
        options: By name.
        description: One line for people.
        source: Where the architecture comes from, and what is our own choice.
    """

    name: str
    build: Callable[..., TorchModel]
    options: Mapping[str, Option]
    description: str
    source: str
