"""From a torch model to an operator graph, with the torch graph that it came from kept beside it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from alrsim.errors import AlrsimError, FileError, OptionError
from alrsim.frontend.blame import blamed
from alrsim.frontend.custom_ops import translations
from alrsim.frontend.fx_map import attach_origins
from alrsim.frontend.onnx_import import import_onnx
from alrsim.frontend.onnx_repair import find_aliases, repair, use_first_names
from alrsim.frontend.torch_model import TorchModel, in_mode
from alrsim.graph.graph import Graph
from alrsim.writing import write_atomically

OPSET = 21
"""The first ONNX version with a GroupNormalization of torch's meaning; older ones spread it over 20 nodes."""

_PROTOBUF_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Exported:
    """One model at one batch size, in three forms that name the same things.

    Attributes:
        graph: The operator graph. Each operator's ``fx_nodes`` are nodes of ``program``, its ``module`` is the dotted
            path in the torch module. Parameters and buffers have their torch names,
            shared ones their first.
        program: The DECOMPOSED program that the ONNX graph was translated from (``onnx_program.exported_program``),
            not the one that ``torch.export.export`` gave: running BatchNorm statistics are functional outputs
            (``_native_batch_norm_legit_functional``), everything else is ATen as torch calls it (``conv2d``,
            ``linear``, ``group_norm``...). Every ``call_function`` node of it belongs to at least one operator of
            ``graph``, unless nothing that the graph computes needs it. Shapes hold for the exported batch size only.
            To differentiate it, interpret ``program.graph_module`` with parameters and buffers as inputs, in the
            order of ``program.graph_signature``: ``program.module()`` overwrites the running statistics in place,
            which autograd refuses.
        proto: The ONNX model, for saving.
    """

    graph: Graph
    program: ExportedProgram
    proto: onnx.ModelProto


def export_model(model: TorchModel, batch: int) -> Exported:
    """Trace ``model`` in training mode on ``batch`` samples, which are not made: only their shapes are read.

    BatchNorm stays (unfused, with batch statistics), and no optimiser touches the graph. A module in evaluation
    mode is switched to training for the trace and back after it; single frozen submodules of a module in training
    mode stay frozen. Neither values, buffers nor torch's random state change.

    Raises:
        ModelError: if torch cannot trace or translate the model; names the line of the user's code if torch tells.
        OptionError: if ``batch`` is not positive, or so large that torch cannot number the bytes of a value.
    """
    if batch < 1:
        raise OptionError(f"a batch of {batch} samples cannot be traced", where="batch", fix="use at least 1")
    try:
        inputs = unmade_inputs(model, batch)
        with _quiet(), in_mode(model.module, training=True), torch.random.fork_rng(devices=[]):
            program = torch.export.export(model.module, inputs, strict=False)
            translated = torch.onnx.export(
                program,
                inputs,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                verbose=False,
                custom_translation_table=translations(program),
            )
    except Exception as error:  # torch raises RuntimeError, TypeError, its own UserError, AssertionError...
        raise _export_error(model.name, batch, error) from None
    assert translated is not None, "torch.onnx.export(dynamo=True) without a file returns the program"
    assert translated.exported_program is not None, "the dynamo exporter keeps the program that it translated"
    proto, program = translated.model_proto, translated.exported_program
    aliases = find_aliases(model.module)
    use_first_names(proto, program, aliases)
    repair(proto, program)
    graph = _import(model.name, proto, program, aliases)
    return Exported(attach_origins(graph, proto, program), program, proto)


def unmade_inputs(model: TorchModel, batch: int) -> tuple[Tensor, ...]:
    """Inputs that have a shape and no values, so that a batch of any size takes no memory."""
    samples = model.example(2)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv(tracked_fakes=[])):
        return tuple(torch.empty((batch, *item.shape[1:]), dtype=item.dtype) for item in samples)


def save_onnx(exported: Exported, path: Path) -> None:
    """Write the ONNX model with its parameters inside, whole or not at all.

    Raises:
        FileError: if the model does not fit in one protobuf file, or the file cannot be written.
    """
    size = exported.proto.ByteSize()
    if size > _PROTOBUF_LIMIT:
        raise FileError(
            f"the model needs {size} bytes, an ONNX file holds {_PROTOBUF_LIMIT}",
            where=str(path),
            fix="export a smaller width",
        )
    write_atomically(Path(path), exported.proto.SerializeToString())


def _import(name: str, proto: onnx.ModelProto, program: ExportedProgram, aliases: Mapping[str, str]) -> Graph:
    """The operator graph. An ONNX file calls parameters and buffers alike initializers; torch knows which is which."""
    signature, state = program.graph_signature, program.state_dict
    parameters = tuple(item for item in signature.parameters if item not in aliases)
    trained = tuple(item for item in parameters if state[item].requires_grad)
    buffers = tuple(item for item in (*parameters, *signature.buffers) if item not in trained)
    graph = import_onnx(proto, name=name, bind={}, parameters=trained, buffers=buffers)
    unread = sorted(set(trained) - set(graph.parameters))
    notes = (f"the forward pass never reads parameters {', '.join(unread)}",) if unread else ()
    return replace(graph, warnings=(*graph.warnings, *notes))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it logs, warns and prints on success and on failure alike."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _export_error(name: str, batch: int, error: Exception) -> AlrsimError:
    if "overflow" in str(error).lower():
        what = f"values of {batch:,} samples are larger than 64 bits can number"
        return OptionError(what, field="batch", fix="a smaller `batch`")
    cause, fix = "", "check that the module runs on its example input and uses operators that torch.onnx knows"
    if "data-dependent" in str(error):
        cause, fix = (
            "its control flow depends on the data",
            "branch on shapes or on Python constants, or use torch.where",
        )
    return blamed(error, "torch cannot export the model", name, fix, cause=cause)
