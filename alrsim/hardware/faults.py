"""Pydantic's complaints about a profile, in the words of someone who edits YAML."""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from alrsim.hardware.figure import Confidence
from alrsim.hardware.precision import Precision
from alrsim.hardware.specification import Specification
from alrsim.hardware.strictyaml import Document, Fault, KeyPath

_UNIT_SUFFIXES = (
    "_gb",
    "_gb_per_s",
    "_gb_per_s_per_direction",
    "_us",
    "_w",
    "_tflops",
    "_tflops_dense",
    "_ghz",
)
_PRECISIONS = ", ".join(precision for precision in Precision if precision is not Precision.REGENERATED)


def faults_of(error: ValidationError, document: Document) -> tuple[Fault, ...]:
    """One fault per complaint, in the order of the file; a misspelt key is not also called missing."""
    details = error.errors()
    meant = {(*d["loc"][:-1], _meant(d["loc"])) for d in details if d["type"] == "extra_forbidden"}
    told = [d for d in details if not (d["type"] == "missing" and d["loc"] in meant)]
    faults = [_fault(detail, document) for detail in told]
    return tuple(sorted(faults, key=lambda fault: fault.line or 0))


def _fault(detail: Any, document: Document) -> Fault:
    path: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "value_error":
        return _own_words(str(context["error"]), path, document)
    if kind == "enum" and "[key]" in detail["loc"]:
        message, fix = f"unknown precision {path[-1]!r}", f"use one of {_PRECISIONS}"
    elif kind == "extra_forbidden":
        message, fix = f"unknown key {path[-1]!r}", _hint(path)
    elif kind == "missing":
        message, fix = f"missing key {path[-1]!r}", _MISSING.get(str(path[-1]), "")
    else:
        message, fix = _wrong_value(kind, given, context, detail["msg"], path)
    return Fault(message, path, document.line_of(path), fix)


def _own_words(text: str, path: KeyPath, document: Document) -> Fault:
    """A message of our own validators; ``key: text`` names the key below the section."""
    head, separator, rest = text.partition(": ")
    if separator and " " not in head:
        path = (*path, *(int(part) if part.isdigit() else part for part in head.split(".")))
        text = rest
    return Fault(text, path, document.line_of(path))


def _wrong_value(kind: str, given: Any, context: Any, text: str, path: KeyPath) -> tuple[str, str]:
    shown = f"{given!r} ({_TYPE_NAMES.get(type(given), 'a special value')})"
    if kind == "model_type":
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return f"must be a section with value, source and confidence, is the bare number {given}", (
                f"write {{value: {given}, source: ..., confidence: {'|'.join(Confidence)}}}"
            )
        return f"must be a section of keys, is {shown}", ""
    if kind in ("greater_than", "greater_than_equal", "less_than_equal"):
        bound = {"gt": "greater than", "ge": "at least", "le": "at most"}
        (word, limit), *_ = ((bound[key], value) for key, value in context.items() if key in bound)
        return f"must be {word} {limit:g}, is {given}", ""
    if kind in ("literal_error", "enum"):
        if path[-1] == "dense":
            return f"dense must be true, is {given}", "give the dense peak: half of a 2:4 sparse one"
        return f"must be {context['expected']}, is {shown}", ""
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        return f"must have {'at least' if kind == 'too_short' else 'at most'} {limit} entries, is {shown}", ""
    if kind in _WANTED:
        fix = (
            "write it without quotes or units, with a dot before the exponent (1.0e+3)" if kind == "float_type" else ""
        )
        return f"must be {_WANTED[kind]}, is {shown}", fix if isinstance(given, str) else ""
    if kind == "string_pattern_mismatch":
        return f"must be lower-case letters, digits, dots and hyphens, is {given!r}", ""
    return text, ""


_TYPE_NAMES: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a section",
    type(None): "nothing",
}
_WANTED = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a section of keys",
    "tuple_type": "a list",
    "string_too_short": "text that is not empty",
}
_MISSING = {
    "source": "say where the figure was read",
    "confidence": f"one of {', '.join(Confidence)}",
    "dense": "write dense: true if 2:4 sparsity is not in the figure; halve it first if it is",
}


def _hint(path: KeyPath) -> str:
    meant = _meant(path)
    if not meant:
        return f"keys here are {', '.join(_section_model(path[:-1]).model_fields)}"
    return f"did you mean {meant}?" + (" The unit belongs to the key" if _without_unit(meant) != meant else "")


def _meant(path: KeyPath) -> str:
    """The key that was probably meant: the same with its unit, else one that is spelt almost like it, else ``""``."""
    key, known = str(path[-1]), tuple(_section_model(path[:-1]).model_fields)
    for stem in (key, key.rsplit("_", 1)[0]):
        with_unit = [name for name in known if _without_unit(name) == stem and name != key]
        if with_unit:
            return with_unit[0]
    longer = [name for name in known if name.startswith(f"{key}_")]
    return next(iter(longer or get_close_matches(key, known, n=1, cutoff=0.6)), "")


def _without_unit(name: str) -> str:
    longest_first = sorted(_UNIT_SUFFIXES, key=len, reverse=True)
    return next((name.removesuffix(suffix) for suffix in longest_first if name.endswith(suffix)), name)


def _section_model(path: KeyPath) -> type[BaseModel]:
    """The model of the section at a key path; positions in lists and names of precisions are passed over."""
    model: type[BaseModel] = Specification
    for part in path:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model in an annotation such as ``dict[Precision, PeakFigure]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
