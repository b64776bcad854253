"""What model verbs do the same way: load with a progress bar and pass on every warning."""

import typer

from alrsim.cli.model import LoadedModel, ModelRequest, load
from alrsim.cli.output import progress, warn


def typed_options(context: typer.Context) -> frozenset[str]:
    """Names of the parameters that stood on the command line."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in found.items() if source is not None and source.name == "COMMANDLINE")


def load_with_warnings(asked: ModelRequest) -> LoadedModel:
    """Load a model; what the import did not fully understand goes to stderr, in full."""
    with progress(1, "load") as step:
        step(asked.text)
        loaded = load(asked)
    for warning in loaded.graph.warnings:
        warn(f"{loaded.name}: {warning}")
    return loaded
