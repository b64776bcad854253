"""The public verbs of a step: compare, step, simulate, execute, calibrate, explain, and the paper's Figure 2."""
