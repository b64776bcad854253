"""``alrsim::inject``: the identity that marks a value inside a stage as a place for noise.

A recurrent cell that is run over time is one stage, because all of its steps share parameters. Noise on what leaves the
stage leaves the recursion to backpropagation through time; noise on the marked states cuts it.
"""

import torch
from torch import Tensor

INJECT = "alrsim::inject"
"""The operator's qualified name; in an operator graph it is an ``Inject`` of the domain ``alrsim``."""


@torch.library.custom_op(INJECT, mutates_args=())
def inject(value: Tensor) -> Tensor:
    """A copy of ``value`` (a custom operator must not return its input); its gradient is passed on as it is."""
    return value.clone()


inject.register_fake(torch.empty_like)
inject.register_autograd(lambda _context, gradient: gradient)
