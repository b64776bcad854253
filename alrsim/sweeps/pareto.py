"""The Pareto front: what no other result beats in one respect without being worse in another."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby


def pareto_front(points: Sequence[tuple[float, float, float]]) -> list[int]:
    """Indices of the points that no other dominates, ascending. Every number is to be small.

    A point dominates another if it is nowhere larger and somewhere smaller; equal points do not dominate each other.
    O(n log n) comparisons and at most n moves in lists: points come by their first number, and a staircase keeps the
    best third number so far by the second.
    """
    order = sorted(range(len(points)), key=lambda index: points[index])
    seconds: list[float] = []  # ascending; the thirds fall
    thirds: list[float] = []
    front: list[int] = []
    for (_, second, third), equal in groupby(order, key=lambda index: points[index]):
        at = bisect_right(seconds, second)
        if not at or thirds[at - 1] > third:
            front += equal
            if at and seconds[at - 1] == second:
                at -= 1
            last = at
            while last < len(thirds) and thirds[last] >= third:
                last += 1
            seconds[at:last], thirds[at:last] = [second], [third]
    return sorted(front)
