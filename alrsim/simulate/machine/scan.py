"""Look through what the next item of a unit waits for."""

from alrsim.estimators.kernels.machine.compile import machine_code
from alrsim.simulate.machine.tables import Lanes, Tables, Times


@machine_code
def scan(tables: Tables, times: Times, lanes: Lanes, unit: int, row: int, copy: int) -> bool:
    """Whether all is known that a row waits for; if not, the unit joins the list behind the first that is not.

    ``lanes.known`` becomes the latest of all, ``lanes.scanned`` tells where to go on.
    """
    latest, step = lanes.known[unit], lanes.scanned[unit]
    base = tables.before_first[row]
    last = tables.before_first[row + 1] - base
    while step < last:
        other = tables.before[base + step]
        if other >= 0:
            index = other * tables.copies + copy
            value = times.ends[index]
            if value < 0:
                lanes.waiting[unit] = -2 - value if value < -1 else -1
                times.ends[index] = -2 - unit
                break
            value += tables.lag[base + step]
        else:
            index = (-1 - other) * tables.copies + copy
            value = times.arrived[index]
            if value < 0:
                lanes.waiting[unit] = -2 - value if value < -1 else -1
                times.arrived[index] = -2 - unit
                break
        if value > latest:
            latest = value
        step += 1
    lanes.known[unit], lanes.scanned[unit] = latest, step
    return bool(step == last)


@machine_code
def scan_all(tables: Tables, times: Times, lanes: Lanes, unit: int, once: int) -> bool:
    """The same for a row that is there once and waits for every copy of others."""
    latest, step = lanes.known[unit], lanes.scanned[unit]
    base = tables.gather_first[once]
    last = (tables.gather_first[once + 1] - base) * tables.copies
    while step < last:
        index = tables.gather[base + step // tables.copies] * tables.copies + step % tables.copies
        value = times.ends[index]
        if value < 0:
            lanes.waiting[unit] = -2 - value if value < -1 else -1
            times.ends[index] = -2 - unit
            break
        if value > latest:
            latest = value
        step += 1
    lanes.known[unit], lanes.scanned[unit] = latest, step
    return bool(step == last)
