"""Calibration finds what a session with known times says, and nothing else."""

import pytest

from alrsim.cost.calibrated import calibrated_problem
from alrsim.execution.executor import prepare
from alrsim.execution.measuring.calibrate import calibrate_session, calibration_job, measure_links, ordered
from alrsim.execution.session import Exchange
from alrsim.execution.workers.thread_workers import Times
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.check import check
from alrsim.tasks.problem import cost_key
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.facts import Facts
from tests.linked import link_table

OPTIONS = RuleOptions(microbatches=2)


class Planted:
    """A session whose clock is arithmetic: stage s takes 100 (s + 1) us alone and half as much again beside others.

    Every other repeat is slow by 1 us; ``share`` is the part of its core that a task had.
    """

    def __init__(self, graph: TaskGraph, share: float = 1.0) -> None:
        self._graph, self._share, self._turn = graph, share, 0

    @property
    def facts(self) -> Facts:
        return Facts()

    def span(self, index: int, workers: int) -> int:
        alone = 100_000 * (self._graph.tasks[index].id.stage + 1)
        return alone if workers == 1 else alone * 3 // 2

    def sample(self, job: int, workers: int) -> list[Times]:
        self._turn += 1
        now, start, end, cpu = 0, [], [], []
        for index in range(len(self._graph.tasks)):
            took = self.span(index, workers) + 1000 * (self._turn // 2 % 2)
            start.append(now)
            now += took
            end.append(now)
            cpu.append(round(took * self._share))
        return [Times(start, end, cpu)] * workers

    def exchange(self, source: int, target: int, size: int, repeats: int) -> list[Exchange]:
        send = 8_000 + size // 4 + 500 * source
        return [Exchange(10 * send, 20 * send), *[Exchange(send, send + 3_000)] * (repeats - 1)]  # the first is cold

    def overhead(self, tasks: int) -> int:
        return 4_321


@pytest.fixture
def job(subject):
    one = subject("mlp", "balanced:2", hidden=8, features=12)
    graph = RULES["bp"](one.stages, OPTIONS)
    return prepare(one.program, graph, one.batch(2), OPTIONS)


def calibrated(job, share: float = 1.0):
    session = Planted(job.job.graph, share)
    (costs,) = calibrate_session(session, [job], executor="processes", units=2, repeats=4, warmup=1)
    return costs


def test_task_times_alone_and_busy_are_recovered(job):
    costs = calibrated(job)
    for index, task in enumerate(job.job.graph.tasks):
        alone, key = 100_000 * (task.id.stage + 1), cost_key(task)
        assert costs.isolated[key] == pytest.approx(alone + 500)  # the median of as many slow as fast repeats
        assert costs.busy[key] == pytest.approx(alone * 1.5 + 500)
        assert costs.samples[key] >= 8, index
    assert costs.dispatch_overhead_ns == 4_321
    assert costs.slowdown == pytest.approx(1.5, rel=0.01)


def test_links_are_recovered_in_each_direction(job):
    for link in calibrated(job).links:
        assert link.send_ns == pytest.approx(8_000 + 500 * link.source, abs=1)
        assert link.bandwidth == pytest.approx(4e9, rel=1e-3)
        assert link.latency_ns == 3_000
        assert link.error < 1e-3


def test_other_programs_are_noticed(job):
    assert calibrated(job).host.cpu_share == 1.0
    host = calibrated(job, share=0.7).host
    assert host.cpu_share == pytest.approx(0.7)
    assert host.busy
    assert "70%" in host.words


def test_costs_make_a_problem_with_the_semantics_of_their_executor(job):
    from alrsim.hardware.machine import abstract_machine

    costs = calibrated(job)
    problem = calibrated_problem(job.job.graph, abstract_machine(2), OPTIONS.precision, costs)
    assert costs.semantics == "blocking"
    assert problem.contention is not None
    assert problem.contention.overhead == 4_321
    assert link_table(problem.machine)[0, 1].hold_ns(4_000) == pytest.approx(9_000, abs=2)


def test_a_time_beside_others_is_never_shorter_than_alone():
    first, second = (0, "F", 1, False), (1, "F", 1, False)
    assert ordered({first: 10.0, second: 10.0}, {first: 8.0, second: 13.0}) == (
        {first: 9, second: 10},
        {first: 9, second: 13},
    )


def test_a_link_without_copies_has_no_bandwidth():
    class References(Planted):
        def exchange(self, source: int, target: int, size: int, repeats: int) -> list[Exchange]:
            return [Exchange(0, 20_000)] * repeats

    (link,) = (one for one in measure_links(References(TaskGraph((), (), "none", 1, 1)), 2) if one.source == 0)
    assert (link.bandwidth, link.send_ns, link.latency_ns) == (None, 0, 20_000)


def test_calibration_runs_the_step_on_one_unit_and_no_schedule(job):
    one = calibration_job(job, 3)
    check(one.problem, one.schedule)
    assert [len(lane.tasks) for lane in one.schedule.lanes] == [len(job.job.graph.tasks), 0, 0]
    assert list(one.schedule.lanes[0].tasks) == [task.id for task in job.job.graph.tasks]
