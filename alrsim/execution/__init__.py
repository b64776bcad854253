"""Run a schedule for real: the same tasks, in the same lanes, on one torch worker thread per unit."""
