"""A step of equal micro-batches written out from one of them: the judge of the sentence that one says it all."""

from dataclasses import replace

from alrsim.tasks.taskgraph import Buffer, Task, TaskGraph
from alrsim.tasks.token import NONE, parse_token


def written_out(template: TaskGraph, copies: int) -> TaskGraph:
    """The task graph that the rule itself builds for so many micro-batches."""
    rows = sum(task.id.microbatch != NONE for task in template.tasks)
    there = [index for index, buffer in enumerate(template.buffers) if buffer.resident]
    each = [index for index, buffer in enumerate(template.buffers) if not buffer.resident]
    place = {index: number for number, index in enumerate(there)}
    inside = {index: len(there) + number for number, index in enumerate(each)}

    def buffer_at(index: int, copy: int) -> int:
        return place[index] if index in place else inside[index] + copy * len(each)

    def readers(buffer: Buffer, over: range) -> tuple[int, ...]:
        local = [reader + copy * rows for copy in over for reader in buffer.readers if reader < rows]
        return (*local, *(reader + rows * (copies - 1) for reader in buffer.readers if reader >= rows))

    tasks = [
        Task(
            task.id._replace(microbatch=copy),
            tuple(buffer_at(index, copy) for index in task.reads),
            tuple(other + copy * rows for other in task.after),
            task.work,
            task.encoded,
            task.copies,
        )
        for copy in range(copies)
        for task in template.tasks[:rows]
    ]
    for task in template.tasks[rows:]:
        fixed = [place[index] for index in task.reads if index in place]
        summed = [buffer_at(index, copy) for copy in range(copies) for index in task.reads if index in inside]
        after = [other + copy * rows for copy in range(copies) for other in task.after]
        tasks.append(replace(task, reads=(*fixed, *summed), after=tuple(after)))
    buffers = [
        replace(template.buffers[index], readers=readers(template.buffers[index], range(copies))) for index in there
    ]
    ranks = _ranks(template, each)
    for copy in range(copies):
        for index in each:
            buffer = template.buffers[index]
            buffers.append(
                replace(
                    buffer,
                    name=_renamed(buffer.name, copy),
                    producer=NONE if buffer.producer == NONE else buffer.producer + copy * rows,
                    readers=readers(buffer, range(copy, copy + 1)),
                    accumulator=_term(buffer, copy),
                    rank=buffer.rank + copy * ranks.get(buffer.accumulator, 0),
                )
            )
    return replace(template, tasks=tuple(tasks), buffers=tuple(buffers), microbatches=copies)


def _ranks(template: TaskGraph, each: list[int]) -> dict[str, int]:
    """Terms that one micro-batch adds to each sum that runs over all of them (weight gradients)."""
    counts: dict[str, int] = {}
    for index in each:
        accumulator = template.buffers[index].accumulator
        if accumulator.endswith(":grad"):
            counts[accumulator] = counts.get(accumulator, 0) + 1
    return counts


def _term(buffer: Buffer, copy: int) -> str:
    """Weight gradients are one sum over the step, cotangents one for each micro-batch."""
    if not buffer.accumulator or buffer.accumulator.endswith(":grad"):
        return buffer.accumulator
    return f"{buffer.accumulator.removesuffix('0')}{copy}"


def _renamed(name: str, copy: int) -> str:
    """``2F0:out`` and ``input0:x`` of another micro-batch."""
    head, _, rest = name.partition(":")
    if head == "input0":
        return f"input{copy}:{rest}"
    return f"{parse_token(head)._replace(microbatch=copy)}:{rest}"
