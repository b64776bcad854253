"""ZB-V (Qi et al. 2023, arXiv 2401.10241): two chunks on each unit in the shape of a V, weight gradients in the gaps.

No order is written down: each unit runs, of what is ready, a forward of its second chunk first, then an input
gradient, then a forward of its first chunk, then a weight gradient, under a cap on the chunks that it holds.
"""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Key, Plan, dispatch
from alrsim.schedulers.placement import v_shape
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

_LOSS, _UP, _INPUT, _DOWN, _WEIGHT, _UPDATE = range(6)


class Held:
    """The chunks that each unit holds: from the start of a forward to the end of its last gradient.

    The second chunk always finds room: the first may fill the unit's cap but for one place, so the oldest
    micro-batch can always go on and no unit starves.
    """

    def __init__(self, problem: Problem) -> None:
        self.units = len(problem.machine.units)
        tasks = problem.tasks.tasks
        last = {(task.id.stage, task.id.microbatch): i for i, task in enumerate(tasks) if task.id.kind in "IWB"}
        self.releases = set(last.values())
        self.chunk: list[int] = []
        for task in tasks:
            held = task.id.kind == "F" and (task.id.stage, task.id.microbatch) in last
            self.chunk.append(int(task.id.stage >= self.units) if held else NONE)
        self.stage = [task.id.stage for task in tasks]
        self.held = [[0, 0] for _ in range(self.units)]

    def admit(self, unit: int, task: int) -> bool:
        chunk = self.chunk[task]
        if chunk == NONE:
            return True
        down, up = self.held[unit]
        if down + up >= 2 * self.units:
            return False
        return chunk == 1 or down < 2 * self.units - 1

    def started(self, unit: int, task: int) -> None:
        if self.chunk[task] != NONE:
            self.held[unit][self.chunk[task]] += 1

    def finished(self, unit: int, task: int) -> None:
        if task in self.releases:
            self.held[unit][int(self.stage[task] >= self.units)] -= 1


def zb_v(problem: Problem) -> Schedule:
    """Every unit works 2 m t_chunk without a pause where f = b = w and m >= 2p, and holds at most 2p chunks.

    Raises:
        ScheduleError: not two stages for each unit.
    """
    placement = v_shape(problem, "zb-v")
    units, last = len(problem.machine.units), problem.tasks.stages
    queue: list[int] = []
    key: list[Key] = []
    for task in problem.tasks.tasks:
        stage, kind, microbatch, _ = task.id
        forward = _UP if stage >= units else _DOWN
        number = {"F": forward, "I": _INPUT, "W": _WEIGHT, "B": _INPUT, "U": _UPDATE}.get(kind, _LOSS)
        queue.append(_LOSS if stage == last and kind != "U" else number)
        key.append((microbatch, -stage))
    held = Held(problem)
    plan = Plan(placement, queue, key, admit=held.admit, started=held.started, finished=held.finished)
    return dispatch(problem, plan, "zb-v")
