"""Registries: what exists of a kind by name, built in and plugged in.

A registry is a dict. Plug-ins of installed packages (entry points of its group) are read only when a name is unknown,
or when somebody lists the names. Where :func:`barring_code` says so, there are no plug-ins.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeVar

from alrsim.errors import OptionError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

REGISTRIES: "dict[str, Registry[Any]]" = {}
"""Every registry by its kind: ``scheduler``, ``rule``..."""


_BARRED = ContextVar("no code", default=False)


@contextmanager
def barring_code(barred: bool = True) -> Iterator[None]:
    """No code of a user's own runs within: no factory, no module, no function, no plug-in."""
    token = _BARRED.set(barred or _BARRED.get())
    try:
        yield
    finally:
        _BARRED.reset(token)


def code_is_barred() -> bool:
    """Whether this is within :func:`barring_code`."""
    return _BARRED.get()


def require_code(what: str, where: str, *, field: str = "", fix: str = "") -> None:
    """For what is about to run a user's code.

    Raises:
        OptionError: code is barred.
    """
    if _BARRED.get():
        fix = f"{fix or 'use what alrsim brings'}, or leave `no_code` out if you trust who wrote it"
        raise OptionError(f"{what} is code, which `no_code` bars", where=where, field=field, fix=fix)


class Registry(dict[str, T]):
    """Values of one kind by name.

    Args:
        kind: What they are, in one word: ``scheduler``.
        builtin: Those that the package brings; they cannot be replaced.
        group: Entry points of other packages; ``alrsim.schedulers``. Each names a module or a function that registers.
    """

    def __init__(self, kind: str, builtin: Mapping[str, T], group: str) -> None:
        super().__init__(builtin)
        self.kind, self.group = kind, group
        self.builtin = frozenset(builtin)
        self._read = False
        REGISTRIES[kind] = self

    def add(self, name: str, value: T) -> None:
        """Register a plug-in; the same name again replaces it.

        Raises:
            OptionError: a name that is no word of small letters, digits and dashes, or that of a built-in.
        """
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"{name!r} is no name of a {self.kind}", fix="use small letters, digits and dashes, such as my-own"
            )
        if name in self.builtin:
            raise OptionError(f"{name!r} is a built-in {self.kind}", fix="choose another name")
        super().__setitem__(name, value)

    @property
    def plugged(self) -> dict[str, T]:
        """Those that did not come with the package; none where code is barred."""
        return {name: value for name, value in super().items() if name not in self.builtin and self._shows(name)}

    def read_entry_points(self) -> None:
        """Import what installed packages bring, once; not where code is barred."""
        if self._read or _BARRED.get():
            return
        self._read = True
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:
                raise OptionError(
                    f"the plug-in {point.name} of group {self.group} fails: {type(error).__name__}: {error}",
                    where=point.value,
                    fix="repair or uninstall its package",
                ) from error

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            self.read_entry_points()
        return super().__contains__(name) and self._shows(name)

    def __missing__(self, name: str) -> T:
        if name in self:
            return super().__getitem__(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        self.read_entry_points()
        return filter(self._shows, tuple(super().__iter__()))

    def _shows(self, name: object) -> bool:
        """Where code is barred, plug-ins that were registered before are hidden."""
        return name in self.builtin or not _BARRED.get()

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict; an unknown name makes the registry read its entry points."""
        if name in self:
            return self[name]
        return default


FILES: list[str] = []
"""Files of plug-ins that were loaded, in order."""


def load_file(path: str | Path) -> None:
    """Run a file that registers plug-ins; its code does whatever it says.

    Raises:
        OptionError: the file cannot be read or run.
    """
    require_code("a plug-in", str(path), field="plugin")
    where = str(Path(path).resolve())
    if where in FILES:
        return
    name = f"alrsim_plugin_{len(FILES)}_{Path(path).stem}"
    spec = spec_from_file_location(name, where)
    if spec is None or spec.loader is None or not Path(where).is_file():
        raise OptionError("is no Python file", where=str(path), field="plugin")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except OptionError:
        raise
    except (Exception, SystemExit) as error:
        raise OptionError(f"fails: {type(error).__name__}: {error}", where=str(path), field="plugin") from None
    FILES.append(where)


Snapshot = tuple[tuple[str, ...], tuple[tuple[str, str, Any], ...]]
"""Files of plug-ins, and what was registered without one: kind, name, value."""


def snapshot() -> Snapshot:
    """What another process needs to know the same plug-ins; goes there by cloudpickle, as joblib and Dask send work."""
    loose = [
        (kind, name, value)
        for kind, registry in REGISTRIES.items()
        for name, value in registry.plugged.items()
        if not _module_of(value).startswith("alrsim_plugin_")
    ]
    return () if _BARRED.get() else tuple(FILES), tuple(loose)


def restore(taken: Snapshot) -> None:
    """Register in this process what :func:`snapshot` found in another one."""
    files, loose = taken
    for path in files:
        load_file(path)
    for kind, name, value in loose:
        import_module(HOMES[kind])
        REGISTRIES[kind].add(name, value)


HOMES = {
    "scheduler": "alrsim.schedulers.registry",
    "rule": "alrsim.rules",
    "cost model": "alrsim.cost.models",
    "estimator": "alrsim.estimators.policy",
    "executor": "alrsim.execution.executors",
    "model": "alrsim.models",
    "machine": "alrsim.hardware.profile",
}
"""Module of every registry; importing it makes the registry."""


def registry_of(kind: str) -> "Registry[Any]":
    """A registry by its kind."""
    import_module(HOMES[kind])
    return REGISTRIES[kind]


def _module_of(value: Any) -> str:
    function = getattr(value, "function", None) or getattr(value, "estimators", None) or value
    return str(getattr(function, "__module__", ""))


def require_arguments(function: Callable[..., Any], names: tuple[str, ...], kind: str) -> None:
    """Refuse what cannot be called with so many arguments.

    Raises:
        OptionError: says how it will be called.
    """
    called = f"it is called with ({', '.join(names)})"
    if not callable(function):
        raise OptionError(f"a {kind} is a function, not {type(function).__name__}", fix=called)
    try:
        inspect.signature(function).bind(*names)
    except (TypeError, ValueError) as error:
        where = getattr(function, "__name__", kind)
        raise OptionError(f"does not fit as a {kind}: {error}", where=where, fix=called) from None
