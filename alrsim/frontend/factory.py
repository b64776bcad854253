"""A user's own model: ``path/to/file.py:make_model`` or ``package.module:make_model``.

The contract: ``make_model`` takes no required argument and returns one of

* a :class:`alrsim.frontend.torch_model.TorchModel`;
* ``(module, example)``, where ``example`` is a tensor or a tuple of tensors with the batch in front: its samples are
  repeated for larger batches;
* a module with an attribute ``input_shape``: the shape of one float input WITHOUT the batch.

Torch's random state is seeded with 0 while the factory runs and put back after it, so that the same factory gives the
same parameters. The folder of a file is importable while it runs.
"""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from alrsim.errors import ModelError, OptionError
from alrsim.files import read_text
from alrsim.frontend.blame import blamed
from alrsim.frontend.torch_model import TorchModel, float_input, output_shape, seeded

_FORM = "write path/to/file.py:make_model or package.module:make_model"
_CONTRACT = "return a TorchModel, (module, example_input), or a module with an input_shape"
_RUN = "run it in Python first"


def load_factory(spec: str) -> TorchModel:
    """The model that a factory makes, run once on its example input to learn the number of classes.

    Raises:
        OptionError: ``spec`` is not of the form ``file.py:function`` or ``package.module:function``.
        FileError: no such file.
        ModelError: the file or the factory raises (says the line), the factory does not exist (lists those that
            do), cannot be called without arguments, or returns something else than the contract says.
    """
    source, colon, attribute = spec.rpartition(":")
    if not colon or not source or not attribute.isidentifier():
        raise OptionError(f"{spec!r} does not name a model factory", where="MODEL", fix=_FORM)
    from_file = source.endswith(".py") or "/" in source
    folder = Path(source).resolve().parent if from_file else Path.cwd()
    with _importable(folder), seeded(0), contextlib.redirect_stdout(sys.stderr):  # stdout is for our own answer
        module = _run_file(Path(source)) if from_file else _import(source)
        factory = _find(module, attribute, source)
        try:
            made = factory()
        except (Exception, SystemExit) as error:
            raise blamed(error, f"{attribute}() fails", spec, _RUN) from None
    return model_of_made(made, f"{Path(source).stem if from_file else source}.{attribute}", spec)


def model_of(module: nn.Module, example: object = None) -> TorchModel:
    """A module with its example input.

    Args:
        example: A tensor or a tuple of tensors with the batch in front; ``None``: the module has an ``input_shape``.

    Raises:
        ModelError: no module, no example input, or a module that fails on it.
    """
    name = type(module).__name__
    return model_of_made(module if example is None else (module, example), name, name)


def model_of_made(made: object, name: str, spec: str) -> TorchModel:
    """What a factory returned, as a model; run once, to learn the number of classes.

    Args:
        name: What reports call it.
        spec: What errors call it.

    Raises:
        ModelError: it is none of what a factory may return, or fails on its example input.
    """
    model = _as_model(made, name, spec)
    shape = output_shape(model, 2)
    return model if isinstance(made, TorchModel) else replace(model, classes=shape[1] if len(shape) > 1 else 0)


def _run_file(path: Path) -> ModuleType:
    text = read_text(path)
    module = ModuleType(f"alrsim_user_{path.stem}")  # no real module is hidden by a file called json.py
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and torch look a class's module up
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise blamed(error, "the file cannot be run", str(path), _RUN) from None
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise ModelError(f"there is no module {missing!r}", where=name, fix=_FORM) from None
        raise blamed(error, "the module cannot be imported", name, _RUN) from None


def _find(module: ModuleType, attribute: str, source: str) -> Callable[[], Any]:
    factory = getattr(module, attribute, None)
    if factory is None:
        own = [name for name, value in vars(module).items() if _is_candidate(name, value, module)]
        known = f"it defines {', '.join(own)}" if own else "it defines no function"
        raise ModelError(f"has no {attribute!r}; {known}", where=source, fix=_FORM)
    if not callable(factory):
        raise ModelError(
            f"{attribute!r} is a {type(factory).__name__}, not a function", where=source, fix=f"def {attribute}(): ..."
        )
    with contextlib.suppress(ValueError, TypeError):  # some callables have no signature
        required = [
            item.name
            for item in inspect.signature(factory).parameters.values()
            if item.default is item.empty and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        ]
        if required:
            raise ModelError(
                f"{attribute}() needs arguments: {', '.join(required)}",
                where=source,
                fix="give them defaults: a factory is called without arguments",
            )
    result: Callable[[], Any] = factory
    return result


def _is_candidate(name: str, value: object, module: ModuleType) -> bool:
    return callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__


def _as_model(made: object, name: str, spec: str) -> TorchModel:
    if isinstance(made, TorchModel):
        return made
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        inputs = (made[1],) if isinstance(made[1], Tensor) else made[1]
        return TorchModel(name, made[0], _repeated(inputs, spec), 0)
    if isinstance(made, nn.Module) and hasattr(made, "input_shape"):
        return TorchModel(name, made, _noise(made.input_shape, spec), 0)
    kind = type(made).__name__
    what = f"the factory returns {kind} without an input_shape" if isinstance(made, nn.Module) else None
    raise ModelError(what or f"the factory returns {kind}", where=spec, fix=_CONTRACT)


def _repeated(inputs: object, spec: str) -> Callable[[int], tuple[Tensor, ...]]:
    tensors = tuple(inputs) if isinstance(inputs, tuple | list) else ()
    if not tensors or not all(isinstance(item, Tensor) for item in tensors):
        raise ModelError(
            f"the example input is a {type(inputs).__name__}, not tensors",
            where=spec,
            fix="return (module, tensor) or (module, (tensor, tensor))",
        )
    sizes = {item.shape[0] if item.ndim else 0 for item in tensors}
    if len(sizes) > 1 or 0 in sizes:
        shapes = ", ".join(str(tuple(item.shape)) for item in tensors)
        raise ModelError(f"the example inputs {shapes} do not share a batch in front", where=spec, fix=_CONTRACT)
    samples = sizes.pop()

    def example(batch: int) -> tuple[Tensor, ...]:
        rows = torch.arange(batch) % samples
        return tuple(item[rows] for item in tensors)

    return example


def _noise(shape: object, spec: str) -> Callable[[int], tuple[Tensor, ...]]:
    sizes = tuple(shape) if isinstance(shape, tuple | list | torch.Size) else ()
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ModelError(
            f"input_shape is {shape!r}", where=spec, fix="give the shape of one sample, such as (3, 32, 32)"
        )
    return float_input(sizes, 0)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder first on the import path, as Python does for a script."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
