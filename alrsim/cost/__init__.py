"""What operators and stages cost, how a model is cut into stages, and how long a task takes on a unit."""
