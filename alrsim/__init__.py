"""Simulate, schedule and measure backpropagation and likelihood-ratio training pipelines.

>>> import alrsim as al
>>> al.figure2()
Figure2Result(BP 15 steps, LR 10, 1.5x)

Every name below is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alrsim.version import __version__ as __version__

if TYPE_CHECKING:
    from alrsim.errors import AlrsimError as AlrsimError
    from alrsim.errors import AlrsimWarning as AlrsimWarning
    from alrsim.experiments.reproducing import reproduce as reproduce
    from alrsim.graph.graph import Graph as Graph
    from alrsim.hardware.described import LinkSpec as LinkSpec
    from alrsim.hardware.described import UnitSpec as UnitSpec
    from alrsim.hardware.machine import Link as Link
    from alrsim.hardware.machine import Machine as Machine
    from alrsim.hardware.machine import Unit as Unit
    from alrsim.hardware.profile import load_machine as load_machine
    from alrsim.hardware.profile import machines as machines
    from alrsim.planner.planning import plan as plan
    from alrsim.plugins import cost_model as cost_model
    from alrsim.plugins import estimator as estimator
    from alrsim.plugins import executor as executor
    from alrsim.plugins import machine as machine
    from alrsim.plugins import model as model
    from alrsim.plugins import rule as rule
    from alrsim.plugins import scheduler as scheduler
    from alrsim.quality.gradcheck import gradcheck as gradcheck
    from alrsim.quality.trajectory import trajectory as trajectory
    from alrsim.schedule.schedule import Lane as Lane
    from alrsim.schedule.schedule import Schedule as Schedule
    from alrsim.steps.draft import Workload as Workload
    from alrsim.steps.method import Method as Method
    from alrsim.steps.model import Model as Model
    from alrsim.steps.model import load_model as load_model
    from alrsim.steps.step import Step as Step
    from alrsim.study.calibration import calibrate as calibrate
    from alrsim.study.comparison import compare as compare
    from alrsim.study.explaining import explain as explain
    from alrsim.study.loading import load as load
    from alrsim.study.paper_figure import figure2 as figure2
    from alrsim.study.stepping import execute as execute
    from alrsim.study.stepping import load_schedule as load_schedule
    from alrsim.study.stepping import simulate as simulate
    from alrsim.study.stepping import step as step
    from alrsim.study.stepping import textbook as textbook
    from alrsim.study.sweeping import sweep as sweep
    from alrsim.tasks.problem import Problem as Problem
    from alrsim.timeline.timeline import Timeline as Timeline
    from alrsim.training.verb import train as train
    from alrsim.validation.replaying import replay as replay
    from alrsim.validation.verb import validate as validate

_HOMES = {
    "AlrsimError": "errors",
    "AlrsimWarning": "errors",
    "Graph": "graph.graph",
    "Lane": "schedule.schedule",
    "Link": "hardware.machine",
    "Machine": "hardware.machine",
    "Method": "steps.method",
    "Model": "steps.model",
    "Problem": "tasks.problem",
    "Schedule": "schedule.schedule",
    "Step": "steps.step",
    "Timeline": "timeline.timeline",
    "Unit": "hardware.machine",
    "Workload": "steps.draft",
    "calibrate": "study.calibration",
    "compare": "study.comparison",
    "cost_model": "plugins",
    "estimator": "plugins",
    "execute": "study.stepping",
    "executor": "plugins",
    "explain": "study.explaining",
    "figure2": "study.paper_figure",
    "gradcheck": "quality.gradcheck",
    "load": "study.loading",
    "load_machine": "hardware.profile",
    "load_model": "steps.model",
    "LinkSpec": "hardware.described",
    "UnitSpec": "hardware.described",
    "machines": "hardware.profile",
    "load_schedule": "study.stepping",
    "machine": "plugins",
    "model": "plugins",
    "plan": "planner.planning",
    "replay": "validation.replaying",
    "reproduce": "experiments.reproducing",
    "rule": "plugins",
    "validate": "validation.verb",
    "scheduler": "plugins",
    "simulate": "study.stepping",
    "step": "study.stepping",
    "sweep": "study.sweeping",
    "textbook": "study.stepping",
    "train": "training.verb",
    "trajectory": "quality.trajectory",
}
"""Where every public name is defined."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'alrsim' has no attribute {name!r}")
    return getattr(import_module(f"alrsim.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
