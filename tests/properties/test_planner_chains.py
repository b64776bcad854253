"""Exact dynamic programmes of the planner against trying everything."""

from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.planner.placement import Chain, ChainPlan, best_chain, classes
from alrsim.planner.segments import Part, best_cuts

EXAMPLES = settings(derandomize=True, max_examples=60, deadline=None)


@st.composite
def chains(draw, most_units=3):
    pieces, units = draw(st.integers(1, 5)), draw(st.integers(1, most_units))
    number = st.integers(0, 6)
    kinds = draw(st.lists(st.lists(number, min_size=pieces, max_size=pieces), min_size=1, max_size=2))
    ticks = tuple(tuple(kinds[draw(st.integers(0, len(kinds) - 1))]) for _ in range(units))
    resident = tuple(draw(st.lists(number, min_size=pieces, max_size=pieces)))
    kept = tuple(draw(st.lists(number, min_size=pieces, max_size=pieces)))
    capacity = tuple(draw(st.sampled_from([None, 8, 20, 40])) for _ in range(units))
    slow = draw(st.frozensets(st.tuples(st.integers(0, units - 1), st.integers(0, units - 1)), max_size=2))
    missing = draw(st.frozensets(st.tuples(st.integers(0, units - 1), st.integers(0, units - 1)), max_size=1))

    def way(source, target, boundary):
        if (source, target) in missing:
            return None
        return (boundary % 3) * (4 if (source, target) in slow else 1)

    return Chain(ticks, resident, kept, capacity, way, draw(st.integers(1, 4)))


def carried_out(chain, starts, units):
    """A plan from its decisions; ``None`` if it does not fit, or needs a link that is not there."""
    ends = [*starts[1:], chain.pieces]
    slowest = total = 0
    for number, (first, end, unit) in enumerate(zip(starts, ends, units, strict=True)):
        way = chain.way(units[number - 1], unit, first) if number else 0
        if way is None or not chain.fits(unit, first, end, len(starts) - number):
            return None
        ticks = sum(chain.ticks[unit][first:end])
        slowest, total = max(slowest, ticks, way), total + ticks + way
    return ChainPlan(tuple(starts), tuple(units), slowest, total)


def brute_force_chain(chain, objective, order):
    """The cost of the best of all plans, ``None`` if none fits."""
    choices = combinations if order == "given" else permutations
    made = (
        carried_out(chain, (0, *rest), units)
        for stages in range(1, min(chain.pieces, chain.units) + 1)
        for rest in combinations(range(1, chain.pieces), stages - 1)
        for units in choices(range(chain.units), stages)
    )
    return min((plan.cost(objective, chain.microbatches) for plan in made if plan is not None), default=None)


@EXAMPLES
@given(chains(), st.sampled_from(["bottleneck", "step"]), st.sampled_from(["given", "any"]))
def test_the_placement_of_a_chain_is_as_good_as_the_best_of_all(chain, objective, order):
    found, best = best_chain(chain, objective, order), brute_force_chain(chain, objective, order)
    assert (found is None) == (best is None)
    if found is None or best is None:
        return
    assert found.cost(objective, chain.microbatches) == best
    assert carried_out(chain, found.starts, found.units) == found
    assert order == "any" or list(found.units) == sorted(found.units)


def test_a_stage_holds_as_many_micro_batches_as_there_are_stages_from_it_to_the_last():
    chain = Chain(((1, 1), (1, 1)), (0, 0), (10, 10), (20, 20), lambda *_: 0, 4)
    assert best_chain(chain).starts == (0, 1)
    tighter = Chain(((1, 1), (1, 1)), (0, 0), (10, 10), (19, 20), lambda *_: 0, 4)
    assert best_chain(tighter, order="given") is not None  # everything on the second unit
    assert best_chain(tighter, order="given").units == (1,)
    assert best_chain(tighter).units == (1, 0)  # the first stage holds two
    assert best_chain(Chain(((1, 1),), (0, 0), (10, 10), (19,), lambda *_: 0, 4)) is None


def test_units_that_can_be_exchanged_are_told_by_their_links_too():
    def way(source, target, boundary):
        return 5 if 2 in (source, target) else 1

    assert classes(Chain(((1, 1),) * 3, (0, 0), (0, 0), (None,) * 3, way, 1)) == [0, 0, 2]


@st.composite
def parts(draw):
    stages = draw(st.integers(1, 6))
    keys = [(a, b, False) for a in range(stages) for b in range(a, stages)]
    keys += [(a, stages - 1, True) for a in range(1, stages)]
    found = {}
    for key in keys:
        if draw(st.integers(0, 9)):  # one in ten is not allowed
            noise = 0 if key[2] else draw(st.integers(0, 8))
            places = 0 if key[2] else int(draw(st.integers(0, 5)) > 0)
            found[key] = Part(noise, draw(st.integers(0, 9)), draw(st.integers(0, 9)), key[2], places)
    return stages, found


def all_cuts(stages):
    """Every ``(starts, exact head)``."""
    for count in range(stages):
        for starts in combinations(range(1, stages), count):
            yield starts, False
            yield starts, True


def brute_force_cuts(parts, stages, units, limit, *, forward, shared):
    """``(time, noise)`` of the best of all sets of cuts, ``None`` if none is within the limit."""
    found = []
    for starts, exact in all_cuts(stages):
        firsts, ends = (0, *starts), (*starts, stages)
        keys = [(a, b - 1, exact and b == stages) for a, b in zip(firsts, ends, strict=True)]
        if not all(key in parts for key in keys):
            continue
        chosen = [parts[key] for key in keys]
        noisy, noise = sum(part.places for part in chosen), sum(part.noise for part in chosen)
        shared_out = -(-(shared + sum(part.work for part in chosen)) // units)
        if noisy and noisy * noise <= limit:
            found.append((max(shared_out, forward + max(part.path for part in chosen)), noisy * noise))
    return min(found, default=None)


@EXAMPLES
@given(parts(), st.integers(1, 4), st.integers(0, 60), st.integers(0, 5), st.integers(0, 9))
def test_the_cuts_are_as_good_as_the_best_of_all(problem, units, limit, forward, shared):
    stages, found = problem
    arguments = (found, stages, units, float(limit))
    one = best_cuts(*arguments, forward=forward, shared=shared)
    best = brute_force_cuts(*arguments, forward=forward, shared=shared)
    assert (one is None) == (best is None)
    if one is not None and best is not None:
        assert (one.time, one.noise) == best


def test_all_cuts_of_k_stages_are_two_to_the_k():
    assert [len(list(all_cuts(count))) for count in range(1, 6)] == [2, 4, 8, 16, 32]
