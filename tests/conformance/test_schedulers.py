"""One suite for every scheduler: valid, complete, deterministic, and never faster than the bounds allow."""

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice, product

import pytest

from alrsim.errors import OptionError, ScheduleError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.schedule.check import check
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import Delays, lower
from alrsim.schedulers import SCHEDULERS, SearchOptions, schedule
from alrsim.tasks.token import NONE

LR_VARIANTS = (
    {"baseline": "none"},
    {"copies": 4, "group": 2},
    {"copies": 4, "group": 2, "reduction": "accumulate"},
    {"copies": 4, "group": 2, "baseline": "copy-mean"},
    {"copies": 2, "baseline": "antithetic", "input_code": "sign", "noise_code": "sign"},
    {"copies": 2, "group": 1, "scope": "layerwise"},
    {"copies": 2, "group": 1, "scope": "layerwise", "reduction": "accumulate", "baseline": "copy-mean"},
    {"copies": 4, "group": 2, "weight_noise": (0,)},
    {"copies": 4, "group": 2, "weight_noise": (0,), "reduction": "accumulate", "baseline": "antithetic"},
    {"copies": 2, "group": 1, "weight_noise": (0,), "scope": "layerwise", "reduction": "accumulate"},
)
EVERY_STAGE = (
    {"copies": 2, "group": 1, "weight_noise": (0, 2)},
    {"copies": 2, "baseline": "none", "weight_noise": (2,), "scope": "layerwise"},
    {"group": 2, "scope": "layerwise", "stage_copies": (2, 6, 4, 2, 2, 4), "weight_noise": (2,)},
)
"""Where every stage is a segment of its own; stages with parameters in both graphs."""
NEEDS_ORTOOLS = pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
NAMES = [pytest.param(name, marks=NEEDS_ORTOOLS if name == "cpsat" else ()) for name in SCHEDULERS]
CASES = [
    pytest.param(name, rule, marks=NEEDS_ORTOOLS if name == "cpsat" else ())
    for name, entry in SCHEDULERS.items()
    for rule in entry.rules
]
QUICK = SearchOptions(effort=0.02)
SLOW = ("local-search", "cpsat", "auto")
"""Run on every fifth problem: all places of the loss and all options still occur."""
UNITS = 3


def residual(stages):
    """A chain in which every second stage is also read two stages further on, and the loss reads two stages."""
    body = tuple(Stage(i, f"s{i}", parameters=4 * (i % 3 != 1), saved=8) for i in range(stages))
    edges = [Edge(i - 1, i, f"x{i}", 8) for i in range(stages + 1)]
    edges += [Edge(i - 1, i + 2, f"x{i}", 8) for i in range(0, stages - 1, 2)]
    edges += [Edge(0, stages, "x1", 8)] if stages > 1 else []
    return StageGraph("residual", body, tuple(edges), Stage(stages, "loss"))


def problems(textbook, name, rule):
    """Chains and residual graphs, losses here and there, with and without transfers, equal and unequal units."""
    stages = UNITS * (SCHEDULERS[name].chunks or 2)
    variants = (
        LR_VARIANTS + EVERY_STAGE * (rule == "lr")
        if rule in ("lr", "segments")
        else ({}, {"loss_gradient": True, "loss_update": True})
    )
    places = product((None, 0, UNITS - 1), (0, 3))
    for position, (options, (loss_unit, transfer)) in enumerate(product(variants, places)):
        graph = residual(stages) if position % 2 else stages
        more = {"segments": (1, stages - 1)} if rule == "segments" else {}
        problem = textbook(
            graph,
            UNITS,
            1 + position % 5,
            rule,
            f=2,
            b=3,
            w=1,
            g=2,
            c=1,
            l=1,
            u=1,
            loss=True,
            update=True,
            first_input_gradient=position % 3 == 0,
            **{"loss_unit": loss_unit, "transfer": transfer, **more, **options},
        )
        if position % 4 == 3:  # a unit that is slower, and one for which everything is free
            rows = tuple((row[0], 2 * row[1], 0) for row in problem.durations)
            problem = replace(problem, durations=rows)
        yield problem


def bounds(problem, made):
    """(the busiest unit, the critical path with the ways that the placement implies)."""
    tasks, delays, unit_of = problem.tasks.tasks, Delays(problem), made.unit_of
    busy = [0] * UNITS
    ends = []
    for index, task in enumerate(tasks):
        unit = unit_of[task.id]
        start = 0
        for other, buffer in problem.tasks.dependencies(index):
            way = 0 if buffer == NONE else delays.between(buffer, unit_of[tasks[other].id], unit)
            start = max(start, ends[other] + way)
        ends.append(start + problem.durations[index][unit])
        busy[unit] += problem.durations[index][unit]
    return max(busy), max(ends)


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_a_schedule_is_valid_complete_deterministic_and_within_the_bounds(textbook, name, rule):
    for problem in islice(problems(textbook, name, rule), None, None, 5 if name in SLOW else 1):
        made = schedule(problem, name, QUICK)
        check(problem, made)
        assert made.name == name
        assert made.digest == schedule(problem, name, QUICK).digest
        placed = Counter(task for lane in made.lanes for task in lane.tasks)
        assert placed == Counter(task.id for task in problem.tasks.tasks)
        end = int(evaluate(lower(problem, made))[1].max())
        assert max(bounds(problem, made)) <= end <= sum(map(max, problem.durations)) + 3 * len(problem.tasks.buffers)


@pytest.mark.parametrize("name", NAMES)
def test_a_scheduler_takes_one_unit_and_one_microbatch(textbook, name):
    entry = SCHEDULERS[name]
    problem = textbook(entry.chunks or 3, 1, 1, entry.rules[0], loss=True, update=True)
    check(problem, schedule(problem, name, QUICK))


@pytest.mark.parametrize("name", [name for name, entry in SCHEDULERS.items() if len(entry.rules) < 4])
def test_a_rule_that_a_scheduler_does_not_accept_is_refused_with_another_scheduler(textbook, name):
    for rule in {"bp", "lr"} - set(SCHEDULERS[name].rules):
        with pytest.raises(ScheduleError, match=rf"{name} schedules rule .*, not {rule}(.|\n)*schedulers serial"):
            schedule(textbook(4, 2, 2, rule), name)


def test_a_scheduler_that_does_not_exist_is_refused_with_those_that_do(textbook):
    with pytest.raises(OptionError, match=r"no scheduler 'magic'(.|\n)*serial, gpipe, 1f1b"):
        schedule(textbook(2, 2, 2), "magic")


@pytest.mark.parametrize(
    ("name", "rule", "stages", "message"),
    [
        ("1f1b", "bp", 4, r"1f1b places one stage on each unit: 4 stages, 2 units\n  try: cut the model into 2 stages"),
        ("gpipe", "bp", 3, "gpipe places one stage on each unit: 3 stages, 2 units"),
        ("zb-h1", "bp-split", 3, "zb-h1 places one stage on each unit"),
        ("interleaved-1f1b", "bp", 2, "same number of chunks, at least 2, on each unit: 2 stages, 2 units"),
        ("interleaved-1f1b", "bp", 5, "same number of chunks, at least 2, on each unit: 5 stages, 2 units"),
        ("zb-v", "bp-split", 2, "zb-v places two chunks on each unit in the shape of a V: 2 stages, 2 units"),
        ("zb-v", "bp-split", 6, "zb-v places two chunks on each unit in the shape of a V: 6 stages, 2 units"),
    ],
)
def test_a_number_of_stages_that_does_not_fit_is_refused(textbook, name, rule, stages, message):
    with pytest.raises(ScheduleError, match=message):
        schedule(textbook(stages, 2, 4, rule), name)
