"""From a model to a scheduled step: the one place where export, cut, stages, rule, prices and schedule are chained."""
