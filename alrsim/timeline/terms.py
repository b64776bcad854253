"""What a predicted step is made of: the makespan, split along its critical path."""

from collections.abc import Callable
from dataclasses import dataclass

from alrsim.units import Ns, format_ns


@dataclass(frozen=True, slots=True)
class Terms:
    """Ticks of the makespan by cause; they add up to it exactly.

    Attributes:
        compute: Tasks, as they run with idle neighbours. Where a cost model knows no more than durations (roofline:
            launches included), all of them.
        transfer: Messages on their way or waiting for a link, copies that block their sender.
        overhead: What the executor takes per task besides its kernel.
        contention: What busy neighbours add to tasks.
    """

    compute: Ns
    transfer: Ns
    overhead: Ns = 0
    contention: Ns = 0

    @property
    def total(self) -> Ns:
        return self.compute + self.transfer + self.overhead + self.contention

    @property
    def named(self) -> dict[str, Ns]:
        return {
            "compute": self.compute,
            "transfer": self.transfer,
            "overhead": self.overhead,
            "contention": self.contention,
        }


def terms_line(terms: Terms, time: Callable[[Ns], str] = format_ns) -> str:
    """For people: ``of 412 ms: compute 371 ms, transfer 12 ms, overhead 3 ms, contention 26 ms``; the last two only
    where a cost model knows of them."""
    said = {name: ticks for name, ticks in terms.named.items() if ticks or name in ("compute", "transfer")}
    parts = ", ".join(f"{name} {time(ticks)}" for name, ticks in said.items())
    return f"of {time(terms.total)}: {parts}"
