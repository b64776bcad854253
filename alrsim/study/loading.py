"""``load``: whatever a verb wrote, read back by what the file says that it is."""

from pathlib import Path
from typing import Any

from alrsim.documents import KINDS, kind_of, read_document
from alrsim.errors import FileError
from alrsim.files import load_value, read_json

VALUES = {
    "graph": "alrsim.graph.graph:Graph",
    "stages": "alrsim.graph.stages:StageGraph",
    "timeline": "alrsim.timeline.timeline:Timeline",
}
"""Values that verbs write besides their results, by the word in their format field."""


def load(path: str | Path) -> Any:
    """What a verb wrote: a result (``result.json`` of a folder, or the JSON itself), a graph, stages, a timeline, a
    schedule, or estimators.

    Args:
        path: A file, or a folder that a result was saved in.

    Raises:
        FileError: no such file, or something that no verb writes.
    """
    from alrsim.showing import load_attribute

    file = Path(path)
    if file.is_dir():
        file = file / "result.json"
    if file.suffix == ".csv":
        from alrsim.steps.schedule_file import open_schedule

        return open_schedule(file).schedule
    document = read_json(file)
    kind = kind_of(document)
    if kind == "estimators" or (kind == "plan" and "value" in document):  # an older word for estimators
        from alrsim.steps.estimators_file import read_estimators

        return read_estimators(file)
    if kind in KINDS:
        return read_document(file)
    if kind in VALUES:
        return load_value(kind, load_attribute(VALUES[kind]), file)
    if kind == "schedule" or (isinstance(document, dict) and "lanes" in document):
        from alrsim.steps.schedule_file import open_schedule

        return open_schedule(file).schedule
    raise FileError("is nothing that alrsim wrote", where=str(file), fix="give a result, or a file of a verb's output")
