"""What ``alrsim sweep`` evaluates: a configuration is one call of ``compare`` or ``plan``, parsed by the verb."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from alrsim.cli.common import typed_options
from alrsim.cli.model import LoadedModel, Memory, load, remembered, request
from alrsim.cli.parse import DEFAULT_METHODS, parse_method
from alrsim.cli.pipeline import LR_OPTIONS, find_machine, refuse_unread, settings_from
from alrsim.errors import AlrsimError, OptionError
from alrsim.files import from_json, to_json
from alrsim.sweeps.grid import Configuration
from alrsim.sweeps.spec import Quality, Spec, Value

_machine = lru_cache(maxsize=256)(find_machine)
"""A profile takes longer to read than a small step to simulate."""

NOT_SWEPT = frozenset(("measure", "json", "out", "output", "repeats", "seed", "help"))
ARGUMENTS = {"compare": ("model",), "plan": ("model", "cosine")}


@dataclass(frozen=True)
class Extra:
    """What travels to a worker with a configuration.

    Attributes:
        models: Key and content of every model that it needs.
        quality: Constants of its method, if the specification has them.
    """

    verb: str
    models: tuple[tuple[str, bytes], ...] = ()
    quality: Quality | None = None


@cache
def _command(verb: str) -> Any:
    from alrsim.cli.main import app

    group: Any = typer.main.get_command(app)
    return group.commands[verb]


@cache
def _options(verb: str) -> dict[str, Any]:
    """The verb's options by every name that a specification may use."""
    found: dict[str, Any] = {}
    for option in _command(verb).params:
        if option.name in NOT_SWEPT or option.param_type_name != "option":
            continue
        names = {name.lstrip("-") for name in option.opts if name.startswith("--")} | {option.name}
        found |= dict.fromkeys(names | {name.replace("-", "_") for name in names}, option)
    if "methods" in found:
        found["method"] = found["methods"]
    return found


def arguments_of(verb: str, configuration: Configuration) -> list[str]:
    """The command line that a configuration stands for.

    Raises:
        OptionError: a name that the verb does not have.
    """
    line = [str(configuration[name]) for name in ARGUMENTS[verb] if name in configuration]
    for name, value in configuration.items():
        if name in ARGUMENTS[verb]:
            continue
        option = _options(verb).get(name)
        if option is None:
            known = sorted({one.opts[0].lstrip("-") for one in _options(verb).values()})
            raise OptionError(
                f"{verb} has no option {name!r} to sweep",
                where="sweep",
                fix=f"use {', '.join((*ARGUMENTS[verb], *known))}",
            )
        if isinstance(value, bool):
            names = option.opts if value else option.secondary_opts
            line += names[:1]
        else:
            for one in value if isinstance(value, tuple | list) else (value,):
                line += [option.opts[0], str(one)]
    return line


def context_of(verb: str, configuration: Configuration) -> typer.Context:
    """The options as the verb itself parses them.

    Raises:
        OptionError: a value that it refuses.
    """
    from alrsim.cli.main import _CLICK_ERROR

    try:
        context: typer.Context = _command(verb).make_context(verb, arguments_of(verb, configuration))
    except _CLICK_ERROR as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        raise OptionError(message, where=verb) from None
    return context


def with_methods(spec: Spec) -> Spec:
    """Methods of ``compare`` are an axis, however they were given: one configuration has one method."""
    if spec.verb != "compare":
        return spec
    given: list[Value] = []
    for section in (spec.fixed, spec.grid):
        for name in ("method", "methods"):
            value = section.get(name, ())
            given += list(value) if isinstance(value, tuple) else [value]
    texts = [text for one in given for text in (one if isinstance(one, tuple) else (one,))] or [DEFAULT_METHODS]
    methods = [part.strip() for text in texts for part in str(text).split(",") if part.strip()]
    rest = {name: value for name, value in spec.fixed.items() if name not in ("method", "methods")}
    axes = {name: values for name, values in spec.grid.items() if name not in ("method", "methods")}
    return replace(spec, fixed=rest, grid={"method": tuple(dict.fromkeys(methods)), **axes})


def normalise(verb: str, configuration: Configuration) -> Configuration:
    """Leave out what a method does not read: copies and noise of exact gradients."""
    if verb != "compare":
        return configuration
    try:
        is_lr = parse_method(str(configuration["method"])).is_lr
    except AlrsimError:
        return configuration  # refused where it is evaluated
    options = _options(verb)
    unread = (
        set() if is_lr else {name for name in configuration if name in options and options[name].name in LR_OPTIONS}
    )
    return {name: value for name, value in configuration.items() if name not in unread}


def fingerprints(configuration: Configuration) -> dict[str, str]:
    """Hash of every file that a configuration names."""
    found = {}
    for value in configuration.values():
        for text in value if isinstance(value, tuple) else (value,):
            path = Path(str(text).partition(".py:")[0] + ".py" if ".py:" in str(text) else str(text))
            if isinstance(text, str) and text and path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class _Touched(dict[tuple[object, ...], LoadedModel]):
    """Remembers which models were asked for."""

    def __init__(self, known: Memory) -> None:
        super().__init__(known)
        self.keys_asked: dict[tuple[object, ...], None] = {}

    def __getitem__(self, key: tuple[object, ...]) -> LoadedModel:
        self.keys_asked[key] = None
        return super().__getitem__(key)


def models_of(verb: str, configuration: Configuration, known: Memory) -> Memory:
    """The models that a configuration needs; what is not known yet is loaded, in silence.

    Raises:
        AlrsimError: there is no such model, or the configuration makes no sense.
    """
    context = context_of(verb, configuration)
    touched = _Touched(known)
    with remembered(touched), redirect_stderr(StringIO()):
        _LOAD[verb](context)
    return {key: touched[key] for key in touched.keys_asked}


def _load_compare(context: typer.Context) -> None:
    given = context.params
    load(request(given["model"], given["option"], given["bind"], given["batch"], given["microbatches"]))


def _load_plan(context: typer.Context) -> None:
    from alrsim.cli.plan_asked import Asked, sort_arguments
    from alrsim.cli.plan_model import load_sizes

    asked = Asked.of(context.params, typed_options(context), *sort_arguments(context.params["arguments"] or []))
    if asked.durations is None and asked.model is not None:
        load_sizes(asked, len(find_machine(asked.hardware, asked.units)[1].units))


_LOAD: dict[str, Callable[[typer.Context], None]] = {"compare": _load_compare, "plan": _load_plan}


def pack(model: LoadedModel) -> bytes:
    """A model for a worker, or for the file of results."""
    document = {"name": model.name, "samples": model.samples, "graph": to_json("graph", model.graph)}
    return zlib.compress(json.dumps(document).encode())


@lru_cache(maxsize=64)
def unpack(data: bytes) -> LoadedModel:
    """The inverse of :func:`pack`."""
    from alrsim.graph.graph import Graph

    document = json.loads(zlib.decompress(data))
    graph = from_json("graph", Graph, document["graph"], where="sweep")
    return LoadedModel(document["name"], graph, document["samples"])


def key_text(key: tuple[object, ...]) -> str:
    """The key of a model as text."""
    return json.dumps(key)


def key_of(text: str) -> tuple[object, ...]:
    """The inverse of :func:`key_text`."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    key: tuple[object, ...] = tuples(json.loads(text))
    return key


def evaluate(configuration: Configuration, extra: Extra) -> Mapping[str, Any]:
    """One configuration's numbers; what :func:`alrsim.sweeps.engine.run_jobs` calls in its workers.

    Raises:
        AlrsimError: the configuration makes no sense.
    """
    known: Memory = {key_of(key): unpack(data) for key, data in extra.models}
    with remembered(known), redirect_stderr(StringIO()):
        context = context_of(extra.verb, configuration)
        return _EVALUATE[extra.verb](context, extra)


def _compare(context: typer.Context, extra: Extra) -> dict[str, Any]:
    from alrsim.cli.planning import Setup, plan_all
    from alrsim.cli.results import shortages_of
    from alrsim.timeline.memory import peak_memory
    from alrsim.timeline.metrics import idle_fraction

    given = context.params
    settings = settings_from(given, typed_options(context))
    method = parse_method(given["methods"])
    refuse_unread(settings, [method])
    profile, machine = _machine(given["hardware"], given["units"])
    loaded = load(request(given["model"], given["option"], given["bind"], given["batch"], given["microbatches"]))
    (planned,) = plan_all(Setup(loaded, settings, profile, machine), [method])
    line, gap = planned.timeline, planned.gap
    copies = planned.options.copies if method.is_lr else None
    shortages = shortages_of(machine, line)
    quality = extra.quality
    return {
        "makespan": line.makespan / line.ticks_per_unit,
        "time_unit": line.time_unit,
        "peak_memory_bytes": max(peak_memory(line).values(), default=0),
        "idle_fraction": float(idle_fraction(line)),
        "gap": None if gap is None else float(gap.gap),
        "stages": planned.problem.tasks.stages,
        "tasks": len(planned.problem.tasks.tasks),
        "forwards_per_step": planned.problem.tasks.forwards_per_step,
        "copies": copies,
        "cosine": 1.0 if copies is None else None if quality is None else quality.cosine(copies),
        "fits": not shortages,
        "note": "; ".join(map(str, shortages)),
    }


def _plan(context: typer.Context, extra: Extra) -> dict[str, Any]:
    from alrsim.cli.plan_asked import Asked, refuse_unread, sort_arguments
    from alrsim.cli.plan_model import cosine_of, plan_model
    from alrsim.timeline.memory import peak_memory
    from alrsim.timeline.metrics import idle_fraction

    model, cosine = sort_arguments(context.params["arguments"] or [])
    asked = Asked.of({**context.params, "what_if": False}, typed_options(context), model, cosine)
    refuse_unread(asked)
    if asked.durations is not None:
        raise OptionError("a sweep plans models; a table of durations has no memory", where="durations")
    answer = plan_model(asked)
    best, line = answer.best, answer.best.timeline
    copies = best.candidate.copies if best.candidate.is_lr else None
    return {
        "makespan": line.makespan / line.ticks_per_unit,
        "time_unit": line.time_unit,
        "peak_memory_bytes": max(peak_memory(line).values(), default=0),
        "idle_fraction": float(idle_fraction(line)),
        "gap": float(answer.outcome.gap),
        "value": float(answer.outcome.value),
        "stages": best.problem.tasks.stages,
        "tasks": len(best.problem.tasks.tasks),
        "forwards_per_step": best.problem.tasks.forwards_per_step,
        "copies": copies,
        "cosine": extra.quality.cosine(copies) if copies and extra.quality else cosine_of(answer, best),
        "fits": True,
        "note": best.candidate.label,
    }


_EVALUATE: dict[str, Callable[[typer.Context, Extra], dict[str, Any]]] = {"compare": _compare, "plan": _plan}
