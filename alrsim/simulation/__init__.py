"""Predict: a discrete-event simulation (SimPy) of a schedule on a machine; textbook problems."""
