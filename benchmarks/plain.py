"""What one would write without alrsim: the yardsticks of the ratios. They must give the same times."""

from heapq import heappop, heappush
from itertools import pairwise

import simpy

from alrsim.schedule.lower import Lowered
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE


def simpy_pipeline(lowered: Lowered) -> int:
    """A textbook SimPy model: a process per unit and per message, an event per task, a resource per link."""
    env = simpy.Environment()
    done = [env.event() for _ in lowered.duration]
    there = [env.event() for _ in lowered.messages]
    links = [simpy.Resource(env, 1) for _ in lowered.channels]

    def unit(lane: list[int]):
        for item in lane:
            waits = [done[other] for other in lowered.preds[item]] + [there[m] for m in lowered.needs[item]]
            if waits:
                yield env.all_of(waits)
            yield env.timeout(lowered.duration[item])
            done[item].succeed()

    def message(index: int):
        sent = lowered.messages[index]
        if sent.source != NONE:
            yield done[sent.source]
        for channel in sent.route:
            with links[channel].request() as turn:
                yield turn
                yield env.timeout(sent.hold)
        yield env.timeout(sent.latency)
        there[index].succeed()

    for lane in lowered.lanes:
        env.process(unit(lane))
    for index in range(len(lowered.messages)):
        env.process(message(index))
    env.run()
    return int(env.now)


def longest_path(lowered: Lowered) -> int:
    """A plain longest path over dictionaries: Kahn's order, then relaxation."""
    after: dict[int, list[tuple[int, int]]] = {item: [] for item in range(len(lowered.duration))}
    waits = dict.fromkeys(after, 0)
    for item, preds in enumerate(lowered.preds):
        for other in preds:
            after[other].append((item, 0))
            waits[item] += 1
    for lane in lowered.lanes:
        for one, two in pairwise(lane):
            after[one].append((two, 0))
            waits[two] += 1
    start = dict.fromkeys(after, 0)
    for sent in lowered.messages:
        for reader in sent.readers:
            if sent.source == NONE:
                start[reader] = max(start[reader], sent.delay)
            else:
                after[sent.source].append((reader, sent.delay))
                waits[reader] += 1
    ready = [item for item, count in waits.items() if not count]
    makespan = 0
    while ready:
        item = ready.pop()
        end = start[item] + lowered.duration[item]
        makespan = max(makespan, end)
        for other, delay in after[item]:
            start[other] = max(start[other], end + delay)
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    return makespan


def list_schedule(problem: Problem, unit: list[int]) -> int:
    """A plain greedy list scheduler without transfers: longest path to the end first. Gives the makespan."""
    waits, after, rest = _graph(problem, unit)
    ready: list[list[tuple[int, int]]] = [[] for _ in problem.machine.units]
    for task, count in enumerate(waits):
        if not count:
            heappush(ready[unit[task]], (-rest[task], task))
    now, running, idle = 0, [], set(range(len(ready)))
    while True:
        for index in sorted(idle):
            if ready[index]:
                _, task = heappop(ready[index])
                heappush(running, (now + problem.durations[task][index], task))
                idle.discard(index)
        if not running:
            return now
        now = running[0][0]
        while running and running[0][0] == now:
            _, task = heappop(running)
            idle.add(unit[task])
            for other in after[task]:
                waits[other] -= 1
                if not waits[other]:
                    heappush(ready[unit[other]], (-rest[other], other))


def _graph(problem: Problem, unit: list[int]) -> tuple[list[int], list[list[int]], list[int]]:
    """How many tasks each waits for, which wait for it, and its longest path to the end."""
    tasks = problem.tasks
    count = len(tasks.tasks)
    before = [[other for other, _ in tasks.dependencies(task)] for task in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    rest = [0] * count
    for task, others in enumerate(before):
        for other in others:
            after[other].append(task)
    for task in reversed(range(count)):
        rest[task] = problem.durations[task][unit[task]] + max((rest[other] for other in after[task]), default=0)
    return [len(others) for others in before], after, rest
