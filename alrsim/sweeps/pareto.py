"""The Pareto front: what no other result beats in one respect without being worse in another."""

from bisect import bisect_right
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float, float]]) -> list[int]:
    """Indices of the points that no other dominates, ascending. Every number is to be small.

    A point dominates another if it is nowhere larger and somewhere smaller; equal points do not dominate each other.
    O(n log n) comparisons and at most n moves in lists: points come by their first number, and a staircase keeps the
    best third number so far by the second.
    """
    order = sorted(range(len(points)), key=lambda index: points[index])
    seconds: list[float] = []  # ascending; the thirds fall
    thirds: list[float] = []
    front = []
    place = 0
    while place < len(order):
        end = place
        while end < len(order) and points[order[end]] == points[order[place]]:
            end += 1
        _, second, third = points[order[place]]
        at = bisect_right(seconds, second)
        if not at or thirds[at - 1] > third:
            front += order[place:end]
            if at and seconds[at - 1] == second:
                at -= 1
            last = at
            while last < len(thirds) and thirds[last] >= third:
                last += 1
            seconds[at:last], thirds[at:last] = [second], [third]
        place = end
    return sorted(front)
