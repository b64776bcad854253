"""How good the estimated gradients are: cosines, accuracy, stability, variance, noise dimensions, trajectories."""
