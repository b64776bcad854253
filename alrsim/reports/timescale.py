"""One readable unit for a whole time axis or table column."""

from dataclasses import dataclass

_STEPS = ((10**9, "s"), (10**6, "ms"), (10**3, "µs"), (1, "ns"))


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Divide a time by ``divisor`` and print ``label`` after it."""

    divisor: float
    suffix: str

    @property
    def label(self) -> str:
        """For an axis: ``time [ms]``."""
        return f"time [{self.suffix}]" if self.suffix else "time [steps]"

    def text(self, time: float) -> str:
        """``3.21 ms``; typed units without a suffix."""
        value = f"{time / self.divisor:.4g}"
        return f"{value} {self.suffix}".rstrip()


def scale_for(longest: float, time_unit: str) -> TimeScale:
    """The largest unit that leaves ``longest`` (in ``time_unit``: ``ns`` or ``user``) at 1 or more."""
    if time_unit != "ns":
        return TimeScale(1.0, "")
    for size, suffix in _STEPS:
        if longest >= size:
            return TimeScale(float(size), suffix)
    return TimeScale(1.0, "ns")
