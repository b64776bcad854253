"""How far the clocks of two processes are apart, from messages that went there and back.

The offset of a round is the remote time minus the middle of departure and return; it is wrong by at most half the round
trip, so the round with the shortest trip decides (F. Cristian: Probabilistic clock synchronization, Distributed
Computing 3, 1989).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from alrsim.units import Ns


@dataclass(frozen=True, slots=True)
class Offset:
    """Of a remote clock.

    Attributes:
        ns: Remote time minus local time.
        residual_ns: Largest possible error of ``ns``.
    """

    ns: Ns
    residual_ns: Ns


def clock_offset(rounds: Sequence[tuple[Ns, Ns, Ns]]) -> Offset:
    """The offset from rounds of (departure, remote time, return); departure and return by the local clock."""
    departure, remote, back = min(rounds, key=lambda one: one[2] - one[0])
    return Offset(remote - (departure + back) // 2, -(-(back - departure) // 2))
