"""Plug-ins: a user's own schedulers, rules, cost models, estimators, executors, models and machines, by decorator.

A file with decorated functions is a plug-in: import it, name it on the command line, or let an installed package bring
it as an entry point (groups ``alrsim.schedulers``, ``alrsim.rules``, ``alrsim.cost_models``, ``alrsim.estimators``,
``alrsim.executors``, ``alrsim.models``, ``alrsim.machines``). Decorating again replaces; a built-in name is refused.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from alrsim.errors import OptionError
from alrsim.registry import load_file, registry_of, require_arguments

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["cost_model", "estimator", "executor", "load_file", "machine", "model", "rule", "scheduler"]


ALL_RULES = ("bp", "bp-split", "lr", "segments")


def scheduler(name: str, *, rules: Sequence[str] = ALL_RULES, chunks: int | None = None) -> Callable[[F], F]:
    """Register a scheduler, ``Problem -> Schedule``: method ``bp:NAME`` from then on.

    Args:
        rules: Rules whose tasks it takes.
        chunks: Stages for each unit that it is usually given; ``None``: any number.

    Raises:
        OptionError: a built-in name, an unknown rule, or a function that does not take one problem.
    """
    from alrsim.rules import RULES
    from alrsim.schedulers.registry import SchedulerEntry

    unknown = next((rule for rule in rules if rule not in RULES), None)
    if unknown is not None or not rules:
        raise OptionError(f"there is no rule {unknown!r}", field="rules", fix=f"choose from {', '.join(RULES)}")

    def wrap(function: F) -> F:
        require_arguments(function, ("problem",), "scheduler")
        entry = SchedulerEntry(name, function, tuple(rules), chunks, _words(function))
        registry_of("scheduler").add(name, entry)
        return function

    return wrap


def rule(name: str, *, like: str = "bp") -> Callable[[F], F]:
    """Register a rule, ``(StageGraph, RuleOptions) -> TaskGraph``: methods ``NAME:scheduler`` from then on.

    Args:
        like: The built-in rule whose schedulers take its tasks.
    """
    from alrsim.rules import RULES

    if like not in RULES:
        raise OptionError(f"there is no rule {like!r}", field="like", fix=f"choose from {', '.join(RULES)}")

    def wrap(function: F) -> F:
        require_arguments(function, ("stages", "options"), "rule")
        function.like = like  # type: ignore[attr-defined]
        registry_of("rule").add(name, function)
        return function

    return wrap


def cost_model(name: str) -> Callable[[F], F]:
    """Register a cost model, ``(Task, Unit, PrecisionPlan) -> ns``: ``cost="NAME"`` from then on."""

    def wrap(function: F) -> F:
        require_arguments(function, ("task", "unit", "precision"), "cost model")
        registry_of("cost model").add(name, function)
        return function

    return wrap


def estimator(name: str) -> Callable[[F], F]:
    """Register an estimator: a function of the number of trainable stages to one
    :class:`alrsim.estimators.policy.Estimator` each, or one for all; method ``NAME:scheduler`` from then on."""
    from alrsim.estimators.policy import Estimator, Preset

    def wrap(function: F) -> F:
        require_arguments(function, ("stages",), "estimator")

        def plan(stages: int) -> tuple[Estimator, ...]:
            made = function(stages)
            return (made,) * stages if isinstance(made, Estimator) else tuple(made)

        plan.__module__ = function.__module__
        registry_of("estimator").add(name, Preset(name, _words(function), plan, "plug-in"))
        return function

    return wrap


def executor(name: str) -> Callable[[F], F]:
    """Register an executor, ``(jobs, limits) -> session`` (:mod:`alrsim.execution.session`): ``executor="NAME"``."""

    def wrap(function: F) -> F:
        require_arguments(function, ("jobs", "limits"), "executor")
        registry_of("executor").add(name, function)
        return function

    return wrap


def model(name: str) -> Callable[[F], F]:
    """Register a model: a function without required arguments that returns what a factory may return
    (:mod:`alrsim.frontend.factory`); ``load_model("NAME")`` from then on."""
    from alrsim.models.entry import ZooEntry

    def wrap(function: F) -> F:
        require_arguments(function, (), "model")

        def build(**_: Any) -> Any:
            from alrsim.frontend.factory import model_of_made

            return model_of_made(function(), name, name)

        build.__module__ = function.__module__
        registry_of("model").add(name, ZooEntry(name, build, {}, _words(function), "plug-in"))
        return function

    return wrap


def machine(name: str) -> Callable[[F], F]:
    """Register a machine: a function of the number of units (``None``: its own) to a
    :class:`alrsim.hardware.machine.Machine`; ``load_machine("NAME")`` from then on."""

    def wrap(function: F) -> F:
        require_arguments(function, ("units",), "machine")
        registry_of("machine").add(name, function)
        return function

    return wrap


def _words(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (function.__doc__ or "plug-in").strip().splitlines()[0]
