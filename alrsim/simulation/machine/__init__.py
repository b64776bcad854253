"""The fast engine's loops in machine code. Only these modules import numba, and only when the engine runs."""
