"""What a unit does at a moment of an explained schedule, and why, in sentences."""

from alrsim.reports.explained import Explained
from alrsim.reports.timescale import scale_for
from alrsim.schedule.idle import Cause, Idle
from alrsim.tasks.token import NONE
from alrsim.timeline.metrics import typed
from alrsim.units import format_bytes


class Words:
    """Times of one timeline in one readable unit."""

    def __init__(self, found: Explained) -> None:
        self._line = found.timeline
        self._scale = scale_for(float(typed(self._line, self._line.makespan)), self._line.time_unit)

    def time(self, ticks: int) -> str:
        """``12.5 ms``."""
        return self._scale.text(float(typed(self._line, ticks)))


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
