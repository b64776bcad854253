"""Graphs as networkx: the examples of their docstrings, and the longest chain of a textbook step."""

import doctest

import networkx
import pytest

from alrsim.graph import graph
from alrsim.tasks import taskgraph


@pytest.mark.parametrize("module", [graph, taskgraph])
def test_the_examples_of_the_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_a_step_of_backprop_is_a_chain_down_and_up_again(textbook):
    problem = textbook(3, 3, 2, "bp", f=1, b=2, w=1, loss=True)
    steps = problem.tasks.to_networkx()
    assert networkx.is_directed_acyclic_graph(steps)
    assert networkx.dag_longest_path(steps) in (
        [f"0F{m}", f"1F{m}", f"2F{m}", f"3L{m}", f"2B{m}", f"1B{m}", f"0B{m}"] for m in (0, 1)
    )
