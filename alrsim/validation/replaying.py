"""``replay``: predict recorded runs again from their recorded costs, without torch and without the models."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alrsim.files import write_atomically
from alrsim.options import Options, keyword
from alrsim.reports.parts import Parts, axes_or_new, no_files
from alrsim.reports.tables import plain_table, to_text
from alrsim.validation.replayed import COLUMNS, ReplayResult, accepted, cells_of, replay_result, replay_run, summary
from alrsim.validation.trace import find_traces
from alrsim.verbs import verb


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(Options):
    """Options of :func:`replay`."""

    accept: bool = keyword(
        "Write today's prediction into the files where it is different and not worse.", default=False
    )


@verb(ReplayOptions)
def replay(*traces: str | Path, asked: ReplayOptions) -> ReplayResult:
    """Predict recorded runs with this version of the program, with the error beside that at record time.

    Args:
        traces: Files that a validation recorded, or folders of them.

    Raises:
        FileError: no recorded run, or one that was cut off or edited.
    """
    found = [replay_run(path) for path in find_traces([Path(one) for one in traces])]
    written = []
    for one in found if asked.accept else ():
        data = accepted(one)
        if data is not None:
            write_atomically(one.path, data)
            written.append(one.path)
    return replay_result(found, written)


def replay_text(result: ReplayResult) -> str:
    """The table, and the errors as a whole."""
    table = to_text(plain_table(COLUMNS, [cells_of(one) for one in result.found]))
    return "\n".join([table, summary(result), *(f"wrote {path}" for path in result.written)])


def replay_rows(result: ReplayResult) -> list[dict[str, Any]]:
    """One row per recorded run."""
    return [{key: value for key, value in asdict(row).items() if not isinstance(value, dict)} for row in result.traces]


def draw_replay(result: ReplayResult, axes: Any = None) -> Any:
    """Errors then against errors now."""
    axes = axes_or_new(axes)
    axes.scatter([row.error_then for row in result.traces], [row.error_now for row in result.traces], s=14)
    axes.set_xlabel("makespan error when recorded")
    axes.set_ylabel("now")
    return axes


RENDERER = Parts(replay_text, replay_rows, draw_replay, no_files)
