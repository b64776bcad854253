"""Textbook problems: equal abstract stages with typed durations, exact to the last fraction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from alrsim.errors import OptionError
from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Task
from alrsim.units import common_denominator

DURATION_KEYS = ("f", "b", "w", "u", "l", "g", "c", "transfer")
"""Per stage: forward, INPUT gradient only, weight gradient, update, loss, LR gradient, cotangent, one message."""


def textbook_options(microbatches: int, *, update: bool = True) -> RuleOptions:
    """Options under which textbooks draw schedules: stage 0 has an input gradient, LR has no clean forward."""
    return RuleOptions(microbatches=microbatches, baseline="none", first_input_gradient=True, update=update)


def fill_durations(durations: Mapping[str, Fraction | int]) -> dict[str, Fraction]:
    """Every key of :data:`DURATION_KEYS`: ``g`` defaults to ``w``, all others to 0.

    Raises:
        OptionError: an unknown key or a negative value.
    """
    unknown = sorted(set(durations) - set(DURATION_KEYS))
    if unknown:
        raise OptionError(
            f"no duration is called {', '.join(unknown)}",
            field="durations",
            fix=f"use {', '.join(DURATION_KEYS)}; b is the input gradient only, a full backward takes b + w",
        )
    filled = {key: Fraction(durations.get(key, 0)) for key in DURATION_KEYS}
    filled["g"] = Fraction(durations.get("g", filled["w"]))
    for key, value in filled.items():
        if value < 0:
            raise OptionError(f"{key} is {value}, must not be negative", field="durations")
    return filled


def textbook_problem(
    rule: str,
    durations: Mapping[str, Fraction | int],
    *,
    stages: int,
    units: int,
    options: RuleOptions,
    loss_unit: int | None = None,
    trained: Collection[int] | None = None,
    names: Sequence[str] = (),
    finer: int = 1,
) -> Problem:
    """A chain of equal stages on equal, fully connected units.

    Args:
        rule: Key of :data:`alrsim.rules.RULES`.
        durations: Per stage, in any unit of time, see :data:`DURATION_KEYS`. ``B`` takes b + w; the gradient cell
            of the loss module, if the options ask for one, takes l. Every message holds its link for ``transfer``,
            whatever its size.
        trained: Stages with parameters; default: all.
        names: Of the units; default: ``u0``, ``u1``...
        finer: Makes ticks that many times finer, so that fused pairs stay exact.

    Returns:
        A problem in integer ticks, ``ticks_per_unit`` of them in one typed unit (the least common denominator).

    Raises:
        OptionError: an unknown rule or duration, a negative number, fewer than one unit, or no stage.
    """
    if rule not in RULES:
        raise OptionError(f"there is no rule {rule!r}", field="rule", fix=f"choose one of {', '.join(RULES)}")
    if units < 1:
        raise OptionError(f"units is {units}, must be at least 1", field="units")
    filled = fill_durations(durations)
    scale = finer * common_denominator(filled.values())
    ticks = {key: int(value * scale) for key, value in filled.items()}
    graph = chain(stages)
    if trained is not None:
        body = tuple(replace(stage, parameters=int(stage.index in trained)) for stage in graph.stages)
        graph = replace(graph, stages=body)
    tasks = RULES[rule](graph, options)
    rows = {key: (value,) * units for key, value in ticks.items()}
    rows["B"] = (ticks["b"] + ticks["w"],) * units
    machine = abstract_machine(units, ticks["transfer"], name="textbook")
    if names:
        units_named = tuple(replace(unit, name=name) for unit, name in zip(machine.units, names, strict=True))
        machine = replace(machine, units=units_named)
    return Problem(
        tasks,
        machine,
        tuple(rows[_key(task, stages)] for task in tasks.tasks),
        "durations",
        loss_unit,
        time_unit="user",
        ticks_per_unit=scale,
    )


_KEYS = {"F": "f", "L": "l", "B": "B", "I": "b", "W": "w", "G": "g", "C": "c", "U": "u"}


def _key(task: Task, stages: int) -> str:
    if task.id.stage == stages and task.id.kind != "U":
        return "l"  # the loss module: its forward, and its gradient cell
    return _KEYS[task.id.kind]
