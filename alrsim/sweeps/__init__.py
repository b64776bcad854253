"""Many configurations: a grid or a sample, run in parallel, stored as they finish, and their Pareto front."""
