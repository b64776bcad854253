"""The balanced cut is optimal: against every possible cut of small chains."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.cost.runs import even_runs

SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=9)


def runs(sizes: list[int], starts: list[int]) -> list[int]:
    ends = [*starts[1:], len(sizes)]
    return [sum(sizes[start:end]) for start, end in zip(starts, ends, strict=True)]


def slowest(sizes: list[int], starts: list[int]) -> int:
    return max(runs(sizes, starts))


def unevenness(sizes: list[int], starts: list[int]) -> int:
    return sum(run * run for run in runs(sizes, starts))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(SIZES, st.data())
def test_no_cut_into_as_many_stages_has_a_faster_slowest_stage(sizes, data):
    parts = data.draw(st.integers(1, len(sizes)))
    starts = even_runs([sizes] * parts, empty=False)
    assert len(starts) == parts
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    every = [[0, *inner] for inner in combinations(range(1, len(sizes)), parts - 1)]
    best = min(slowest(sizes, cut) for cut in every)
    assert slowest(sizes, starts) == best
    assert unevenness(sizes, starts) == min(unevenness(sizes, cut) for cut in every if slowest(sizes, cut) == best)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(SIZES)
def test_more_stages_never_make_the_slowest_slower(sizes):
    times = [slowest(sizes, even_runs([sizes] * parts, empty=False)) for parts in range(1, len(sizes) + 1)]
    assert times == sorted(times, reverse=True)
    assert times[-1] == max(sizes)
