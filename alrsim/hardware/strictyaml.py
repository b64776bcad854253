"""Strict YAML: no duplicate keys, anchors, tags or second documents, and the line of every key."""

from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file, where in it, and what to do."""

    message: str
    path: KeyPath = ()
    line: int | None = None
    fix: str = ""


@dataclass(frozen=True)
class Document:
    """Plain values, and the line (from 1) of every key path."""

    value: Any
    lines: dict[KeyPath, int]

    def line_of(self, path: KeyPath) -> int | None:
        """Line of the path, or of the nearest section around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 20
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def parse_yaml(text: str) -> Document | Fault:
    """The document, or what is wrong with it."""
    if len(text) > MAX_CHARACTERS:
        return Fault(f"is {len(text)} characters long; at most {MAX_CHARACTERS} are read")
    try:
        _refuse_tricks(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise _FaultError(Fault("is empty", fix="copy a shipped profile and edit it"))
        lines: dict[KeyPath, int] = {}
        return Document(_plain(node, (), lines, yaml.constructor.SafeConstructor()), lines)
    except _FaultError as found:
        return found.fault
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        return Fault(f"is not valid YAML: {error.problem or error.context}", line=line)
    except yaml.YAMLError as error:
        return Fault(f"is not valid YAML: {str(error).splitlines()[0]}")


def _refuse_tricks(text: str) -> None:
    """Stop at what would make later steps slow, deep or surprising, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            fix = "write the figure out, with its own source"
            raise _FaultError(Fault("anchors and aliases (& and *) are not allowed", line=line, fix=fix))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _FaultError(Fault(f"is nested more than {MAX_DEPTH} levels deep", line=line))


def _plain(node: Any, path: KeyPath, lines: dict[KeyPath, int], constructor: Any) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise _FaultError(Fault(f"YAML tag {node.tag} is not allowed", path, node.start_mark.line + 1))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, constructor)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, index), lines, constructor) for index, child in enumerate(node.value)]
    try:
        return constructor.construct_object(node)
    except yaml.YAMLError:
        raise _FaultError(Fault(f"YAML tag {node.tag} is not allowed", path, node.start_mark.line + 1)) from None
    except ValueError as error:
        raise _FaultError(Fault(f"{node.value!r} cannot be read: {error}", path, node.start_mark.line + 1)) from None


def _mapping(node: Any, path: KeyPath, lines: dict[KeyPath, int], constructor: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
            raise _FaultError(Fault(f"key {shown} must be a word", path, line, "quote it if it is meant as text"))
        key = str(key_node.value)
        if key in result:
            first = lines[(*path, key)]
            raise _FaultError(
                Fault(
                    f"key {key!r} is given twice, first on line {first}",
                    (*path, key),
                    line,
                    "keep one of them",
                )
            )
        lines[(*path, key)] = line
        result[key] = _plain(value_node, (*path, key), lines, constructor)
    return result
