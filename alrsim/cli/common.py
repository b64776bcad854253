"""What model verbs do the same way: load with a progress bar and pass on every warning."""

from alrsim.cli.model import LoadedModel, ModelRequest, load
from alrsim.cli.output import progress, warn


def load_with_warnings(asked: ModelRequest) -> LoadedModel:
    """Load a model; what the import did not fully understand goes to stderr, in full."""
    with progress(1, "load") as step:
        step(asked.text)
        loaded = load(asked)
    for warning in loaded.graph.warnings:
        warn(f"{loaded.name}: {warning}")
    return loaded
