"""MODEL on the command line: a zoo name, a factory, an ONNX file, or a saved graph."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alrsim.cli.parse import choose, parse_bind, parse_pairs
from alrsim.errors import ModelError, OptionError
from alrsim.graph.graph import Graph

if TYPE_CHECKING:
    from alrsim.frontend.torch_export import Exported
    from alrsim.frontend.torch_model import TorchModel

DEFAULT_BATCH = 32

Source = Literal["zoo", "factory", "onnx", "graph"]


@dataclass(frozen=True)
class ModelRequest:
    """What was typed.

    Attributes:
        batch: Samples of the whole batch; ``None`` takes the default, or what the file holds.
        microbatches: The model is loaded at the size of one micro-batch.
    """

    text: str
    options: Mapping[str, str]
    bind: Mapping[str, int]
    batch: int | None
    microbatches: int = 1

    @property
    def source(self) -> Source:
        """What kind of model the text names."""
        if self.text.endswith(".onnx"):
            return "onnx"
        if self.text.endswith(".json"):
            return "graph"
        return "factory" if ":" in self.text or self.text.endswith(".py") else "zoo"


@dataclass(frozen=True)
class LoadedModel:
    """A model at the size of one micro-batch.

    Attributes:
        samples: Samples in one micro-batch; 0 if the file does not tell.
        torch_model: Of zoo and factory models: what the executor runs.
        exported: The same model as graph and torch program.
    """

    name: str
    graph: Graph
    samples: int
    torch_model: "TorchModel | None" = None
    exported: "Exported | None" = None


def request(
    text: str, options: list[str] | None, bind: list[str] | None, batch: int | None, microbatches: int = 1
) -> ModelRequest:
    """Check what was typed, without loading anything.

    Raises:
        OptionError: options that do not belong to this kind of model, or a batch that cannot be split evenly.
    """
    asked = ModelRequest(text, parse_pairs(options, where="--option"), parse_bind(bind), batch, microbatches)
    if asked.options and asked.source != "zoo":
        raise OptionError("only zoo models have options", where="--option", fix="set them in your own file")
    if asked.bind and asked.source != "onnx":
        raise OptionError("only .onnx files have dynamic dimensions", where="--bind", fix="use --batch")
    if batch is not None and batch < 1:
        raise OptionError(f"is {batch}, must be at least 1", where="--batch")
    if asked.source in ("zoo", "factory"):
        microbatch_size(batch, microbatches)
    return asked


def microbatch_size(batch: int | None, microbatches: int) -> int:
    """Samples of one micro-batch.

    Raises:
        OptionError: if the batch cannot be split evenly.
    """
    whole = DEFAULT_BATCH if batch is None else batch
    if microbatches < 1:
        raise OptionError(f"is {microbatches}, must be at least 1", where="--microbatches")
    if whole % microbatches:
        larger = -(-whole // microbatches) * microbatches
        raise OptionError(
            f"a batch of {whole} samples cannot be split evenly into {microbatches} micro-batches",
            where="--microbatches",
            fix=f"use --batch {larger}, or a number of micro-batches that divides {whole}",
        )
    return whole // microbatches


Memory = dict[tuple[object, ...], LoadedModel]
"""Models by what decides their graphs: text, options, dimensions, samples of a micro-batch."""

_MEMORY: ContextVar[Memory | None] = ContextVar("models that are known", default=None)


@contextmanager
def remembered(models: Memory) -> Iterator[None]:
    """While this lasts, models are taken from here; others are loaded once, and kept without torch."""
    token = _MEMORY.set(models)
    try:
        yield
    finally:
        _MEMORY.reset(token)


def load(asked: ModelRequest) -> LoadedModel:
    """Load the model at the size of one micro-batch, or take it from what is remembered.

    Raises:
        As :func:`load_anew`.
    """
    known = _MEMORY.get()
    if known is None:
        return load_anew(asked)
    size = microbatch_size(asked.batch, asked.microbatches) if asked.source in ("zoo", "factory") else 0
    key = (asked.text, tuple(sorted(asked.options.items())), tuple(sorted(asked.bind.items())), size)
    if key not in known:
        found = load_anew(asked)
        known[key] = LoadedModel(found.name, found.graph, found.samples)
    if asked.source in ("graph", "onnx"):
        _file_batch(asked, known[key].graph)
    return known[key]


def load_anew(asked: ModelRequest) -> LoadedModel:
    """Load the model at the size of one micro-batch.

    Raises:
        ModelError: the model cannot be found, loaded or exported.
        FileError: its file cannot be read.
        OptionError: an option or a dimension that it does not have.
    """
    if asked.source == "graph":
        return _from_graph(asked)
    if asked.source == "onnx":
        return _from_onnx(asked)
    return _from_torch(asked)


def _from_graph(asked: ModelRequest) -> LoadedModel:
    from alrsim.files import load_value

    graph = load_value("graph", Graph, Path(asked.text))
    return LoadedModel(graph.name, graph, _file_batch(asked, graph))


def _from_onnx(asked: ModelRequest) -> LoadedModel:
    from alrsim.frontend.onnx_import import import_onnx

    path = Path(asked.text)
    graph = import_onnx(path, name=path.stem, bind=asked.bind)
    return LoadedModel(graph.name, graph, _file_batch(asked, graph))


def _from_torch(asked: ModelRequest) -> LoadedModel:
    from alrsim.frontend.torch_export import export_model

    size = microbatch_size(asked.batch, asked.microbatches)
    model = torch_model(asked)
    exported = export_model(model, size)
    return LoadedModel(model.name, exported.graph, size, model, exported)


def torch_model(asked: ModelRequest) -> "TorchModel":
    if asked.source == "factory":
        from alrsim.frontend.factory import load_factory

        return load_factory(asked.text)
    from alrsim.models import ZOO, build

    if asked.text not in ZOO:
        try:
            choose(asked.text, ZOO, where="MODEL", what="model of the zoo")
        except OptionError as error:
            fix = f"{error.fix}; or give a factory (file.py:make), an .onnx file or a graph .json"
            raise ModelError(error.what, where="MODEL", fix=fix) from None
    return build(asked.text, **asked.options)


def _file_batch(asked: ModelRequest, graph: Graph) -> int:
    """The batch that a file was made for: the first dimension of its first input. It IS one micro-batch.

    Raises:
        OptionError: if another batch was asked for.
    """
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    samples = shape[0] if shape else 0
    if asked.batch is not None and asked.batch != samples * asked.microbatches:
        raise OptionError(
            f"{asked.text} holds {samples} samples, so {asked.microbatches} micro-batches are "
            f"{samples * asked.microbatches} samples, not {asked.batch}",
            where="--batch",
            fix="leave --batch out, bind a dynamic dimension (--bind), or export the model at another size",
        )
    return samples
