"""Models: a zoo name, a factory, a torch module, an ONNX file or a saved graph; loaded once, asked many times."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alrsim.errors import ModelError, OptionError
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.options import choose
from alrsim.progress import stretch
from alrsim.registry import REGISTRIES, require_code
from alrsim.steps.kept import is_kept, keep_graph, kept_folder, kept_graph
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.cost.cut import Weights
    from alrsim.execution.programs.program import Program
    from alrsim.frontend.torch_export import Exported
    from alrsim.frontend.torch_model import TorchModel

DEFAULT_BATCH = 32

Source = Literal["zoo", "factory", "module", "onnx", "graph"]

CutKey = tuple[tuple[str, ...], ...]
"""Operator names per stage: what tells one cut from another."""


@dataclass(frozen=True)
class SizedModel:
    """A model at the size of one micro-batch.

    Attributes:
        samples: Samples in one micro-batch; 0 if the file does not tell.
    """

    name: str
    graph: Graph
    samples: int


@dataclass(eq=False)
class Model:
    """A model, read once per batch size and cut once per cut.

    Attributes:
        name: What reports call it.
        source: What kind of thing it was loaded from.
        batch: Samples of the whole batch where nothing else is said; ``None``: what the file holds.
    """

    name: str
    source: Source
    batch: int | None = None
    _make: "Callable[[], TorchModel] | None" = field(default=None, repr=False)
    _kept: Path | None = field(default=None, repr=False)
    _file_graph: Graph | None = field(default=None, repr=False)
    _sizes: dict[int, SizedModel] = field(default_factory=dict, repr=False)
    _exports: "dict[int, Exported]" = field(default_factory=dict, repr=False)
    _programs: dict[tuple[int, CutKey], "Program"] = field(default_factory=dict, repr=False)
    _fingerprint: tuple[object, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.source})"

    @property
    def runs(self) -> bool:
        """Whether there is torch code, so that it can be executed and trained."""
        return self._make is not None

    @cached_property
    def torch_model(self) -> "TorchModel | None":
        """Of zoo, factory and module: the module with its example inputs; else ``None``."""
        return self._make() if self._make else None

    @property
    def scales(self) -> bool:
        """Whether it can be had at any batch size; a file holds one."""
        return self._file_graph is None

    @property
    def graph(self) -> Graph:
        """The operators for the whole default batch."""
        return self.at(self.batch, 1).graph

    def stages(self, cut: str) -> StageGraph:
        """The model at its default batch, cut into stages; see ``cut`` of :class:`alrsim.steps.options.MethodOptions`.

        Raises:
            OptionError: an unknown or impossible cut.
        """
        return cut_stages(self.graph, cut)

    def export(self, path: str | Path, batch: int | None = None) -> None:
        """Write the model as an ONNX file.

        Raises:
            OptionError: it has no torch code.
            FileError: the file cannot be written.
        """
        from alrsim.frontend.torch_export import save_onnx

        sized = self.at(batch, 1)
        if not self.runs:
            raise OptionError(f"{self.name} has no torch code to export", field="model")
        save_onnx(self._exported(sized.samples), Path(path))

    def at(self, batch: int | None = None, microbatches: int = 1) -> SizedModel:
        """The model at the size of one micro-batch; exported at the first call for a size.

        Args:
            batch: Samples of the whole batch; ``None``: the model's own, or :data:`DEFAULT_BATCH`.

        Raises:
            OptionError: a batch that cannot be split evenly, or another than a file holds.
            ModelError: torch cannot export it.
        """
        wanted = self.batch if batch is None else batch
        if self._file_graph is not None:
            return SizedModel(
                self.name, self._file_graph, file_batch(self.name, self._file_graph, wanted, microbatches)
            )
        self._check_unchanged()
        size = microbatch_size(wanted, microbatches)
        if size not in self._sizes:
            kept = kept_graph(self._kept, size) if self._kept else None
            graph = kept or self._exported(size).graph
            if self._kept and kept is None:
                keep_graph(self._kept, size, graph)
            for warning in graph.warnings:
                warn(f"{self.name}: {warning}")
            self._sizes[size] = SizedModel(self.name, graph, size)
        return self._sizes[size]

    def _exported(self, size: int) -> "Exported":
        """What torch makes of so many samples; made at the first call for a size."""
        if size not in self._exports:
            if self.torch_model is None:
                raise ModelError(f"was sent here without its {size}-sample graph", where=self.name)
            from alrsim.frontend.torch_export import export_model

            with stretch(1, "load") as step:
                step(f"{self.name}, {size} samples")
                self._exports[size] = export_model(self.torch_model, size)
        return self._exports[size]

    def remember(self, sizes: "Mapping[int, SizedModel]") -> None:
        """Take sizes that were exported elsewhere, so that they are not exported again."""
        self._sizes.update(sizes)

    def program(self, sized: SizedModel, stages: StageGraph) -> "Program":
        """The torch program, cut where the graph is cut; made at the first call for a size and a cut."""
        from alrsim.execution.programs.program import build_program

        key = (sized.samples, cut_key(stages))
        if key not in self._programs:
            self._programs[key] = build_program(sized.graph, self._exported(sized.samples).program, stages)
        return self._programs[key]

    def _check_unchanged(self) -> None:
        """A module that was changed since it was read is read anew."""
        if self.source != "module" or self.torch_model is None:
            return
        found = fingerprint(self.torch_model.module)
        if self._sizes and found != self._fingerprint:
            warn(f"{self.name} has changed since it was read; it is read anew")
            for known in (self._sizes, self._exports, self._programs):
                known.clear()
        self._fingerprint = found

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: graphs, no torch."""
        return {**self.__dict__, "torch_model": None, "_make": None, "_exports": {}, "_programs": {}}


def fingerprint(module: Any) -> tuple[object, ...]:
    """What decides a module's graph: names, shapes, formats, gradients, ties and training flags; no values."""
    seen: dict[int, str] = {}
    tensors = []
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        first = seen.setdefault(id(tensor), name)
        tensors.append((name, tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad, first))
    return (*tensors, *((name, type(part).__name__, part.training) for name, part in module.named_modules()))


def load_model(
    model: Any,
    *,
    example: Any = None,
    option: Mapping[str, str] | None = None,
    bind: Mapping[str, int] | None = None,
    batch: int | None = None,
) -> Model:
    """Load a model.

    Args:
        model: A zoo name (``"resnet5"``), a factory (``"file.py:make"``, ``"package.module:make"``), an ``.onnx`` file,
            a graph file, a ``torch.nn.Module``, a :class:`alrsim.frontend.torch_model.TorchModel`, a :class:`Graph`, or
            a :class:`Model`, which is given back. The module is not changed.
        example: Of a module: an input tensor, or a tuple of them, with the batch in front.
        option: Options of a zoo model: ``{"norm": "group"}``.
        bind: Sizes of dynamic dimensions of an ``.onnx`` file.
        batch: Samples of the whole batch where nothing else is said.

    Raises:
        ModelError: it cannot be found or loaded.
        FileError: its file cannot be read.
        OptionError: options that do not belong to this kind of model.

    >>> load_model("mlp")
    Model('mlp', zoo)
    """
    if isinstance(model, Model):
        require_source(model.source, model.name)
        return model
    if isinstance(model, Graph):
        return Model(model.name, "graph", batch=batch, _file_graph=model)
    text = str(model) if isinstance(model, (str, Path)) else ""
    source: Source = source_of(text) if text else "module"
    require_source(source, text or type(model).__name__)
    if option and source != "zoo":
        raise OptionError("only zoo models have options", field="option", fix="set them in your own file")
    if bind and source != "onnx":
        raise OptionError("only .onnx files have dynamic dimensions", field="bind", fix="use `batch`")
    if source in ("onnx", "graph"):
        graph = _onnx_graph(Path(text), bind or {}) if source == "onnx" else _saved_graph(Path(text))
        for warning in graph.warnings:
            warn(f"{graph.name}: {warning}")
        return Model(graph.name, source, batch=batch, _file_graph=graph)
    if batch is not None:
        microbatch_size(batch, 1)
    kept = kept_folder(text, option or {}) if source == "zoo" else None
    make = partial(_torch_model, model, text, source, example, option or {})
    if kept and is_kept(kept):
        return Model(text, source, batch, make, kept)
    found = make()
    if kept and text not in REGISTRIES["model"].builtin:  # a plug-in's code may change from one program to the next
        kept = None
    return Model(found.name, source, batch, lambda: found, kept)


def require_source(source: Source, name: str) -> None:
    """For a model that is about to be loaded or used.

    Raises:
        OptionError: it is somebody's code, and code is barred.
    """
    if source in ("factory", "module"):
        require_code(f"a {source}", name, field="model", fix="a zoo name or an .onnx file")


def source_of(text: str) -> Source:
    """What kind of model a text names."""
    if text.endswith(".onnx"):
        return "onnx"
    if text.endswith(".json"):
        return "graph"
    return "factory" if ":" in text or text.endswith(".py") else "zoo"


def _onnx_graph(path: Path, bind: Mapping[str, int]) -> Graph:
    from alrsim.frontend.onnx_import import import_onnx

    return import_onnx(path, name=path.stem, bind=dict(bind))


def _saved_graph(path: Path) -> Graph:
    from alrsim.files import load_value

    return load_value("graph", Graph, path)


def _torch_model(model: Any, text: str, source: Source, example: Any, option: Mapping[str, str]) -> "TorchModel":
    if source == "factory":
        from alrsim.frontend.factory import load_factory

        return load_factory(text)
    if source == "module":
        from alrsim.frontend.factory import model_of
        from alrsim.frontend.torch_model import TorchModel

        return model if isinstance(model, TorchModel) else model_of(model, example)
    from alrsim.models import ZOO, build

    if text not in ZOO:
        try:
            choose(text, ZOO, field="model", what="model of the zoo")
        except OptionError as error:
            fix = f"{error.fix}; or give a factory (file.py:make), an .onnx file or a graph .json"
            raise ModelError(error.what, field="model", fix=fix) from None
    return build(text, **option)


def microbatch_size(batch: int | None, microbatches: int) -> int:
    """Samples of one micro-batch.

    Raises:
        OptionError: if the batch cannot be split evenly.
    """
    whole = DEFAULT_BATCH if batch is None else batch
    for name, number in (("batch", whole), ("microbatches", microbatches)):
        if number < 1:
            raise OptionError(f"is {number}, must be at least 1", field=name)
    if whole % microbatches:
        larger = -(-whole // microbatches) * microbatches
        raise OptionError(
            f"a batch of {whole} samples cannot be split evenly into {microbatches} micro-batches",
            field="microbatches",
            fix=f"use `batch={larger}`, or a number of micro-batches that divides {whole}",
        )
    return whole // microbatches


def file_batch(name: str, graph: Graph, batch: int | None, microbatches: int) -> int:
    """The batch that a file was made for: the first dimension of its first input. It IS one micro-batch.

    Raises:
        OptionError: if another batch was asked for.
    """
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    samples = shape[0] if shape else 0
    if batch is not None and batch != samples * microbatches:
        raise OptionError(
            f"{name} holds {samples} samples, so {microbatches} micro-batches are {samples * microbatches} samples, "
            f"not {batch}",
            field="batch",
            fix="leave `batch` out, bind a dynamic dimension (`bind`), or export the model at another size",
        )
    return samples


def cut_key(stages: StageGraph) -> CutKey:
    """What tells one cut from another."""
    return tuple(stage.ops for stage in stages.stages)


def cut_stages(graph: Graph, cut: str | CutKey, *, weights: "Weights | None" = None) -> StageGraph:
    """Cut a graph and count what every stage does.

    Args:
        cut: A specification, or the operators of every stage.
        weights: What ``balanced`` balances; default: FLOPs.

    Raises:
        OptionError: an unknown or impossible cut.
        ModelError: an operator that cannot be priced.
    """
    from alrsim.cost.cut import cut_graph
    from alrsim.cost.stages import build_stages

    return build_stages(graph, cut_graph(graph, cut, weights=weights) if isinstance(cut, str) else cut)
