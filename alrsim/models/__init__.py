"""The zoo: the architectures of the papers, one file per family, by name."""

from alrsim.errors import ModelError
from alrsim.frontend.torch_model import TorchModel, seeded
from alrsim.models.convolutional import CONVOLUTIONAL
from alrsim.models.entry import Option, ZooEntry, resolve
from alrsim.models.graphnets import GRAPH_NETWORKS
from alrsim.models.mlp import MLP_ENTRY
from alrsim.models.recurrent import RECURRENT
from alrsim.models.spiking import SNN_ENTRY
from alrsim.options import choose
from alrsim.registry import Registry

__all__ = ["ZOO", "Option", "ZooEntry", "build"]

_ENTRIES = (*CONVOLUTIONAL, MLP_ENTRY, *RECURRENT, *GRAPH_NETWORKS, SNN_ENTRY)

ZOO: Registry[ZooEntry] = Registry("model", {entry.name: entry for entry in _ENTRIES}, "alrsim.models")
"""Every architecture by its name."""


def build(name: str, /, **options: object) -> TorchModel:
    """A zoo model in training mode; its parameters depend on the options (``seed`` among them) and nothing else.

    Raises:
        OptionError: unknown model, unknown option, or a value that is not allowed; says what exists.
        ModelError: the model does not fit in this host's memory.
    """
    entry = ZOO[choose(name, ZOO, field="model", what="model of the zoo")]
    values = resolve(name, entry.options, options)
    with seeded(int(values.get("seed", 0))):
        try:
            model = entry.build(**values)
        except (RuntimeError, MemoryError) as error:  # torch's allocator raises RuntimeError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "out of memory"
            raise ModelError(
                f"cannot be built: {reason}", where=f"model {name}", fix="choose smaller sizes by `option`"
            ) from None
    model.module.train()
    return model
