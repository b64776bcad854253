"""The program of ``python -m benchmarks transports`` on its two ranks: ``REPORT REPEATS``.

Every transport is that of an executor's session, measured as calibration measures links; sizes in turn. Threads and
processes belong to rank 0.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

from alrsim.execution.measuring.calibrate import calibration_job
from alrsim.execution.session import Limits, Session
from alrsim.execution.workers.processes import processes
from alrsim.execution.workers.ranks import join, rank_place
from alrsim.execution.workers.threads import threads
from alrsim.execution.workers.torchrun import torchrun
from benchmarks.runtime_stages import Subject, jobs_of

SIZES = tuple(64 * 4**step for step in range(10))
"""64 bytes to 16 MiB."""


def main() -> None:
    """The program."""
    report, repeats = Path(sys.argv[1]), int(sys.argv[2])
    place = rank_place()
    assert place is not None
    subject = Subject((nn.Linear(8, 8), nn.Linear(8, 4)), (8,), 4, 2)
    jobs = [calibration_job(jobs_of(subject, 1, ("gpipe",))["gpipe"].prepared, 2)]
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        if place.rank == 0:
            sessions["shared memory"] = stack.enter_context(processes(jobs, Limits()))
            sessions["references"] = stack.enter_context(threads(jobs, Limits()))
        ranks = join(60.0)
        sessions["gloo"] = stack.enter_context(torchrun(jobs, Limits()))
        for size in SIZES:
            for name, session in sessions.items():
                taken = session.exchange(0, 1, size, repeats + 1)[1:]
                found.setdefault(name, {})[str(size)] = [(one.send_ns, one.arrive_ns) for one in taken]
            ranks.gather(torch.zeros(1, dtype=torch.int64))
    if place.rank == 0:
        report.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
