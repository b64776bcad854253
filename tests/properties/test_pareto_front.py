"""The Pareto front against its definition."""

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.sweeps.pareto import pareto_front

NUMBERS = st.integers(0, 4).map(float) | st.sampled_from([float("-inf"), 0.5])


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=14))
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float, float]]) -> None:
    def dominated(one: tuple[float, float, float]) -> bool:
        return any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in points)

    assert pareto_front(points) == [index for index, one in enumerate(points) if not dominated(one)]
