"""How a gradient is computed from noise and loss: pure functions on tensors, on any unit, in any order."""
