"""``python -m benchmarks optimality``: how far the heuristics are from proved optima and from published closed forms.

No times are compared here, only makespans: the numbers do not depend on the host, as long as nothing hits its limit.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from statistics import mean
from time import process_time

from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RuleOptions
from alrsim.schedulers import SearchOptions, solve
from alrsim.schedulers.caps import caps_of, live_peaks, timed
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.steps.chain import build_tasks
from alrsim.tasks.problem import Problem
from benchmarks.measure import say

MOST_TASKS = 40
CHAIN_TIMES = ((1, 1, 1), (2, 3, 1), (3, 4, 2))
FREEDOMS: dict[str, SearchOptions] = {
    "order": SearchOptions(placement="fixed"),
    "order, live micro-batches capped": SearchOptions(placement="fixed"),
    "order and LR gradients": SearchOptions(placement="fixed", gradients="free"),
    "every task on any unit": SearchOptions(placement="free"),
}


def random_problem(random: Random, *, rule: str | None = None) -> Problem:
    """A step of at most 40 tasks on 2 to 4 unlike units: chain or residual stages, any rule, with ways or without."""
    while True:
        stages, units = random.randint(2, 6), random.randint(2, 4)
        body = tuple(Stage(i, f"s{i}", parameters=4 * (random.random() < 0.8), saved=8) for i in range(stages))
        edges = [Edge(i - 1, i, f"x{i}", 8) for i in range(stages + 1)]
        if random.random() < 0.5:
            edges += [Edge(i - 1, i + 2, f"x{i}", 8) for i in range(0, stages - 1, 2)]
        graph = StageGraph("random", body, tuple(edges), Stage(stages, "loss"))
        chosen = rule or random.choice(("bp", "bp-split", "lr", "segments"))
        more = {"segments": (stages // 2,)} if chosen == "segments" else {}
        options = RuleOptions(
            microbatches=random.randint(1, 5),
            baseline=random.choice(("none", "clean")),
            loss=random.random() < 0.7,
            update=random.random() < 0.5,
            **more,
        )
        tasks = build_tasks(graph, chosen, options)
        if 6 <= len(tasks.tasks) <= MOST_TASKS:
            break
    speeds = [random.choice((1, 1, 2, 3)) for _ in range(units)]
    ticks: dict[tuple[int, str], int] = defaultdict(lambda: random.randint(1, 9))
    rows = tuple(tuple(ticks[task.id.stage, task.id.kind] * speed for speed in speeds) for task in tasks.tasks)
    return Problem(tasks, abstract_machine(units, random.choice((0, 0, 1, 3))), rows, "random")


@dataclass
class Tally:
    """Makespans over the optimum of one kind of instance."""

    auto: list[float]
    search: list[float]
    best_list: list[float]
    proved: int = 0
    open: int = 0
    seconds: float = 0.0


def random_instances(count: int, seed: int, effort: float, exact: float) -> dict[str, Tally]:
    """`auto` without and the best plain list schedule against CP-SAT's optimum, on random instances."""
    tallies = {name: Tally([], [], []) for name in FREEDOMS}
    random = Random(seed)
    for number in range(count):
        name = list(FREEDOMS)[number % len(FREEDOMS)]
        problem = random_problem(random, rule="lr" if "LR" in name else None)
        options = replace(FREEDOMS[name], effort=effort, seed=number)
        if "capped" in name:
            options = replace(options, live=_most_stages(problem) + random.randint(0, 1))
        if number % 20 == 0:
            say(f"optimality: random instance {number} of {count}")
        _one(problem, options, exact, tallies[name])
    return tallies


def _most_stages(problem: Problem) -> int:
    """Stages on the fullest unit: with so many chunks allowed one micro-batch after the other can pass."""
    return max(Counter(contiguous_blocks(problem)[:-1]).values())


def _one(problem: Problem, options: SearchOptions, effort: float, tally: Tally) -> None:
    exact = solve(problem, "cpsat", replace(options, effort=effort))
    assert exact.proof is not None
    bound, optimum = exact.proof.bound, timed(problem, exact.schedule).makespan
    before = process_time()
    alone = timed(problem, solve(problem, "auto", replace(options, exact=False)).schedule).makespan
    tally.seconds += process_time() - before
    whole = timed(problem, solve(problem, "auto", options).schedule).makespan
    if min(alone, whole) < bound:
        raise SystemExit(f"auto gives {min(alone, whole)}, CP-SAT proved {bound}: one of them is wrong")
    tally.proved += exact.proof.status == "OPTIMAL"
    tally.open += exact.proof.status != "OPTIMAL"
    base = optimum if exact.proof.status == "OPTIMAL" else bound
    tally.auto.append(whole / base - 1)
    tally.search.append(alone / base - 1)
    tally.best_list.append(_plain_list(problem, options) / base - 1)


def _plain_list(problem: Problem, options: SearchOptions) -> int:
    name = "heft" if options.placement == "free" else "list"
    return timed(problem, solve(problem, name, options).schedule).makespan


def chain(stages: int, units: int, microbatches: int, times: tuple[int, int, int]) -> Problem:
    """BP with split backward on equal stages and units, no transfer time, as zero-bubble papers count."""
    body = tuple(Stage(i, f"s{i}", parameters=1) for i in range(stages))
    graph = StageGraph("chain", body, tuple(Edge(i - 1, i, f"x{i}", 0) for i in range(stages + 1)), Stage(stages, "l"))
    options = RuleOptions(microbatches=microbatches, loss=False, update=False, first_input_gradient=True)
    tasks = build_tasks(graph, "bp-split", options)
    row = dict(zip("FIW", ((t,) * units for t in times), strict=True))
    rows = tuple(row[task.id.kind] for task in tasks.tasks)
    return Problem(tasks, abstract_machine(units), rows, "durations")


def closed_forms(most_units: int, most_microbatches: int) -> Iterator[tuple[str, int, int, int]]:
    """``(name, cases, better than the form, worse)`` for ZB-H1 and ZB-V over their whole grids."""
    for times in CHAIN_TIMES:
        f, b, w = times
        yield _grid(
            f"ZB-H1, p live, (f, b, w) = {times}",
            [(p, m) for p in range(2, most_units + 1) for m in range(p, most_microbatches + 1)],
            lambda p, m, t=times: (chain(p, p, m, t), p),
            lambda p, m, f=f, b=b, w=w: m * (f + b + w) + (p - 1) * (f + b - w),
        )
    yield _grid(
        "ZB-V, 2p live chunks, f = b = w = 1",
        [(p, m) for p in range(2, most_units + 1) for m in range(2 * p, most_microbatches + 1)],
        lambda p, m: (chain(2 * p, p, m, (1, 1, 1)), 2 * p),
        lambda p, m: 6 * m + p - 1,
    )


def _grid(
    name: str,
    cases: list[tuple[int, int]],
    build: Callable[[int, int], tuple[Problem, int]],
    form: Callable[[int, int], int],
) -> tuple[str, int, int, int]:
    better = worse = 0
    for p, m in cases:
        say(f"optimality: {name}, p={p}, m={m}")
        problem, live = build(p, m)
        options = SearchOptions(live=live, effort=0.01, exact=False)
        made = timed(problem, solve(problem, "auto", options).schedule)
        peak = max(live_peaks(problem, made.units, made.starts, made.ends))
        if made.shortages(caps_of(problem, options)):
            raise SystemExit(f"{name}, p={p}, m={m}: a unit holds {peak}, allowed are {live}")
        better += made.makespan < form(p, m)
        worse += made.makespan > form(p, m)
    return name, len(cases), better, worse


def one_f_one_b_limits(sizes: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    """At 1F1B's own limit of min(p - r, m) live micro-batches: `auto` without the solver beside CP-SAT's proof."""
    for p, m in sizes:
        for times in CHAIN_TIMES:
            say(f"optimality: 1F1B's memory, p={p}, m={m}, {times}")
            problem = chain(p, p, m, times)
            options = SearchOptions(live=tuple(min(p - r, m) for r in range(p)), effort=10)
            exact = solve(problem, "cpsat", options)
            alone = solve(problem, "auto", replace(options, exact=False, effort=1))
            assert exact.proof is not None
            found, other = (timed(problem, one.schedule).makespan for one in (exact, alone))
            yield (
                f"p={p}, m={m}, {times}",
                f"CP-SAT {found} {exact.proof.status} (>= {exact.proof.bound}), auto {other}",
            )


def rank_spans(most_units: int) -> Iterator[tuple[str, int, int, int, int]]:
    """``(p and times, m, ZB-H2's form, rank span of auto's schedule, of ZB-H1's)`` for m = 2p - 1 and 4p.

    ZB-H2 counts the longest time from a unit's first task to its last, m (f + b + w) + (p - 1)(f + b - 2 w), and may
    hold 2p - 1 micro-batches. `auto` looks for the shortest step, not for the shortest rank span: a report, no contest.
    """
    for times in CHAIN_TIMES:
        f, b, w = times
        for p in range(2, most_units + 1, 2):
            for m in (2 * p - 1, 4 * p):
                say(f"optimality: ZB-H2, p={p}, m={m}, {times}")
                problem = chain(p, p, m, times)
                spans = [_rank_span(problem, name, 2 * p - 1) for name in ("auto", "zb-h1")]
                yield f"{p}, {times}", m, m * (f + b + w) + (p - 1) * (f + b - 2 * w), *spans


def _rank_span(problem: Problem, scheduler: str, live: int) -> int:
    options = SearchOptions(live=live, effort=0.05, exact=False) if scheduler == "auto" else SearchOptions()
    made = timed(problem, solve(problem, scheduler, options).schedule)
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    for unit, start, end in zip(made.units, made.starts, made.ends, strict=True):
        begun[unit], ended[unit] = min(begun.get(unit, start), start), max(ended.get(unit, 0), end)
    return max(ended[unit] - begun[unit] for unit in begun)


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks optimality", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="random instances")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--effort", type=float, default=1.0, help="of auto, in about a second each")
    parser.add_argument("--exact", type=float, default=20.0, help="effort of the exact solver for each instance")
    parser.add_argument("--units", type=int, default=8, help="largest pipeline of the closed forms")
    parser.add_argument("--microbatches", type=int, default=32)
    parser.add_argument("--only", choices=("random", "forms", "memory", "spans"), help="one of the four tables")
    options = parser.parse_args(arguments)
    if options.only in (None, "random"):
        print_random(random_instances(options.count, options.seed, options.effort, options.exact))
    if options.only in (None, "forms"):
        print("\n| closed form | cases | auto shorter | auto longer |\n|---|--:|--:|--:|")
        for name, cases, better, worse in closed_forms(options.units, options.microbatches):
            print(f"| {name} | {cases} | {better} | {worse} |", flush=True)
    if options.only in (None, "memory"):
        print("\n| 1F1B's own memory | |\n|---|---|")
        for name, line in one_f_one_b_limits(((2, 4), (4, 8), (6, 12))):
            print(f"| {name} | {line} |", flush=True)
    if options.only in (None, "spans"):
        print("\n| p, (f, b, w) | m | ZB-H2's rank span | of auto, 2p - 1 live | of ZB-H1 |\n|---|--:|--:|--:|--:|")
        for name, m, form, found, other in rank_spans(options.units):
            print(f"| {name} | {m} | {form} | {found} | {other} |", flush=True)


def print_random(tallies: dict[str, Tally]) -> None:
    """Mean distance from the optimum (from CP-SAT's bound where it proved none)."""
    print("| random instances | n | proved | list or HEFT | auto, no solver | auto | worst of auto |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, tally in tallies.items():
        shares = [f"{100 * mean(row):.2f} %" for row in (tally.best_list, tally.search, tally.auto) if row]
        worst = f"{100 * max(tally.auto, default=0):.2f} %"
        print(f"| {name} | {len(tally.auto)} | {tally.proved} | {' | '.join(shares)} | {worst} |")
    every = [share for tally in tallies.values() for share in tally.auto]
    alone = [share for tally in tallies.values() for share in tally.search]
    print(f"\nmean over the optimum: auto {100 * mean(every):.3f} %, without the solver {100 * mean(alone):.3f} %")
