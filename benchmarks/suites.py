"""What is timed. Every suite gives the rows of one table."""

from collections.abc import Callable, Sequence

from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

from alrsim.schedule.check import check
from alrsim.schedule.evaluate import compile_arrays, evaluate, evaluate_lanes, follow
from alrsim.schedule.evaluate import run as run_arrays
from alrsim.schedule.lower import lower
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.simulation.engine import simulate
from alrsim.simulation.run import run
from alrsim.steps.method import BUILTIN_RULES
from benchmarks import plain
from benchmarks.kernels import kernels
from benchmarks.measure import Row, growth, measure, say
from benchmarks.workloads import UNITS, case, problem_of, scheduler_problem, tasks_of

Suite = Callable[[Sequence[int], int], list[Row]]


def _agree(what: str, mine: int, other: int) -> None:
    if mine != other:
        raise SystemExit(f"{what}: alrsim gives a makespan of {mine}, the yardstick {other}; no ratio is printed")


def engine(sizes: Sequence[int], repeats: int) -> list[Row]:
    """The SimPy engine on a lowered schedule, and `simulate` as a whole."""
    rows = []
    for label, transfer, function in (
        ("engine alone, no transfer time", 0, lambda c: run(c.lowered)),
        ("engine alone, transfers occupy links", 1, lambda c: run(c.lowered)),
        ("simulate: check, lower, engine, memory", 1, lambda c: simulate(c.problem, c.schedule)),
    ):
        series = []
        for size in sizes:
            say(f"engine: {label}, {size}")
            one = case(size, transfer)
            series.append(Row("engine", label, one.size, measure(lambda f=function, c=one: f(c), repeats)))
        rows += _with_growth(series)
    return rows


def evaluator(sizes: Sequence[int], repeats: int) -> list[Row]:
    """The longest-path evaluator: on arrays, on new lanes, and with lowering."""
    rows = []
    for label, unit in (
        ("evaluate, arrays ready", "arrays"),
        ("evaluate_lanes: another order of the same items", "lanes"),
        ("evaluate: from a lowered schedule", "lowered"),
        ("lower + evaluate", "problem"),
    ):
        series = []
        for size in sizes:
            say(f"evaluator: {label}, {size}")
            one = case(size, 1)
            arrays = compile_arrays(one.lowered)
            following = follow(one.lowered.lanes, len(one.lowered.duration))
            calls: dict[str, Callable[[], object]] = {
                "arrays": lambda a=arrays, f=following: run_arrays(a, f),
                "lanes": lambda a=arrays, c=one: evaluate_lanes(a, c.lowered.lanes),
                "lowered": lambda c=one: evaluate(c.lowered),
                "problem": lambda c=one: evaluate(lower(c.problem, c.schedule)),
            }
            inner = 20 if unit in ("arrays", "lanes") else 1
            series.append(Row("evaluator", label, one.size, measure(calls[unit], repeats, inner)))
        rows += _with_growth(series)
    return rows


def passes(sizes: Sequence[int], repeats: int) -> list[Row]:
    """The steps before the engine: rule, lowering, check."""
    rows = []
    for rule in BUILTIN_RULES:
        if rule == "segments":
            continue
        series = []
        for size in sizes:
            say(f"passes: rule {rule}, {size}")
            count = len(tasks_of(rule, size).tasks)
            series.append(Row("passes", f"rule {rule}", count, measure(lambda r=rule, s=size: tasks_of(r, s), repeats)))
        rows += _with_growth(series)
    for label, function in (
        ("lower", lambda c: lower(c.problem, c.schedule)),
        ("check", lambda c: check(c.problem, c.schedule)),
    ):
        series = []
        for size in sizes:
            say(f"passes: {label}, {size}")
            one = case(size, 1)
            sample = measure(lambda f=function, c=one: f(c), repeats)
            series.append(Row("passes", label, one.size, sample))
        rows += _with_growth(series)
    return rows


def schedulers(sizes: Sequence[int], repeats: int) -> list[Row]:
    """Every scheduler on the rule that it is made for; those that search take the time that they are given."""
    rows = []
    for name in [name for name, entry in SCHEDULERS.items() if entry.search is None or name == "list"]:
        series = []
        for size in sizes:
            say(f"schedulers: {name}, {size}")
            problem = scheduler_problem(name, size)
            sample = measure(lambda p=problem, n=name: schedule(p, n), repeats)
            series.append(Row("schedulers", name, len(problem.tasks.tasks), sample))
        rows += _with_growth(series)
    return rows


def ratios(sizes: Sequence[int], repeats: int) -> list[Row]:
    """The same work done by others, in the same run. The answers are compared before the times."""
    rows = []
    size = sizes[-1] if len(sizes) < 3 else sizes[-2]
    one = case(size, 1)
    makespan = max(run(one.lowered).ends)
    say("ratios: plain SimPy")
    _agree("plain SimPy", makespan, plain.simpy_pipeline(one.lowered))
    mine = Row("ratios", "alrsim engine", one.size, measure(lambda: run(one.lowered), repeats))
    other = Row("ratios", "plain SimPy model", one.size, measure(lambda: plain.simpy_pipeline(one.lowered), repeats))
    rows += _pair(mine, other)

    say("ratios: plain longest path")
    _agree("plain longest path", int(evaluate(one.lowered)[1].max()), plain.longest_path(one.lowered))
    mine = Row(
        "ratios", "alrsim evaluate, from a lowered schedule", one.size, measure(lambda: evaluate(one.lowered), repeats)
    )
    other = Row(
        "ratios", "plain Python longest path", one.size, measure(lambda: plain.longest_path(one.lowered), repeats)
    )
    rows += _pair(mine, other)

    say("ratios: plain list scheduler")
    problem = problem_of("bp", size, 0)
    order = schedule(problem, "list")
    unit = [order.unit_of[task.id] for task in problem.tasks.tasks]
    _agree("plain list", max(run(lower(problem, order)).ends), plain.list_schedule(problem, unit))
    mine = Row("ratios", "alrsim scheduler list", one.size, measure(lambda: schedule(problem, "list"), repeats))
    other = Row(
        "ratios", "plain Python list scheduler", one.size, measure(lambda: plain.list_schedule(problem, unit), repeats)
    )
    rows += _pair(mine, other)
    return rows + _torch(size, repeats)


def _torch(size: int, repeats: int) -> list[Row]:
    """PyTorch's own generator of the same schedule; its actions have no loss, no update and no task graph."""
    say("ratios: torch get_schedule_ops")
    problem = problem_of("bp", size, 0)
    microbatches = problem.tasks.microbatches
    actions = sum(op is not None for row in get_schedule_ops("1F1B", UNITS, microbatches) for op in row)
    count = len(problem.tasks.tasks)
    mine = Row(
        "ratios", "alrsim rule bp + 1f1b", count, measure(lambda: schedule(problem_of("bp", size, 0), "1f1b"), repeats)
    )
    again = Row("ratios", "alrsim 1f1b alone", count, measure(lambda: schedule(problem, "1f1b"), repeats))
    other = Row(
        "ratios",
        "torch get_schedule_ops 1F1B",
        actions,
        measure(lambda: get_schedule_ops("1F1B", UNITS, microbatches), repeats),
    )
    return [*_pair(mine, other), Row(again.section, again.what, count, again.sample, _ratio(again, other))]


def _with_growth(rows: list[Row]) -> list[Row]:
    *first, last = rows
    return [*first, Row(last.section, last.what, last.size, last.sample, growth(rows))]


def _pair(mine: Row, other: Row) -> list[Row]:
    return [Row(mine.section, mine.what, mine.size, mine.sample, _ratio(mine, other)), other]


def _ratio(mine: Row, other: Row) -> str:
    return f"{mine.rate / other.rate:.2f}x the rate of {other.what}"


SUITES: dict[str, Suite] = {
    "engine": engine,
    "evaluator": evaluator,
    "passes": passes,
    "schedulers": schedulers,
    "ratios": ratios,
    "kernels": kernels,
}
