"""Simulate, schedule and measure backpropagation and likelihood-ratio training pipelines."""

__version__ = "0.1.0"
