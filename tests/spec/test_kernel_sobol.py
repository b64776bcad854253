"""Sobol points against torch's engine: the same directions, order and scramble, for the bits that copies need."""

import pytest
import torch

from alrsim.estimators.kernels.sobol import BITS, direction_numbers, points, scramble, scrambled, sequence

ELEMENTS = 37


def test_without_a_scramble_points_are_those_of_torch():
    engine = torch.quasirandom.SobolEngine(ELEMENTS)
    expected = engine.draw(300, dtype=torch.float64) * 2.0**BITS
    found = sequence(direction_numbers(ELEMENTS), torch.zeros(ELEMENTS, dtype=torch.int64), range(300))
    assert torch.equal(found.double(), expected)


@pytest.mark.parametrize("count", [1, 4, 9, 30])
def test_the_scramble_is_a_lower_triangular_matrix_as_in_torch(count):
    _, lower = scramble(5, count, ELEMENTS)
    assert bool((lower >> BITS - 1 - torch.arange(count)[:, None] == 1).all()), "a one on the diagonal, zeros above"
    matrices = torch.zeros(ELEMENTS, BITS, BITS, dtype=torch.int64)
    for column in range(count):
        bits = lower[column][:, None] >> torch.arange(BITS - 1, -1, -1) & 1
        matrices[:, :, column] = bits
    expected = torch.quasirandom.SobolEngine(ELEMENTS).sobolstate.clone()
    torch._sobol_engine_scramble_(expected, matrices, ELEMENTS)
    found = scrambled(direction_numbers(ELEMENTS), lower)
    assert torch.equal(found, expected.T[:count])


@pytest.mark.parametrize("start", [0, 1, 2, 3, 64, 100, 1023])
def test_a_sequence_can_begin_anywhere(start):
    columns, shift = direction_numbers(ELEMENTS), scramble(1, 0, ELEMENTS)[0]
    whole = sequence(columns, shift, range(1100))
    assert torch.equal(sequence(columns, shift, range(start, start + 50)), whole[start : start + 50])


def test_more_copies_leave_the_first_ones_as_they_are_and_seeds_are_independent():
    few = torch.cat(list(points(9, range(5), ELEMENTS)))
    many = torch.cat(list(points(9, range(400), ELEMENTS)))
    assert torch.equal(few, many[:5])
    other = torch.cat(list(points(10, range(400), ELEMENTS)))
    correlation = torch.corrcoef(torch.stack([many[0], other[0]]))[0, 1]
    assert abs(float(correlation)) < 5 / ELEMENTS**0.5
    assert not torch.equal(many, other)
    assert list(points(9, range(3, 3), ELEMENTS)) == []
