"""What of validation touches the executors: measured costs, and measured steps of several jobs in turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from alrsim.cost.costs import MeasuredCosts
from alrsim.execution.executor import Scheduled, sequential
from alrsim.execution.executors import find_executor
from alrsim.execution.measuring.timelines import measured_facts, measured_timeline
from alrsim.execution.measuring.tracking import measure_scratch
from alrsim.execution.session import Limits, Session
from alrsim.timeline.timeline import Timeline


def calibration_note(costs: Sequence[MeasuredCosts]) -> dict[str, Any]:
    """What a calibration found besides task times, for the report."""
    first = costs[0]
    return {
        "busy": first.host.busy,
        "host": first.host.words,
        "summary": first.summary,
        "slowdown": [round(one.slowdown, 4) for one in costs],
    }


@dataclass(frozen=True)
class Runner:
    """Runs jobs, one step at a time, and gives a timeline of each."""

    jobs: Sequence[Scheduled]
    session: Session
    overhead: int
    warmup: int

    @property
    def clock(self) -> str:
        """How the units' clocks are aligned, and what is left of their difference."""
        facts = self.session.facts
        left = f", residual {facts.clock_skew_ns} ns" if facts.clock_skew_ns else ""
        return f"{facts.clock or 'unknown'}{left}"

    @property
    def resident(self) -> dict[str, Any]:
        """What the system says of the processes' memory, by the executor's own names."""
        return {name: value for name, value in self.session.facts.to_json().items() if "rss" in name}

    def run(self, index: int) -> Timeline:
        """One step of a job.

        Raises:
            RunError, InterruptedRun: as the executor's session.
        """
        job = self.jobs[index]
        record = self.session.run(index)
        prepared = job.prepared
        times = record.times
        facts = measured_facts(prepared.job, job.schedule, times, [max(times.end)], self.warmup, self.overhead)
        return measured_timeline(
            prepared.job,
            prepared.ledger,
            job.problem,
            job.schedule,
            times,
            facts.joined(self.session.facts),
            record.transfers,
        )

    def differing_gradients(self, index: int) -> list[str]:
        """Parameters whose gradient in the job's last run is not, bit for bit, that of the reference order."""
        prepared = self.jobs[index].prepared
        job = prepared.job
        expected = sequential(job.program, job.graph, prepared.batch, job.options, job.settings).gradients
        found = self.session.results(index).gradients
        return [name for name, value in expected.items() if name not in found or not torch.equal(found[name], value)]


@contextmanager
def open_runner(jobs: Sequence[Scheduled], executor: str, limits: Limits, warmup: int) -> Iterator[Runner]:
    """Workers for all jobs, gone at the end whatever happens."""
    for job in jobs:
        measure_scratch(job.prepared)  # not timed; what a measured timeline says of memory needs it
    with find_executor(executor)(jobs, limits) as session:
        yield Runner(jobs, session, session.overhead(400), warmup)
