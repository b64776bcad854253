"""Verbs: functions whose options are the fields of one :class:`alrsim.options.Options` class.

``@verb(CompareOptions) def compare(model, hardware="cpu-2core", *, asked)`` is called as ``compare(model, copies=4)``:
positional parameters as usual, options by keyword, checked before the function sees them as ``asked``,
``progress=`` as a listener (``True``: a line on stderr), and ``no_code=True`` so that only what the package brings is
run: no factory, module, function or plug-in. The command line makes its options from ``compare.options``.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any, Generic, TypeVar

from alrsim.errors import OptionError, printable
from alrsim.options import Options, options_of
from alrsim.progress import Listener, Progress, reporting
from alrsim.registry import barring_code

R = TypeVar("R")


class Verb(Generic[R]):
    """A function with options.

    Attributes:
        options: The class of its options.
        positional: Its parameters that are no options, with their defaults.
        then: Options that may be given by position behind those.
    """

    def __init__(self, function: Callable[..., R], options: type[Options], then: Sequence[str] = ()) -> None:
        self.function, self.options, self.then = function, options, tuple(then)
        parameters = inspect.signature(function).parameters
        self.positional = {name: one for name, one in parameters.items() if name != "asked"}
        update_wrapper(self, function)
        keywords = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for one in options_of(options)
        ]
        always = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in (("progress", None), ("no_code", False))
        ]
        self.__signature__ = inspect.Signature([*self.positional.values(), *keywords, *always])
        self.__doc__ = f"{inspect.getdoc(function) or ''}\n\nOptions (by keyword):\n{describe(options)}"

    def __call__(
        self, *values: Any, progress: Listener | bool | None = None, no_code: bool = False, **keywords: Any
    ) -> R:
        own = {name: keywords.pop(name) for name in tuple(keywords) if name in self.positional}
        if self.then:
            count = len(self.positional)
            keywords.update(zip(self.then, values[count:], strict=False))
            values = values[:count]
        with barring_code(no_code):
            return self._call(values, own, self.options.take(keywords), progress)

    def _call(
        self, values: Sequence[Any], own: Mapping[str, Any], asked: Options, progress: Listener | bool | None
    ) -> R:
        listener = _print if progress is True else progress or None
        try:
            with reporting(listener):
                return self.function(*values, **own, asked=asked)
        except (MemoryError, RuntimeError) as error:  # torch's allocator raises RuntimeError
            if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
                raise
            raise out_of_memory(asked) from error

    def __repr__(self) -> str:
        return f"<verb {self.function.__name__}>"


def verb(options: type[Options], *, then: Sequence[str] = ()) -> Callable[[Callable[..., R]], Verb[R]]:
    """Make a function a verb with these options; it gets them as keyword ``asked``.

    Args:
        then: Options that may be given by position behind the function's own parameters.
    """

    def wrap(function: Callable[..., R]) -> Verb[R]:
        return Verb(function, options, then)

    return wrap


def out_of_memory(asked: Options) -> OptionError:
    """The error of a call for which this host has not enough memory; names the largest number that was given."""
    numbers = {one: getattr(asked, one) for one in sorted(asked.given)}
    large = {one: value for one, value in numbers.items() if type(value) is int}
    name = max(large, key=lambda one: large[one], default="")
    if not name:
        return OptionError("this host has not enough memory for that", fix="a smaller model, batch or machine")
    words = f"this host has not enough memory for that; of what was given, {large[name]:,} is the largest number"
    return OptionError(words, field=name, fix=f"a smaller `{name}`")


def describe(options: type[Options]) -> str:
    """The options and their help, one paragraph each."""
    from alrsim.options import about

    return "\n".join(f"    {one.name}: {about(one).help}" for one in options_of(options))


def _print(state: Progress) -> None:
    end = "\n" if not state.step else ""
    words = printable(f"{state.title}: {state.done}/{state.total} {state.step}")
    sys.stderr.write(f"\r{words}\x1b[K{end}")
    sys.stderr.flush()
