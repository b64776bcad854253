"""Recurrent operators (``LSTM``, ``GRU``, ``RNN``) over T steps, batch B, I inputs, H units, G gates.

Forward, per direction: ``T B G H (I + H)`` MACs. The gradient first runs back through time: ``(T-1) B G H H`` MACs
for the hidden state (the initial state's own gradient is one step more, and only if it is wanted), element-wise work
for the gates. Then input and recurrent weights cost as much as their forward products. PyTorch's counter agrees.
"""

from math import prod

from alrsim.cost.parts import CostFunction, OpView, Parts
from alrsim.graph.work import Work

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FORWARD_PER_UNIT = {"LSTM": 4 * 4 + 5, "GRU": 3 * 4 + 5, "RNN": 1}
"""FLOPs per hidden unit and step besides bias: activations (sigmoid 4, tanh 1, counted 4 each) and state update."""
_BACKWARD_PER_UNIT = {"LSTM": 4 * 3 + 8, "GRU": 3 * 3 + 8, "RNN": 3}
_CELL_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


def recurrent(view: OpView) -> Parts:
    """Inputs X, W, R, B, lengths, initial h, initial c; ``layout`` 0 is time first."""
    gates = _GATES[view.op.kind]
    steps, batch, width = view.shape(0)
    if view.number("layout", 0):
        steps, batch = batch, steps
    directions, rows, _ = view.shape(1)
    hidden = rows // gates
    points = directions * steps * batch * hidden
    inward, across = points * gates * width, points * gates * hidden
    bias = 2 * gates * points if view.has(3) else 0
    forward = view.forward(
        macs=inward + across, elementwise=points * _FORWARD_PER_UNIT[view.op.kind] + bias, launches=steps * directions
    )
    data, gate_gradient = view.op.inputs[0], points * gates
    recursion = Work(
        macs=across - across // steps,
        elementwise=points * _BACKWARD_PER_UNIT[view.op.kind],
        param_reads=view.size(2),
        activation_reads=view.out_size + gate_gradient,
        activation_writes=gate_gradient,
        launches=steps * directions,
        products=(steps - 1) * directions,
    )
    outputs = tuple(filter(None, view.op.outputs[:1]))
    gradients = {
        0: view.gradient(0, macs=inward, saves=(view.op.inputs[1],)),
        1: view.gradient(1, macs=inward, saves=(data,)),
        2: view.gradient(2, macs=across, saves=outputs),
    }
    if view.has(3):
        gradients[3] = view.gradient(3, elementwise=gate_gradient)
    if view.has(5):
        gradients[5] = view.gradient(5, macs=across // steps, saves=(view.op.inputs[2],))
    if view.has(6):
        gradients[6] = view.gradient(6, elementwise=prod(view.shape(6)))
    kept = points * (gates + _CELL_STATES[view.op.kind] - 1)
    return Parts(forward, gradients, interior=recursion, interior_saves=(view.op.inputs[2],), kept=kept)


RECURRENT: dict[str, CostFunction] = dict.fromkeys(_GATES, recurrent)
