"""A stage as a torch program: the exported graph cut like the operator graph, with noise and local gradients."""
