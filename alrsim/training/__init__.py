"""Training: the gradients of scheduled or sequential steps, fed to torch optimizers."""
