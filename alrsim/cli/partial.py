"""What is kept of a measured run that stopped early."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alrsim.cli.output import Targets
from alrsim.cli.ranks import may_complain
from alrsim.errors import AlrsimError, printable

if TYPE_CHECKING:
    from alrsim.timeline.timeline import Timeline

PARTIAL, PARTIAL_TRACE = "partial.json", "partial.trace.json.gz"
"""Files in ``--out`` of a run that stopped early; others would be taken for those of a whole run."""


@contextmanager
def keeping_partial(targets: Targets) -> Iterator[None]:
    """Around a verb: if a run fails or is interrupted, what had run by then is written, and stderr says so."""
    try:
        yield
    except (AlrsimError, KeyboardInterrupt) as stopped:
        if hasattr(stopped, "timeline") and may_complain():
            print(printable(_kept(stopped.timeline, targets)), file=sys.stderr, flush=True)
        raise


def _kept(timeline: "Timeline | None", targets: Targets) -> str:
    try:
        return _keep(timeline, targets)
    except AlrsimError as error:  # the disk is full: why the run stopped is more important
        return f"the partial timeline is lost: {error}"


def _keep(timeline: "Timeline | None", targets: Targets) -> str:
    """Write a partial timeline; what to say of it."""
    if timeline is None:
        return "no partial timeline: no task of a schedule had ended"
    from alrsim.files import save_value
    from alrsim.reports.trace import trace_bytes, trace_document
    from alrsim.writing import make_folder, write_atomically

    written = []
    if targets.file is not None:
        save_value("timeline", timeline, targets.file)
        written.append(str(targets.file))
    if targets.out is not None:
        make_folder(targets.out)
        trace = trace_bytes(trace_document([("partial", timeline)]))
        write_atomically(targets.out / PARTIAL_TRACE, trace)
        save_value("timeline", timeline, targets.out / PARTIAL)
        written += [str(targets.out / PARTIAL), str(targets.out / PARTIAL_TRACE)]
    done = f"the run stopped with {timeline.facts.tasks_done} of {timeline.facts.tasks} tasks done"
    return f"{done}; the partial timeline is in {' and '.join(written) or 'no file (-o FILE keeps it)'}"
