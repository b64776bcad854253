"""What verbs return: frozen values that are their own JSON document, with a schema made from their types.

A document's JSON carries a format field, ``alrsim.compare/2``, by which :func:`read_document` knows its type. Fields of
type :data:`Live` are for whoever holds the value in memory (timelines, steps); they are not written, and ``None`` in a
value that was read from a file. How a document is shown is the business of :mod:`alrsim.showing`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.json_schema import SkipJsonSchema

from alrsim import showing
from alrsim.errors import FileError
from alrsim.files import read_json
from alrsim.writing import make_folder, write_atomically

Live = Annotated[SkipJsonSchema[Any], Field(exclude=True)]
"""The type of a field that is not written. Declare it ``field(default=None, repr=False, compare=False)``."""

KINDS = {
    "compare": "alrsim.reports.result:CompareResult",
    "calibrate": "alrsim.reports.calibration:CalibrateResult",
    "costs": "alrsim.reports.calibration:CostsResult",
    "figure2": "alrsim.steps.figure2_charts:Figure2Result",
    "replay": "alrsim.validation.replaying:ReplayResult",
    "validate": "alrsim.validation.result:ValidateResult",
    "export": "alrsim.reports.model_counts:ExportResult",
    "graph-counts": "alrsim.reports.model_counts:GraphResult",
    "machines": "alrsim.reports.machines:MachinesResult",
    "reproduce": "alrsim.experiments.result:ReproduceResult",
    "profile": "alrsim.reports.machines:ProfileResult",
    "profile-review": "alrsim.reports.machines:ReviewResult",
    "stage-counts": "alrsim.reports.model_counts:StagesResult",
    "sweep": "alrsim.sweeps.result:SweepResult",
    "order": "alrsim.reports.step_result:ScheduleResult",
    "step": "alrsim.reports.step_result:StepResult",
    "gradcheck": "alrsim.quality.result:GradcheckResult",
    "train": "alrsim.training.result:TrainResult",
    "trajectory": "alrsim.quality.trajectory:TrajectoryResult",
    "plan": "alrsim.reports.plan_result:PlanResult",
    "explain": "alrsim.reports.explanation:Explanation",
}
"""Where the type of every document is."""


@dataclass(frozen=True)
class Document(showing.Shown):
    """Base of every result.

    Attributes:
        kind: Name of the document, a key of :data:`KINDS`.
        version: Raised when a reader of the older form could not read the newer one.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON."""
        body = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {"format": f"alrsim.{self.kind}/{self.version}", **body}

    def to_json(self) -> str:
        """The documented JSON as text."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        return text.replace("\x7f", "\\u007f")  # the one control character that json leaves as it is

    @classmethod
    def from_dict(cls, document: Any, where: str = "") -> Self:
        """The inverse of :meth:`to_dict`, without what is live.

        Raises:
            FileError: another format or version, or values that do not fit.
        """
        expected = f"alrsim.{cls.kind}/{cls.version}"
        found = document.get("format") if isinstance(document, dict) else None
        if found != expected:
            raise FileError(f"holds {found!r}, expected {expected!r}", where=where)
        body = {key: value for key, value in document.items() if key != "format"}
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in first["loc"]) or "value"
            raise FileError(f"{at}: {first['msg']}", where=where, fix="the file was cut off or edited") from None

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON Schema (2020-12) of :meth:`to_dict`."""
        schema = TypeAdapter(cls).json_schema(mode="serialization")
        schema["properties"] = {"format": {"const": f"alrsim.{cls.kind}/{cls.version}"}, **schema["properties"]}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write everything that there is to see: the JSON, pictures, traces; nothing before all of it is made.

        Returns:
            The files.

        Raises:
            FileError: the folder cannot be made, or a file not be written.
        """
        place = Path(folder)
        files = {"result.json": self.to_json().encode(), **showing.files(self)}
        make_folder(place)
        for name, data in files.items():
            write_atomically(place / name, data)
        return tuple(place / name for name in files)


def kind_of(document: Any) -> str:
    """``compare`` of a document whose format is ``alrsim.compare/2``; empty for anything else."""
    tag = document.get("format") if isinstance(document, dict) else None
    if not isinstance(tag, str) or not tag.startswith("alrsim."):
        return ""
    return tag.removeprefix("alrsim.").partition("/")[0]


def document_type(kind: str) -> type[Document]:
    """The type of a document by its kind."""
    found: type[Document] = showing.load_attribute(KINDS[kind])
    return found


def read_document(path: str | Path) -> Document:
    """A document from a file that a verb wrote.

    Raises:
        FileError: no such file, or something else than a document of this version.
    """
    found = read_json(Path(path))
    kind = kind_of(found)
    if kind not in KINDS:
        raise FileError(f"is no result of alrsim ({kind or 'no format field'})", where=str(path))
    return document_type(kind).from_dict(found, str(path))
