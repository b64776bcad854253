"""The GPU's noise gives the bits of the compiled loops; run in Triton's interpreter, on CPU tensors."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: its noise is not checked")

PROGRAM = """
import torch
from alrsim.estimators.kernels import philox, triton_noise
from alrsim.estimators.kernels.noise_key import PhiloxKey

key = PhiloxKey(seed=11 + (7 << 32), step=3, stage=200, value=5)
generator = torch.Generator().manual_seed(0)
for kind in ("rademacher", "gauss"):
    for elements in (5, 700):
        weights = torch.randn(2, 2, generator=generator)
        start = torch.randn(2, elements, generator=generator)
        args = (weights, key, range(2, 4), range(5, 7), kind)
        ours = philox.accumulate_noise(start.clone(), *args)
        theirs = triton_noise.accumulate_noise(start.clone(), *args)
        assert torch.equal(ours, theirs), (kind, elements, (ours - theirs).abs().max())
        for copies in (1, 2):
            values = torch.randn(copies, 2, elements, generator=generator)
            args = (values, 0.25, key, range(2, 4), range(5, 7), kind)
            ours, theirs = philox.perturbed(*args), triton_noise.perturbed(*args)
            assert torch.equal(ours, theirs), (kind, elements, copies, (ours - theirs).abs().max())
print("equal")
"""


def test_the_interpreter_gives_the_bits_of_the_compiled_loops():
    """In a process of its own: the interpreter must be chosen before Triton is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "equal"
