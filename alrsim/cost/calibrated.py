"""From measured costs to a scheduling problem: the one way by which every calibrated prediction is made."""

from dataclasses import replace

from alrsim.cost.costs import LinkFit, MeasuredCosts
from alrsim.cost.models import measured_model
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.topology import Remade, Speed, Topology
from alrsim.tasks.problem import ContentionModel, Problem, price, with_scratch
from alrsim.tasks.taskgraph import TaskGraph

CALIBRATED = "calibrated"


def calibrated_problem(tasks: TaskGraph, machine: Machine, formats: PrecisionPlan, costs: MeasuredCosts) -> Problem:
    """The tasks on a machine whose times, links and cores are those that were measured.

    Schedulers see tasks beside busy neighbours; the simulator lets neighbours slow each other down as they overlap
    (:class:`alrsim.tasks.problem.ContentionModel`). The executor's overhead is part of every duration.

    Args:
        machine: Its units and which of them are joined; its figures are replaced.
        formats: Of the state of a step.

    Raises:
        OptionError: a task that was not measured.
    """
    host = replace(machine, topology=topology_of(machine, costs), shared_cores=costs.shared_cores)
    tasks = with_scratch(tasks, costs.scratch)
    problem = price(tasks, host, formats, measured_model(costs.isolated), name=CALIBRATED)
    loaded = price(tasks, host, formats, measured_model(costs.table), name=CALIBRATED)
    model = ContentionModel(problem.durations, loaded.durations, costs.dispatch_overhead_ns, max(1, costs.units - 1))
    return replace(problem, durations=model.durations(), contention=model)


def topology_of(machine: Machine, costs: MeasuredCosts) -> Topology:
    """The machine's links with measured figures; a pair that was not measured gets those of the slowest that was."""
    if not costs.links:
        return Remade(machine.topology, own=True)
    known = {(fit.source, fit.target): _speed(fit) for fit in costs.links}
    return Remade(machine.topology, known, _speed(max(costs.links, key=_for_a_megabyte)))


def _speed(fit: LinkFit) -> Speed:
    return Speed(fit.bandwidth, fit.latency_ns, fit.send_ns)


def _for_a_megabyte(fit: LinkFit) -> float:
    return fit.send_ns + fit.latency_ns + (1e15 / fit.bandwidth if fit.bandwidth else 0)
