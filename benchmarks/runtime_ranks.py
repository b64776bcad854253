"""The program of ``python -m benchmarks runtimes`` on its two ranks: ``REPORT STAGES MICROBATCHES REPEATS``.

Runtimes take turns, A B C A B C: torch's schedule runtime, executor torchrun on the same ranks, executor processes on
two forked children of rank 0 while both ranks sleep.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from alrsim.execution.session import Limits, Session
from alrsim.execution.workers.processes import processes
from alrsim.execution.workers.rank_clock import RankClock, common_start
from alrsim.execution.workers.rank_session import at_work
from alrsim.execution.workers.ranks import Ranks, join, rank_place
from alrsim.execution.workers.torchrun import torchrun
from benchmarks.runtime_stages import SUBJECTS, Subject, jobs_of

ORDERS = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


def torch_runtime(ranks: Ranks, clock: RankClock, subject: Subject, order: str, count: int) -> Callable[[], int]:
    """A function that makes one step with torch's runtime and gives its time in ns, that of the slower rank."""
    rank, batch = ranks.place.rank, subject.batch(count)
    module = subject.parts[rank]
    stage = PipelineStage(module, rank, 2, torch.device("cpu"))
    runtime = ORDERS[order](stage, count, loss_fn=nn.CrossEntropyLoss())

    def step() -> int:
        module.zero_grad(set_to_none=True)
        gc.collect()
        with at_work(ranks.place.local_rank):
            origin = common_start(ranks, clock)
            if rank == 0:
                runtime.step(*batch.inputs)
            else:
                runtime.step(target=batch.targets, losses=[], return_outputs=False)
            took = time.perf_counter_ns() - origin
        return max(int(one) for one in ranks.gather(torch.tensor([took])))

    return step


def session_step(session: Session, job: int) -> int:
    """One step's makespan in ns."""
    return max(session.run(job).times.end)


def measure(name: str, count: int, repeats: int) -> dict[str, Any]:
    """Times of every runtime under every order."""
    subject, place = SUBJECTS[name](), rank_place()
    assert place is not None
    jobs = jobs_of(subject, count, tuple(ORDERS))
    found: dict[str, dict[str, list[int]]] = {order: {} for order in ORDERS}
    with ExitStack() as stack:
        forked = stack.enter_context(processes(list(jobs.values()), Limits())) if place.rank == 0 else None
        ranks = join(60.0)
        ours = stack.enter_context(torchrun(list(jobs.values()), Limits()))
        clock = RankClock(ranks)
        theirs = {order: torch_runtime(ranks, clock, subject, order, count) for order in ORDERS}
        for turn in range(repeats + 2):
            for index, order in enumerate(ORDERS):
                times = {"torch": theirs[order](), "torchrun": session_step(ours, index)}
                if forked is not None:
                    times["processes"] = session_step(forked, index)
                ranks.gather(torch.zeros(1, dtype=torch.int64))
                for runtime, took in times.items():
                    if turn >= 2:
                        found[order].setdefault(runtime, []).append(took)
        check(ranks, subject, ours)
        operators = bare(ranks, subject, count)
    return {"times": found, "operators": operators}


def bare(ranks: Ranks, subject: Subject, count: int) -> int:
    """ns of a step's operators on the rank that has more of them, called in a plain loop: without any runtime."""
    rank, batch, loss = ranks.place.rank, subject.batch(count), nn.CrossEntropyLoss()
    pairs = list(zip(batch.inputs[0].split(subject.size), batch.targets.split(subject.size), strict=True))
    with torch.no_grad():
        edges = [subject.parts[0](value) for value, _ in pairs]
    found = []
    with at_work(ranks.place.local_rank):
        for _ in range(20):
            start = time.perf_counter_ns()
            for (value, target), edge in zip(pairs, edges, strict=True):
                if rank == 0:
                    subject.parts[0](value).backward(edge)
                else:
                    loss(subject.parts[1](edge.detach().requires_grad_()), target).backward()
            found.append(time.perf_counter_ns() - start)
    return max(int(one) for one in ranks.gather(torch.tensor([sorted(found)[len(found) // 2]])))


def check(ranks: Ranks, subject: Subject, ours: Session) -> None:
    """Both runtimes computed the same gradients."""
    results = ours.results(len(ORDERS) - 1).gradients
    for name, parameter in subject.parts[ranks.place.rank].named_parameters():
        expected = results[f"{ranks.place.rank}.{name}"]
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def main() -> None:
    """The program."""
    report, name, count, repeats = sys.argv[1:]
    found = measure(name, int(count), int(repeats))
    if distributed.get_rank() == 0:
        Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
