"""Predicted against measured: a grid of cells that is predicted first, measured, scored and recorded."""
