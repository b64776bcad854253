"""Task tokens: ``2F0`` is stage 2, forward, micro-batch 0; ``2C0.3`` is copy group 3; ``2U`` has no micro-batch."""

import re
from typing import Any, Literal, NamedTuple, get_args

from pydantic_core import core_schema

from alrsim.errors import ScheduleError

Kind = Literal["F", "L", "B", "I", "W", "G", "C", "U", "X"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NONE = -1
"""No micro-batch, or no copy group."""

KIND_NAMES: dict[Kind, str] = {
    "F": "forward",
    "L": "loss",
    "B": "full backward",
    "I": "input gradient",
    "W": "weight gradient",
    "G": "LR gradient",
    "C": "cotangent accumulation",
    "U": "update",
    "X": "transfer",
}

_TOKEN = re.compile(
    r"(?P<stage>[0-9]{1,9})(?P<kind>[FLBIWGCUX])(?P<microbatch>[0-9]{1,9})?(?:\.(?P<group>[0-9]{1,9}))?"
)


class TaskId(NamedTuple):
    """A task's identity; ``str()`` gives the token, :func:`parse_token` reads it back.

    Attributes:
        stage: Stage index; the loss module is the stage after the last.
        kind: One letter of :data:`KINDS`.
        microbatch: Micro-batch, or ``NONE`` for updates.
        group: Copy group, 0 is the clean forward, ``NONE`` where copies are not split.
    """

    stage: int
    kind: Kind
    microbatch: int = NONE
    group: int = NONE

    def __str__(self) -> str:
        microbatch = "" if self.microbatch == NONE else str(self.microbatch)
        group = "" if self.group == NONE else f".{self.group}"
        return f"{self.stage}{self.kind}{microbatch}{group}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _coerce, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def parse_token(text: str, *, where: str = "") -> TaskId:
    """Read a token.

    Raises:
        ScheduleError: if the text is not a token, an update has a micro-batch, or any other kind has none.
    """
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise ScheduleError(
            f"{text!r} is not a task token",
            where=where,
            fix=f"write stage, kind ({''.join(KINDS)}), micro-batch and optionally .group, such as 2F0, 2C0.3 or 2U",
        )
    kind: Any = match["kind"]
    microbatch = NONE if match["microbatch"] is None else int(match["microbatch"])
    group = NONE if match["group"] is None else int(match["group"])
    if (microbatch == NONE) != (kind == "U"):
        need = "has no micro-batch" if kind == "U" else "needs a micro-batch"
        raise ScheduleError(f"{text!r}: kind {kind} ({KIND_NAMES[kind]}) {need}", where=where)
    return TaskId(int(match["stage"]), kind, microbatch, group)


def _coerce(value: Any) -> TaskId:
    if isinstance(value, TaskId):
        return value
    try:
        return parse_token(value)
    except (ScheduleError, AttributeError, TypeError) as error:
        raise ValueError(f"not a task token: {value!r}") from error
