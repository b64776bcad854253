"""An explained schedule as sentences, tables and JSON."""

from typing import Any

from rich.table import Table

from alrsim.reports.explained import CAUSE_WORDS, Explained
from alrsim.reports.tables import plain_table
from alrsim.reports.timeline_json import number
from alrsim.reports.timescale import scale_for
from alrsim.schedule.critical import Step
from alrsim.schedule.idle import Cause, Idle
from alrsim.tasks.token import NONE
from alrsim.timeline.metrics import busy, typed
from alrsim.units import format_bytes

_AFTER = {
    "start": "starts the step",
    "lane": "follows in the lane",
    "input": "had to wait for its input",
    "core": "had to wait for a core",
    "send": "is sent when made",
    "channel": "queued behind it",
}
_SHOWN = 24


class Words:
    """Times of one timeline in one readable unit."""

    def __init__(self, found: Explained) -> None:
        self._line = found.timeline
        self._scale = scale_for(float(typed(self._line, self._line.makespan)), self._line.time_unit)

    def time(self, ticks: int) -> str:
        """``12.5 ms``."""
        return self._scale.text(float(typed(self._line, ticks)))

    def share(self, ticks: int) -> str:
        """Of the makespan."""
        return f"{100 * ticks / (self._line.makespan or 1):.1f} %"


def answer(found: Explained, unit: int, time: int) -> list[str]:
    """What a unit does at a moment, and why."""
    words, name = Words(found), found.units[unit]
    item = found.running(unit, time)
    if item != NONE:
        span = f"{words.time(found.times.starts[item])} to {words.time(found.times.ends[item])}"
        free = found.slack[item]
        late = "it is on the critical path" if not free else f"it could end {words.time(free)} later at no cost"
        return [f"{name} at {words.time(time)} runs {found.token(item)} ({span}); {late}."]
    idle = found.idle_at(unit, time)
    if idle is None:
        return [f"{name} at {words.time(time)}: the step is over (makespan {words.time(found.times.makespan)})."]
    head = f"{name} at {words.time(time)} is idle from {words.time(idle.start)} to {words.time(idle.end)}: "
    return [head + _cause_line(found, idle, words), *_background(found, idle, words)]


def _cause_line(found: Explained, idle: Idle, words: Words) -> str:
    times, other = found.times, idle.other
    if idle.cause == Cause.DONE:
        return "nothing is left in its lane." if found.lowered.lanes[idle.unit] else "no task is placed on it."
    item = found.token(idle.item)
    if idle.cause == Cause.SENDING:
        return f"it sends what {item} made (blocking transfers)."
    if idle.cause == Cause.CORE:
        held = "" if other == NONE else f", until {found.token(other)} gives one back"
        return f"{item} has all its inputs and waits for one of the {found.problem.machine.shared_cores} cores{held}."
    if idle.cause == Cause.CHOICE:
        return (
            f"a choice of the schedule. Its lane goes on with {item}, which is not ready, although "
            f"{found.token(other)} is (planned for {words.time(times.starts[other])})."
        )
    if idle.cause in (Cause.MEMORY, Cause.LIVE):
        need = (
            f"{format_bytes(idle.demand)} of memory, and {format_bytes(idle.room)} are"
            if idle.cause == Cause.MEMORY
            else f"room for {idle.demand} more live micro-batch, and there is room for {idle.room}"
        )
        tail = " left" if idle.cause == Cause.MEMORY else ""
        return f"{item} is not ready; {found.token(other)} is, but it takes {need}{tail} until its turn."
    return f"{item} waits. " + _input_line(found, idle, words)


def _input_line(found: Explained, idle: Idle, words: Words) -> str:
    """The missing input: what it is, who makes it, when and how it comes."""
    times, maker, message = found.times, idle.other, idle.message
    if message == NONE:
        unit = found.units[found.lowered.unit[maker]]
        return f"It must come after {found.token(maker)} on {unit}, which ends at {words.time(times.ends[maker])}."
    sent, there = words.time(times.sent[message]), words.time(times.arrived[message])
    what, link = found.buffer(message), found.link(message)
    size = found.problem.tasks.buffers[found.lowered.messages[message].buffer].bytes
    bytes_word = f" ({format_bytes(size)})" if size and found.timeline.cost_model not in ("durations", "unit") else ""
    if maker == NONE:
        made = "which was there from the start"
    else:
        unit = found.units[found.lowered.unit[maker]]
        span = f"{words.time(times.starts[maker])} to {words.time(times.ends[maker])}"
        made = f"which {found.token(maker)} makes on {unit} ({span})"
    way = f"is there at {there}" if sent == there else f"travels {sent} to {there}"
    line = f"It reads {what}{bytes_word}, {made}; over {link} it {way}."
    if idle.cause == Cause.LINK:
        line += " The link is busy with other messages until then."
    return line


def _background(found: Explained, idle: Idle, words: Words) -> list[str]:
    """Of a choice or a cap: what the next item of the lane waits for."""
    if idle.cause not in (Cause.CHOICE, Cause.MEMORY, Cause.LIVE) or idle.message == NONE:
        return []
    maker = found.lowered.messages[idle.message].source
    missing = Idle(idle.unit, idle.start, idle.end, Cause.INPUT, idle.item, idle.message, maker)
    return [f"{found.token(idle.item)}: {_input_line(found, missing, words)}"]


def path_table(found: Explained) -> Table:
    """The critical path, stretches of no time left out; the middle of a long one too."""
    words = Words(found)
    steps = [step for step in found.path if step.end > step.start]
    rows = [_path_row(found, step, words) for step in steps]
    if len(rows) > _SHOWN:
        hidden = len(rows) - _SHOWN
        half = _SHOWN // 2
        rows = [*rows[:half], ["...", f"{hidden} more", "", "", "", "in --json"], *rows[-half:]]
    return plain_table(["critical path", "on", "from", "to", "takes", "why then"], rows, left=2)


def _path_row(found: Explained, step: Step, words: Words) -> list[str]:
    what = found.token(step.item) if step.item != NONE else found.buffer(step.message)
    where = found.units[found.lowered.unit[step.item]] if step.item != NONE else found.link(step.message)
    return [
        what,
        where,
        words.time(step.start),
        words.time(step.end),
        words.time(step.end - step.start),
        _AFTER[step.after],
    ]


def path_line(found: Explained) -> str:
    """How much of the critical path is spent where."""
    words, spent = Words(found), dict[str, int]()
    for step in found.path:
        where = found.units[found.lowered.unit[step.item]] if step.item != NONE else "transfers"
        spent[where] = spent.get(where, 0) + step.end - step.start
    shares = ", ".join(f"{where} {words.share(ticks)}" for where, ticks in spent.items() if ticks)
    tasks = sum(1 for step in found.path if step.item != NONE)
    return f"critical path: {tasks} tasks, {words.time(found.times.makespan)}: {shares}"


def idle_table(found: Explained) -> Table:
    """Idle time of every unit by reason; rows add up to the unit's idle time."""
    words = Words(found)
    causes = [cause for cause in Cause if any(cause in row for row in found.by_cause)]
    rows = [
        [name, words.share(sum(row.values())), *(words.share(row[c]) if c in row else "-" for c in causes)]
        for name, row in zip(found.units, found.by_cause, strict=True)
    ]
    return plain_table(["unit", "idle", *(CAUSE_WORDS[cause] for cause in causes)], rows)


def slack_line(found: Explained) -> str:
    """How many tasks may be later, and which one by most."""
    words = Words(found)
    critical = sum(1 for free in found.slack if not free)
    line = f"slack: {critical} of {len(found.slack)} tasks have none"
    if critical < len(found.slack):
        most = max(range(len(found.slack)), key=lambda item: found.slack[item])
        line += f"; most has {found.token(most)} ({words.time(found.slack[most])})"
    return line


def explain_document(found: Explained, asked: tuple[int, int] | None = None) -> dict[str, Any]:
    """Schema ``explain.schema.json``; times in the timeline's unit.

    Args:
        asked: Unit and tick of the question, if there was one.
    """

    def time(ticks: int) -> int | float:
        return number(typed(found.timeline, ticks))

    work = busy(found.timeline)
    document: dict[str, Any] = {
        "time_unit": found.timeline.time_unit,
        "makespan": time(found.times.makespan),
        "transfer_semantics": found.timeline.facts.transfer_semantics,
        "critical_path": [
            {
                "what": found.token(step.item) if step.item != NONE else found.buffer(step.message),
                "kind": "task" if step.item != NONE else "transfer",
                "where": found.units[found.lowered.unit[step.item]] if step.item != NONE else found.link(step.message),
                "start": time(step.start),
                "end": time(step.end),
                "after": step.after,
            }
            for step in found.path
        ],
        "slack": {found.token(item): time(free) for item, free in enumerate(found.slack)},
        "idle": {
            name: {
                "busy": time(work[name]),
                "idle": time(sum(row.values())),
                "causes": {cause.value: time(ticks) for cause, ticks in row.items()},
            }
            for name, row in zip(found.units, found.by_cause, strict=True)
        },
        "stretches": [_stretch(found, one) for one in found.idle],
    }
    if asked is not None:
        unit, at = asked
        item, idle = found.running(unit, at), found.idle_at(unit, at)
        document["answer"] = {
            "unit": found.units[unit],
            "at": time(at),
            "runs": None if item == NONE else found.token(item),
            "idle": None if idle is None else _stretch(found, idle),
            "text": answer(found, unit, at),
        }
    return document


def _stretch(found: Explained, idle: Idle) -> dict[str, Any]:
    line = found.timeline
    stretch: dict[str, Any] = {
        "unit": found.units[idle.unit],
        "start": number(typed(line, idle.start)),
        "end": number(typed(line, idle.end)),
        "cause": idle.cause.value,
        "next": None if idle.item == NONE else found.token(idle.item),
        "other": None if idle.other == NONE else found.token(idle.other),
    }
    if idle.message != NONE:
        stretch["input"] = {
            "buffer": found.buffer(idle.message),
            "link": found.link(idle.message),
            "sent": number(typed(line, found.times.sent[idle.message])),
            "arrives": number(typed(line, found.times.arrived[idle.message])),
        }
    if idle.cause in (Cause.MEMORY, Cause.LIVE):
        stretch |= {"demand": idle.demand, "room": idle.room}
    return stretch
