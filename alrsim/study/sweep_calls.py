"""What a sweep evaluates: a configuration is the keywords of one call, of ``compare``, ``plan`` or a function."""

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from alrsim import registry
from alrsim.errors import AlrsimError, AlrsimWarning, FileError, OptionError
from alrsim.files import from_json, to_json
from alrsim.graph.graph import Graph
from alrsim.hardware.profile import load_machine
from alrsim.options import about, choose, options_of
from alrsim.options import checked as checked_option
from alrsim.steps.chain import LR_OPTIONS
from alrsim.steps.method import DEFAULT_METHODS, parse_method
from alrsim.steps.model import Model, SizedModel, load_model, require_source, source_of
from alrsim.sweeps.grid import Configuration
from alrsim.sweeps.spec import Quality, Spec, Value
from alrsim.verbs import Verb

_machine = lru_cache(maxsize=256)(load_machine)
"""A profile takes longer to read than a small step to simulate."""

MOST_BYTES = 256_000_000
"""Of a model's graph as text; a model of 10,000 operators has ten megabytes."""

NOT_SWEPT = frozenset(("measure", "repeats", "seed", "executor", "limit"))


@dataclass(frozen=True)
class Extra:
    """What travels to a worker with a configuration.

    Attributes:
        function: What is called: ``compare``, ``plan``, or a function of somebody's own.
        models: Size and packed graph of every size of the configuration's model.
        name: Of the model.
        quality: Constants of its method, if the specification has them.
        plugins: So that the worker knows them, too.
        no_code: The worker runs nobody's code.
    """

    function: str | Callable[..., Any]
    name: str = ""
    models: tuple[tuple[int, bytes], ...] = ()
    quality: Quality | None = None
    plugins: registry.Snapshot = field(default_factory=registry.snapshot)
    no_code: bool = field(default_factory=registry.code_is_barred)


def verb_of(name: str) -> Verb[Any]:
    """The verb that a specification names."""
    from alrsim.study.comparison import compare

    if name == "compare":
        return compare
    from alrsim.planner.planning import plan

    return plan


def keywords_of(function: str | Callable[..., Any]) -> tuple[str, ...]:
    """Names that a configuration may have."""
    if not isinstance(function, str):
        return ()
    verb = verb_of(function)
    names = [one.name for one in options_of(verb.options) if one.name not in NOT_SWEPT]
    return (*verb.positional, *names, *(("method",) if function == "compare" else ()))


def spelled(function: str | Callable[..., Any], configuration: Configuration) -> Configuration:
    """A configuration with names as Python spells them: ``input-code`` is ``input_code``.

    Raises:
        OptionError: a name that the verb does not have.
    """
    found = {name.lstrip("-").replace("-", "_"): value for name, value in configuration.items()}
    known = keywords_of(function)
    for name in found:
        if known:
            choose(name, known, field="sweep", what=f"keyword of {function}")
    return found


def with_methods(spec: Spec) -> Spec:
    """Methods of ``compare`` are an axis, however they were given: one configuration has one method."""
    if spec.verb != "compare":
        return spec
    given: list[Value] = []
    for section in (spec.fixed, spec.grid):
        for name in ("method", "methods"):
            value = section.get(name, ())
            given += list(value) if isinstance(value, tuple) else [value]
    texts = [text for one in given for text in (one if isinstance(one, tuple) else (one,))] or list(DEFAULT_METHODS)
    methods = [part.strip() for text in texts for part in str(text).split(",") if part.strip()]
    rest = {name: value for name, value in spec.fixed.items() if name not in ("method", "methods")}
    axes = {name: values for name, values in spec.grid.items() if name not in ("method", "methods")}
    return replace(spec, fixed=rest, grid={"method": tuple(dict.fromkeys(methods)), **axes})


def normalise(function: str | Callable[..., Any], configuration: Configuration) -> Configuration:
    """Leave out what a method does not read: copies and noise of exact gradients."""
    if function != "compare":
        return configuration
    try:
        is_lr = parse_method(str(configuration["method"])).is_lr
    except AlrsimError:
        return configuration  # refused where it is evaluated
    return {name: value for name, value in configuration.items() if is_lr or name not in LR_OPTIONS}


def fingerprints(configuration: Configuration) -> dict[str, str]:
    """Hash of every file that a configuration names."""
    found = {}
    for value in configuration.values():
        for text in value if isinstance(value, tuple) else (value,):
            path = Path(str(text).partition(".py:")[0] + ".py" if ".py:" in str(text) else str(text))
            if isinstance(text, str) and text and os.path.isfile(path):
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Models:
    """Models of a sweep: each loaded once, exported once for every size, and kept packed for the workers.

    Args:
        packed: What an earlier run kept, by :func:`key_of`.
    """

    def __init__(self, packed: Mapping[str, bytes]) -> None:
        self._loaded: dict[str, Model] = {}
        self.packed = dict(packed)

    def extra(self, function: str, configuration: Configuration, quality: Quality | None) -> Extra:
        """What a configuration's worker needs; sizes that are not known yet are exported, in silence.

        Raises:
            AlrsimError: there is no such model, or the configuration makes no sense.
        """
        asked = checked(function, configuration)
        name = str(configuration.get("model", ""))
        if not name:
            raise OptionError("needs a model", field="model")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AlrsimWarning)
            model = self._model(name, asked.option or {}, asked.bind or {})
            sized = sizes_of(function, configuration, asked, model)
        travels = []
        for size, one in sized.items():
            key = key_of(name, asked.option or {}, asked.bind or {}, size)
            if key not in self.packed:
                self.packed[key] = pack(one)
            travels.append((size, self.packed[key]))
        return Extra(function, name, tuple(travels), quality)

    def _model(self, name: str, option: Mapping[str, str], bind: Mapping[str, int]) -> Model:
        key = key_of(name, option, bind, 0)
        if key not in self._loaded:
            model = load_model(name, option=option, bind=bind)
            known = {json.loads(one)[-1]: one for one in self.packed if json.loads(one)[:-1] == json.loads(key)[:-1]}
            model.remember({size: unpack(self.packed[one]) for size, one in known.items() if size})
            self._loaded[key] = model
        return self._loaded[key]


def key_of(name: str, option: Mapping[str, str], bind: Mapping[str, int], size: int) -> str:
    """The key of one size of a model; 0 is the size of a file."""
    return json.dumps([name, sorted(option.items()), sorted(bind.items()), size])


def checked(function: str, configuration: Configuration) -> Any:
    """The options of one call, checked.

    Raises:
        OptionError: a value that the verb refuses.
    """
    verb = verb_of(function)
    return verb.options.take(_keywords(function, configuration))


def _keywords(function: str, configuration: Configuration) -> dict[str, Any]:
    positional = verb_of(function).positional
    found: dict[str, Any] = {name: value for name, value in configuration.items() if name not in positional}
    if function == "compare" and "method" in found:
        found["methods"] = [found.pop("method")]
    if function == "plan":
        found.setdefault("what_if", False)
    known = {one.name: one for one in options_of(verb_of(function).options)}
    return {name: _as_typed(known[name], value) if name in known else value for name, value in found.items()}


def _as_typed(one: "Field[Any]", value: Any) -> Any:
    """A number of YAML as text where the option makes its value from text."""
    return str(value) if about(one).parse is not None and isinstance(value, int | float) else value


def require_values(function: str | Callable[..., Any], spec: Spec) -> None:
    """Refuse what the verb would refuse in every configuration, before anything runs. Methods are tried.

    Raises:
        OptionError: names the keyword.
    """
    if not isinstance(function, str):
        return
    known = {one.name: one for one in options_of(verb_of(function).options)}
    values = [("fixed", name, value) for name, value in spec.fixed.items()]
    values += [("grid", name, value) for name, axis in spec.grid.items() for value in axis]
    values += [("ranges", name, value) for name, one in spec.ranges.items() for value in one.ends]
    for section, name, value in values:
        if name == "method":
            continue
        if name not in known and not isinstance(value, str):
            raise OptionError(f"is {value!r}, must be a text", where=section, field=name)
        if name == "model" and isinstance(value, str):
            require_source(source_of(value), f"{section}: {value}")
        if name not in known:
            continue
        try:
            checked_option(known[name], _as_typed(known[name], value))
        except AlrsimError as error:
            place = f"{section}: {error.where}" if error.where not in ("", name) else section
            raise OptionError(error.what, where=place, field=name, fix=error.fix, fixes=error.fixes) from None


def sizes_of(function: str, configuration: Configuration, asked: Any, model: Model) -> dict[int, SizedModel]:
    """The model at every micro-batch size that a call needs, by samples; a file's one size stands under 0."""
    if not model.scales:
        return {0: model.at(asked.batch, 1 if function == "plan" else asked.microbatches)}
    if function == "compare":
        return {one.samples: one for one in [model.at(asked.batch, asked.microbatches)]}
    from alrsim.planner.question import load_sizes

    units = len(_machine(configuration.get("hardware", "cpu-2core"), asked.units).units)
    source, _ = load_sizes(model, asked, units)
    return {samples: SizedModel(model.name, graph, samples) for samples, graph in source.graphs.items()}


def pack(model: SizedModel) -> bytes:
    """A model for a worker, or for the file of results."""
    document = {"name": model.name, "samples": model.samples, "graph": to_json("graph", model.graph)}
    return zlib.compress(json.dumps(document).encode())


@lru_cache(maxsize=64)
def unpack(data: bytes) -> SizedModel:
    """The inverse of :func:`pack`.

    Raises:
        FileError: it was damaged where it was kept.
    """
    try:
        packed = zlib.decompressobj()
        document = json.loads(packed.decompress(data, MOST_BYTES))
        graph = from_json("graph", Graph, document["graph"], where="sweep")
        return SizedModel(document["name"], graph, document["samples"])
    except (zlib.error, ValueError, KeyError, TypeError):
        raise FileError("holds a damaged model", where="sweep", fix="choose another `store`") from None


@lru_cache(maxsize=64)
def _model(text: str, models: tuple[tuple[int, bytes], ...]) -> Model:
    """A model that knows some sizes, and has no torch code."""
    sized = {size: unpack(data) for size, data in models}
    source = source_of(text)
    first = next(iter(sized.values()))
    if source in ("onnx", "graph"):
        return Model(first.name, source, _file_graph=first.graph)
    return Model(first.name, source, _sizes=sized)


def evaluate(configuration: Configuration, extra: Extra) -> Mapping[str, Any]:
    """One configuration's numbers; what :func:`alrsim.sweeps.engine.run_jobs` calls in its workers.

    Raises:
        AlrsimError: the configuration makes no sense.
    """
    with registry.barring_code(extra.no_code), warnings.catch_warnings():
        registry.restore(extra.plugins)
        warnings.simplefilter("ignore", AlrsimWarning)
        if not isinstance(extra.function, str):
            return outcome_of(extra.function(**configuration))
        keywords = _keywords(extra.function, configuration)
        machine = _machine(configuration.get("hardware", "cpu-2core"), keywords.pop("units", None))
        result = verb_of(extra.function)(_model(extra.name, extra.models), machine, **keywords)
    return _OUTCOMES[extra.function](result, extra.quality)


def outcome_of(found: Any) -> Mapping[str, Any]:
    """What a function of somebody's own returned: a mapping of names to numbers, or one number.

    Raises:
        OptionError: anything else.
    """
    if isinstance(found, Mapping):
        return dict(found)
    if isinstance(found, int | float):
        return {"value": found}
    raise OptionError(
        f"a swept function returns a number or a mapping of names to numbers, not {type(found).__name__}",
        field="function",
    )


def _compared(result: Any, quality: Quality | None) -> dict[str, Any]:
    one = result[0]
    step = one.step
    method = step.draft.method
    copies = step.draft.options.copies if method.is_lr else None
    return {
        "makespan": one.makespan_ns / step.timeline.ticks_per_unit,
        "time_unit": result.time_unit,
        "peak_memory_bytes": max(one.peak_memory_bytes.values(), default=0),
        "idle_fraction": one.idle_fraction,
        "gap": None if one.bound is None else one.bound.gap,
        "stages": step.summary.stages,
        "tasks": step.summary.tasks,
        "forwards_per_step": one.forwards_per_step,
        "copies": copies,
        "cosine": 1.0 if copies is None else None if quality is None else quality.cosine(copies),
        "fits": not one.shortages,
        "note": "; ".join(map(str, one.shortages)),
    }


def _planned(result: Any, quality: Quality | None) -> dict[str, Any]:
    from alrsim.timeline.metrics import idle_fraction

    one = result.chosen
    copies = one.copies or None
    return {
        "makespan": one.makespan,
        "time_unit": result.time_unit,
        "peak_memory_bytes": max(one.peak_memory_bytes.values(), default=0),
        "idle_fraction": float(idle_fraction(one.step.timeline)),
        "gap": result.gap,
        "value": one.value,
        "stages": one.stages,
        "tasks": one.tasks,
        "forwards_per_step": one.forwards_per_step,
        "copies": copies,
        "cosine": quality.cosine(copies) if copies and quality else one.expected_cosine,
        "fits": True,
        "note": one.label,
    }


_OUTCOMES: dict[str, Callable[[Any, Quality | None], dict[str, Any]]] = {"compare": _compared, "plan": _planned}
