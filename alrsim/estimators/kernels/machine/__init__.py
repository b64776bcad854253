"""Loops in machine code. Only these modules import numba, and only when a kernel is called."""
