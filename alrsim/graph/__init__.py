"""The model as values: operators, the graph that proves its own order, and the stages that it is cut into."""
