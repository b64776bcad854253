"""What crosses units when a schedule runs in processes of its own, against what the task graph says must cross.

Two oracles: the recording pass, read in the plainest way (who wrote, who reads, on which units), and the messages that
the simulator charges for, to the byte.
"""

import random
from collections import Counter
from functools import cache

import pytest
import torch

from alrsim.errors import ExecutionError
from alrsim.execution.executor import execute_prepared, lane_items, prepare, sequential
from alrsim.execution.workers.division import divide
from alrsim.execution.workers.messages import sum_sites
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.lower import homes, lower
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers.registry import SCHEDULERS, schedule
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import NONE

UNITS = 2
OPTIONS = {
    "bp": RuleOptions(microbatches=3),
    "bp-split": RuleOptions(microbatches=3),
    "lr": RuleOptions(microbatches=3, copies=2),
    "segments": RuleOptions(microbatches=3, copies=2, segments=(1,)),
}
CASES = [(rule, name) for name, entry in SCHEDULERS.items() if not entry.search for rule in entry.rules]
CASES += [("lr", seed) for seed in range(6)]


def strewn(graph, seed):
    """Reference order, every task on a random one of three units."""
    chance, lanes = random.Random(seed), ([], [], [])
    for task in graph.tasks:
        chance.choice(lanes).append(task.id)
    return Schedule(tuple(Lane(f"u{unit}", tuple(lane)) for unit, lane in enumerate(lanes)), f"strewn {seed}")


@pytest.fixture(scope="module")
def divided(subject, problem_of):
    """A function: a schedule of a small residual network, with its messages; for a seed every task on a random unit."""

    @cache
    def prepared_for(rule, cut):
        one = subject("resnet5", cut, norm="none", width=4, image_size=16)
        graph = RULES[rule](one.stages, OPTIONS[rule])
        return prepare(one.program, graph, one.batch(3), OPTIONS[rule])

    def make(rule, name, reorder=lambda found: found):
        if isinstance(name, int):
            prepared = prepared_for(rule, "layer")
            problem = problem_of(prepared.job.graph, 3)
            found = strewn(prepared.job.graph, name)
        else:
            prepared = prepared_for(rule, f"balanced:{UNITS * (SCHEDULERS[name].chunks or 2)}")
            problem = problem_of(prepared.job.graph, UNITS)
            found = reorder(schedule(problem, name))
        lanes = lane_items(prepared.job.graph, found)
        return prepared, problem, found, divide(prepared.job.graph, prepared.ledger, lanes, homes(problem, found))

    return make


def test_every_rule_is_among_the_cases():
    assert {rule for rule, _ in CASES} == set(RULES) == set(OPTIONS)


@pytest.mark.parametrize(("rule", "name"), CASES)
def test_what_is_read_on_another_unit_crosses_exactly_once(divided, rule, name):
    prepared, problem, found, division = divided(rule, name)
    graph, ledger = prepared.job.graph, prepared.ledger
    unit = [found.unit_of[task.id] for task in graph.tasks]
    home = homes(problem, found)
    expected = {}
    for key, entry in ledger.entries.items():
        here = home[entry.stage] if entry.producer == NONE else unit[entry.producer]
        for reader in entry.readers:
            if unit[reader] != here:
                expected.setdefault((key, entry.producer, here, unit[reader]), set()).add(reader)
    sites = sum_sites(ledger, division.placed)
    for key, total in ledger.sums.items():
        for task, _ in total.terms:
            for site in sites[key]:
                if site != unit[task]:
                    readers = {reader for reader in total.readers if unit[reader] == site}
                    expected.setdefault((key, task, unit[task], site), set()).update(readers)
    data = [one for one in division.messages if one.key]
    assert {(one.key, one.producer, one.source, one.target): set(one.readers) for one in data} == expected
    assert len(data) == len(expected)
    carried = {(one.producer, reader) for one in division.messages for reader in one.readers}
    for index in range(len(graph.tasks)):
        for other, _ in graph.dependencies(index):
            assert unit[other] == unit[index] or (other, index) in carried


@pytest.mark.parametrize(("rule", "name"), CASES)
def test_the_simulator_charges_for_the_bytes_that_cross(divided, rule, name):
    """Per pair of units. One difference is known: parameters that another unit reads are a message of the prediction,
    as they are on separate machines after an update; processes that were forked have them."""
    prepared, problem, found, division = divided(rule, name)
    graph = prepared.job.graph
    crossing, charged = Counter(), Counter()
    for one in division.messages:
        crossing[one.source, one.target] += one.bytes
    for message in lower(problem, found).messages:
        buffer = graph.buffers[message.buffer]
        if buffer.category is Category.PARAM:
            assert message.source == NONE
            assert buffer.resident
        else:
            charged[message.source_unit, message.target_unit] += buffer.bytes
    assert crossing == charged
    if name not in ("serial", "heft"):
        assert sum(charged.values()) > 0


def apart(found):
    """Every backward of stage 0 on u1, in place; its forwards stay on u0."""
    moved = [task for task in found.lanes[0].tasks if task.kind == "B" and task.stage == 0]
    kept = tuple(task for task in found.lanes[0].tasks if task not in moved)
    return Schedule((Lane("u0", kept), Lane("u1", (*found.lanes[1].tasks, *moved))), "apart")


def test_what_autograd_saved_cannot_leave_and_both_tasks_are_named(divided):
    with pytest.raises(ExecutionError, match=r"0B\d reads what autograd saved in 0F\d, which cannot be sent") as caught:
        divided("bp", "gpipe", apart)
    assert "on one unit, or `executor=threads`" in caught.value.fix


@pytest.mark.parametrize("seed", range(3))
def test_processes_compute_the_reference_wherever_tasks_are(divided, seed):
    prepared, problem, found, _ = divided("lr", seed)
    run = {"repeats": 2, "warmup": 0, "dispatch_overhead_ns": 0}
    result = execute_prepared(prepared, problem, found, executor="processes", **run)
    job = prepared.job
    expected = sequential(job.program, job.graph, prepared.batch, job.options)
    for what in ("gradients", "parameters", "losses"):
        given, reference = getattr(result, what), getattr(expected, what)
        assert set(given) == set(reference)
        assert all(torch.equal(given[name], reference[name]) for name in reference), what
