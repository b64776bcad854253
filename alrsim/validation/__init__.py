"""How far predictions are off: a grid of cells predicted, then measured, then scored; recorded runs, replayed."""
