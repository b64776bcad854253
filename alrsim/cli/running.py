"""How schedules are run for real: executor and limits, checked before anything slow; what a stopped run leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alrsim.cli.output import publish, tell_progress
from alrsim.cli.parse import choose
from alrsim.cli.ranks import may_complain, take_place
from alrsim.errors import AlrsimError, OptionError
from alrsim.files import save_value

if TYPE_CHECKING:
    from alrsim.execution.session import Limits
    from alrsim.timeline.timeline import Timeline

PARTIAL, PARTIAL_TRACE = "partial.json", "partial.trace.json.gz"
"""Files in ``--out`` of a run that stopped early; others would be taken for those of a whole run."""


@dataclass(frozen=True)
class Running:
    """What was typed about running.

    Attributes:
        executor: One of :data:`alrsim.execution.executors.EXECUTORS`.
        limit: Longest time without any task beginning or ending, in seconds; ``None``: the default.
    """

    executor: str = "threads"
    limit: float | None = None

    @property
    def limits(self) -> "Limits":
        from alrsim.execution.session import Limits

        return Limits() if self.limit is None else replace(Limits(), task_seconds=self.limit)

    def take_place(self, units: int) -> None:
        """See :func:`alrsim.cli.ranks.take_place`."""
        take_place(self.executor, units, self.limits.join_seconds)


def check_running(executor: str, limit: float | None) -> Running:
    """The options ``--executor`` and ``--limit``, if this host can do what they say.

    Raises:
        OptionError: an unknown executor, one that this host cannot run (says why), or a limit that is no time.
    """
    from alrsim.execution.executors import EXECUTORS, unavailable

    choose(executor, EXECUTORS, where="--executor", what="executor")
    if reason := unavailable(executor):
        others = [name for name in EXECUTORS if not unavailable(name)]
        raise OptionError(f"{executor} cannot run here: {reason}", where="--executor", fix=f"use {' or '.join(others)}")
    running = Running(executor, limit)
    _ = running.limits
    return running


@contextmanager
def keeping_partial(output: Path | None, out: Path | None) -> Iterator[None]:
    """Around a run: if it fails or is interrupted, what had run by then is written, and stderr says so.

    Args:
        output: Gets the timeline, whose facts say ``partial``.
        out: Folder that gets :data:`PARTIAL` and :data:`PARTIAL_TRACE`.
    """
    from alrsim.execution.session import InterruptedRun, RunError

    try:
        yield
    except (RunError, InterruptedRun) as stopped:
        try:
            if may_complain():
                tell_progress(_keep(stopped.timeline, output, out))
        except AlrsimError as error:  # the disk is full: why the run stopped is more important
            tell_progress(f"the partial timeline is lost: {error}")
        raise


def _keep(timeline: "Timeline | None", output: Path | None, out: Path | None) -> str:
    """Write a partial timeline; what to say of it."""
    if timeline is None:
        return "no partial timeline: no task of a schedule had ended"
    from alrsim.reports.trace import trace_bytes, trace_document

    written = []
    if output is not None:
        save_value("timeline", timeline, output)
        written.append(str(output))
    if out is not None:
        publish({}, out=out, files={PARTIAL_TRACE: trace_bytes(trace_document([("partial", timeline)]))})
        save_value("timeline", timeline, out / PARTIAL)
        written += [str(out / PARTIAL), str(out / PARTIAL_TRACE)]
    done = f"the run stopped with {timeline.facts.tasks_done} of {timeline.facts.tasks} tasks done"
    return f"{done}; the partial timeline is in {' and '.join(written) or 'no file (-o FILE keeps it)'}"
