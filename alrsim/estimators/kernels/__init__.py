"""Fast kernels of the gradient: noise that is never stored, and the weighted product of input codes and noise."""
