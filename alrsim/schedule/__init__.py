"""Schedules: an order without times; their checks, their files, and the pure evaluator of the times they imply."""
