"""What is known of how a timeline came about: of the simulation, or of the measurement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from alrsim.timeline.terms import Terms
from alrsim.units import Bytes, Ns

PROCESS = "process"
"""Key of :attr:`Facts.peak_rss_bytes` where one process ran all units."""


@dataclass(frozen=True)
class Facts:
    """Everything is optional: ``None`` is not known, or does not apply.

    Attributes:
        engine: What simulated: ``simpy`` or ``fast``.
        transfer_semantics: Of the simulation.
        terms_ns: What a predicted makespan is made of.
        device: Processor or GPU.
        torch: Its version.
        threads: Per unit.
        cores: That the host lets this process use.
        units: Of the schedule.
        devices: How many there were.
        seed: Of noise and data.
        sigma: Of the noise; texts if stages differ.
        noise: Kind of sequence.
        dataset: Where the samples came from.
        repeats: Measured runs; the timeline is that of the median.
        warmup: Runs before them.
        makespan_min_ns: Of all repeats; so are ``max`` and ``iqr``, the distance of the quartiles.
        dispatch_overhead_ns: Per task, besides its kernel.
        cpu_share: Of their cores that tasks had.
        freed_memory_kept: Whether the allocator keeps freed memory.
        flags: What is wrong with the measurement, in words.
        executor: One of :data:`alrsim.execution.executors.EXECUTORS`.
        transport: How data went between units.
        ranks: Of torch.distributed.
        clock: How the units' clocks are aligned.
        clock_skew_ns: What may be left between them.
        clock_residual_ns: By how much a device's clock may be off the host's.
        peak_rss_bytes: Peak resident memory by unit, or of the one :data:`PROCESS`.
        allocated_peak_bytes: On devices.
        tf32: Whether products were rounded so.
        noise_kernels: ``triton`` or ``torch``.
        partial: The run stopped early, with ``tasks_done`` of ``tasks`` tasks ended, because of what ``stopped`` says.
    """

    engine: str | None = None
    transfer_semantics: str | None = None
    terms_ns: Terms | None = None
    device: str | None = None
    torch: str | None = None
    threads: int | None = None
    cores: int | None = None
    units: int | None = None
    devices: int | None = None
    seed: int | None = None
    sigma: float | tuple[str, ...] | None = None
    noise: str | None = None
    dataset: str | None = None
    repeats: int | None = None
    warmup: int | None = None
    makespan_min_ns: Ns | None = None
    makespan_max_ns: Ns | None = None
    makespan_iqr_ns: Ns | None = None
    dispatch_overhead_ns: Ns | None = None
    cpu_share: float | None = None
    freed_memory_kept: bool | None = None
    flags: tuple[str, ...] | None = None
    executor: str | None = None
    transport: str | None = None
    ranks: int | None = None
    clock: str | None = None
    clock_skew_ns: Ns | None = None
    clock_residual_ns: Ns | None = None
    peak_rss_bytes: Mapping[str, Bytes] | None = None
    allocated_peak_bytes: Bytes | None = None
    tf32: bool | None = None
    noise_kernels: str | None = None
    partial: bool | None = None
    tasks_done: int | None = None
    tasks: int | None = None
    stopped: str | None = None

    @property
    def known(self) -> dict[str, Any]:
        """By name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def joined(self, other: "Facts") -> "Facts":
        """Both; what the other one knows decides."""
        return replace(self, **other.known)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of what is known. Terms and memory by unit are texts ``name=number``."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in self.known.items()}
        if self.terms_ns is not None:
            found["terms_ns"] = _texts(self.terms_ns.named)
        if (peaks := self.peak_rss_bytes) is not None:
            found["peak_rss_bytes"] = peaks[PROCESS] if [*peaks] == [PROCESS] else _texts(peaks)
        return found

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """How :mod:`alrsim.files` reads what :meth:`to_json` wrote: the types are checked."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            _numbers_again,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.to_json),
        )


def _numbers_again(document: Any) -> Any:
    """Texts ``name=number`` as numbers by name.

    Raises:
        ValueError: a fact that nobody knows, or a text that is none.
    """
    if not isinstance(document, dict):
        return document
    if unknown := document.keys() - {one.name for one in fields(Facts)}:
        raise ValueError(f"there is no fact {min(unknown)!r}")
    found = dict(document)
    for name in ("terms_ns", "peak_rss_bytes"):
        value = document.get(name)
        if isinstance(value, list | tuple):
            found[name] = {key: int(number) for key, _, number in (text.rpartition("=") for text in value)}
        elif isinstance(value, int):
            found[name] = {PROCESS: value}
    return found


def _texts(numbers: Mapping[str, int]) -> list[str]:
    return [f"{name}={number}" for name, number in numbers.items()]
