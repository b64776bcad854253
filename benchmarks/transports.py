"""``python -m benchmarks transports``: what it takes to hand a message to a unit that waits for it.

References between threads, shared memory between processes (copied by the sender, read in place) and gloo between ranks
over loopback, in one run. Arrival is from the start of the send to the data being usable at the receiver.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from alrsim.execution.measuring.timelines import device_name
from alrsim.units import format_bytes
from alrsim.writing import write_atomically
from benchmarks.ranks import on_two_ranks


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transports", description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    found = on_two_ranks("benchmarks.transport_ranks", [str(options.repeats)])
    print(f"{device_name()}, medians of {options.repeats} messages", "", *lines_of(found), sep="\n")
    if options.json is not None:
        write_atomically(options.json, (json.dumps(found, indent=1) + "\n").encode())


def lines_of(found: dict[str, dict[str, list[tuple[int, int]]]]) -> list[str]:
    """Per size the sender's and the receiver's time with each transport, bandwidth, and gloo over shared memory."""
    names = ("references", "shared memory", "gloo")
    head = " | ".join(f"{name}: sender us | arrives us | GB/s" for name in names)
    lines = [f"| size | {head} | gloo / shared memory |", "|--:|" + "--:|" * (3 * len(names) + 1)]
    for size in found["gloo"]:
        cells, arrivals = [], {}
        for name in names:
            send, arrive = (median(pair[part] for pair in found[name][size]) for part in range(2))
            arrivals[name] = arrive
            rate = f"{int(size) / max(1, arrive):.2f}" if name != "references" else "-"
            cells.append(f"{send / 1e3:.1f} | {arrive / 1e3:.1f} | {rate}")
        ratio = arrivals["gloo"] / max(1, arrivals["shared memory"])
        lines.append(f"| {format_bytes(int(size))} | {' | '.join(cells)} | {ratio:.1f}x |")
    return lines
