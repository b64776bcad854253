"""The executor ``cuda``: on one device a stream and a worker thread per unit, on several devices a unit each.

Every unit has a run and a store of its own, as the processes of other executors have, so that no two streams share a
sum. Between units of one device data goes by reference with an event; between devices it is copied beside the work of
both. Threads only hand work in; the device's own events say when tasks ran.

What autograd saved in a forward is read by the stream that wrote it: a B, I or W on another unit than its F is refused.
fp32 products are fp32 (TF32 is off) and torch's convolutions are the deterministic ones while a session is open.

**Not run on a GPU so far**: there was none where this was written. Tests run all of it on a pretended device, which
checks devices and the order of every access; what only a GPU can show is in tests that are skipped without one.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from alrsim.errors import AlrsimError
from alrsim.estimators.kernels.device_noise import fused
from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Ledger
from alrsim.execution.kernels.store import Store
from alrsim.execution.prepared import Scheduled, empty_body, new_run, task_body
from alrsim.execution.results import joined_results, unit_values
from alrsim.execution.session import Exchange, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.device_job import DeviceJob, UnitLinks, bring
from alrsim.execution.workers.messages import transfer_spans
from alrsim.execution.workers.stream_worker import Bridge, Script
from alrsim.execution.workers.streams import Device, Mark, Stream, align, exact, find_cuda
from alrsim.execution.workers.thread_workers import Body, Times, no_times
from alrsim.schedule.actions import Action
from alrsim.tasks.token import NONE
from alrsim.timeline.facts import Facts
from alrsim.units import Bytes, Ns

_POLL_SECONDS = 0.02
_LEAVE_SECONDS = 4.0
"""For a thread to end its task when a run is over."""


@contextmanager
def cuda(jobs: Sequence[Scheduled], limits: Limits, find: Callable[[], Device] = find_cuda) -> Iterator["CudaSession"]:
    """Bring the jobs to the devices.

    Args:
        find: Where the devices come from.

    Raises:
        ExecutionError: this host has no CUDA device, or an exact gradient task is not where its forward is.
    """
    device = find()
    with exact():
        yield CudaSession(jobs, limits, device)
        device.rest()  # not behind an error: a device that hangs would be waited for


@dataclass(frozen=True)
class _Origin:
    """Of a place's clock: a mark, and the host's time of it."""

    mark: Mark
    host: Ns


class CudaSession:
    """See :class:`alrsim.execution.session.Session`."""

    def __init__(self, jobs: Sequence[Scheduled], limits: Limits, device: Device) -> None:
        self._limits, self._device = limits, device
        units = max(len(job.schedule.lanes) for job in jobs)
        places = device.places
        self._streams = [device.stream(places[unit % len(places)], f"unit {unit}") for unit in range(units)]
        self._used = list(dict.fromkeys(stream.device for stream in self._streams))
        self._work = [bring(job, self._streams) for job in jobs]
        self._last: dict[int, list[Run]] = {}
        self._residual: Ns = 0
        self._peak: Bytes = 0
        device.rest()

    @property
    def facts(self) -> Facts:
        several = len(self._used) > 1
        return Facts(
            executor="cuda",
            device=self._device.name,
            devices=len(self._used),
            transport="copies between devices" if several else "references and events on one device",
            clock="events, from one mark per device that is aligned to the host's clock before every run",
            clock_skew_ns=self._residual if several else 0,
            clock_residual_ns=self._residual,
            allocated_peak_bytes=self._peak,
            tf32=False,
            noise_kernels="triton" if all(fused(place) for place in self._used) else "torch",
        )

    def run(self, job: int) -> Record:
        work = self._work[job]
        self._last.pop(job, None)
        before = self._device.allocated()
        self._device.peak()
        runs = []
        for stream, prepared, view in zip(self._streams, work.prepared, work.division.views, strict=False):
            with stream.work():
                runs.append(new_run(prepared, recording=False, view=view))
        links = UnitLinks(work, self._device, self._streams, runs)
        scripts = [links.script(unit) for unit in range(len(runs))]
        origins, zero = self._together(job, scripts)
        record = self._record(work, links, scripts, origins, zero)
        self._peak = self._device.peak() - before
        self._last[job] = runs
        return record

    def results(self, job: int) -> Results:
        work, runs = self._work[job], self._last[job]
        values = [unit_values(run, view) for run, view in zip(runs, work.division.views, strict=True)]
        return joined_results(work.scheduled.prepared, values)

    def sample(self, job: int, workers: int) -> list[Times]:
        scripts = []
        for stream, prepared in zip(self._streams[:workers], self._work[job].prepared, strict=False):
            with stream.work():
                run = new_run(prepared, recording=False)
            scripts.append(_alone(stream, len(prepared.job.graph.tasks), task_body(prepared, run)))
        origins, zero = self._together(job, scripts)
        count = self._work[job].tasks
        return [self._times([script], count, origins, zero) for script in scripts]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        here, there = self._streams[source], self._streams[target]
        bridge, found = Bridge(self._device, there, f"unit {target}"), []
        with here.work():
            value = torch.ones(size, dtype=torch.uint8, device=here.device)
        for _ in range(repeats + 1):  # the first copy opens the way
            self._device.rest()
            with here.work():
                left = here.mark()
            with there.work():
                _, crossing = bridge.bring([value], left)
                arrived = there.mark()
            self._device.rest()
            pair = (left, arrived) if crossing is None else (crossing.begin, crossing.end)
            found.append(Exchange(0, max(0, self._device.elapsed(*pair))))
        return found[1:]

    def overhead(self, tasks: int) -> Ns:
        body = empty_body(Store(Ledger(), recording=False, tasks=tasks))
        script = _alone(self._streams[0], tasks, body)
        self._together(None, [script])
        return max(1, self._device.elapsed(script.begun[0], script.ended[tasks - 1]) // tasks)

    def _together(self, job: int | None, scripts: Sequence[Script]) -> tuple[dict[torch.device, _Origin], Ns]:
        """Carry scripts out, a thread each.

        Returns:
            The origin of every device's clock, and the host's time of the common start.

        Raises:
            RunError, InterruptedRun: with what had happened by then.
        """
        origins, residuals = {}, [0]
        for place in self._used:
            stream = next(one for one in self._streams if one.device == place)
            mark, host, residual = align(self._device, stream)
            origins[place] = _Origin(mark, host)
            residuals.append(residual)
        self._residual = max(residuals)
        start, stop = threading.Barrier(len(scripts) + 1), threading.Event()
        threads = [
            threading.Thread(target=script.carry_out, args=(start, stop), name=f"alrsim-cuda-{index}", daemon=True)
            for index, script in enumerate(scripts)
        ]
        zero = time.perf_counter_ns()
        try:
            for thread in threads:
                thread.start()
            zero = time.perf_counter_ns()
            start.wait()
            hung = self._watch(scripts)
        except BaseException as error:
            stop.set()
            start.abort()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_LEAVE_SECONDS)
            if isinstance(error, KeyboardInterrupt) and job is not None:
                times = self._times(scripts, self._work[job].tasks, origins, zero)
                raise InterruptedRun(Record(times)) from None
            raise
        if hung is not None:
            stop.set()
        for unit, thread in enumerate(threads):
            if unit != hung:
                thread.join(_LEAVE_SECONDS)
        for unit, script in enumerate(scripts):
            if script.error is not None or unit == hung:
                raise self._failed(job, scripts, unit, origins, zero) from script.error
        self._device.rest()
        return origins, zero

    def _watch(self, scripts: Sequence[Script]) -> int | None:
        """Wait until all has been handed in and done; the unit that hangs, if any."""
        progress, since = -1, time.monotonic()
        for unit, script in enumerate(scripts):
            while not (script.finished.wait(_POLL_SECONDS) and _is_through(script)):
                if any(other.error is not None for other in scripts):
                    break
                now = sum(other.moves for other in scripts) + sum(_is_through(other) for other in scripts)
                if now != progress:
                    progress, since = now, time.monotonic()
                elif time.monotonic() - since > self._limits.task_seconds:
                    return next((at for at, other in enumerate(scripts) if other.at != NONE), unit)
                time.sleep(0.0005)
        return None

    def _record(
        self,
        work: DeviceJob,
        links: UnitLinks,
        scripts: Sequence[Script],
        origins: Mapping[torch.device, _Origin],
        zero: Ns,
    ) -> Record:
        times = self._times(scripts, work.tasks, origins, zero)
        if len(self._used) == 1:
            return Record(times)
        messages = work.division.messages
        by_reference = [times.end[one.producer] if one.producer != NONE else 0 for one in messages]
        begin, end = list(by_reference), list(by_reference)
        for number, crossing in links.crossings.items():
            origin = origins[self._streams[messages[number].target].device]
            moments = (max(0, self._host_time(one, origin) - zero) for one in (crossing.begin, crossing.end))
            begin[number], end[number] = moments
        names = [lane.unit for lane in work.scheduled.schedule.lanes]
        tokens = [str(task.id) for task in work.scheduled.prepared.job.graph.tasks]
        return Record(times, transfer_spans(messages, tokens, names, begin, end, end))

    def _times(self, scripts: Sequence[Script], count: int, origins: Mapping[torch.device, _Origin], zero: Ns) -> Times:
        """Times of tasks that have ended. A stream computes from a task's start to its end."""
        times = no_times(count)
        for script in scripts:
            origin = origins[script.stream.device]
            for task, mark in script.ended.items():
                if mark.passed():
                    start, end = (self._host_time(one, origin) - zero for one in (script.begun[task], mark))
                    times.start[task], times.end[task] = max(0, start), max(0, end)
                    times.cpu[task] = times.end[task] - times.start[task]
        return times

    def _host_time(self, mark: Mark, origin: _Origin) -> Ns:
        return origin.host + self._device.elapsed(origin.mark, mark)

    def _failed(
        self,
        job: int | None,
        scripts: Sequence[Script],
        unit: int,
        origins: Mapping[torch.device, _Origin],
        zero: Ns,
    ) -> RunError:
        script = scripts[unit]
        what, fix = _words(script.error, self._limits.task_seconds)
        if job is None:
            return RunError(what, record=None, fix=fix)
        scheduled = self._work[job].scheduled
        token = str(scheduled.prepared.job.graph.tasks[script.at].id) if script.at != NONE else ""
        record = Record(self._times(scripts, self._work[job].tasks, origins, zero))
        return RunError(what, record=record, unit=scheduled.schedule.lanes[unit].unit, token=token, fix=fix)


def _alone(stream: Stream, count: int, body: Body) -> Script:
    """Tasks in reference order, without any exchange."""
    return Script(stream, [Action("run", index) for index in range(count)], [(index,) for index in range(count)], body)


def _is_through(script: Script) -> bool:
    """Whether the stream has come to the last mark so far."""
    return script.last is None or script.last.passed()


def _words(error: BaseException | None, limit: float) -> tuple[str, str]:
    """What happened, and what to do."""
    if error is None:
        return f"hung: nothing began or ended for {limit:g} s", "give it more time with `limit`, or look into the task"
    if isinstance(error, AlrsimError):
        return error.what, error.fix
    if isinstance(error, torch.OutOfMemoryError):
        reason = str(error).splitlines()[0]
        return f"out of memory: {reason}", "use fewer copies, smaller copy groups or a smaller state format"
    return f"{type(error).__name__}: {error}", "see the cause above"
