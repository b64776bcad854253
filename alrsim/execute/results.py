"""What a run computed, read off its store: whole, or of one unit and put together again."""

from alrsim.execute.job import Run
from alrsim.execute.session import Results
from alrsim.execute.sigma import sigma_gradients


def results_of(run: Run) -> Results:
    """Of a run whose store has seen every task."""
    values = run.store.values
    gradients = {name: value for key, total in values.items() if key[0] == "grad" for name, value in total.items()}
    buffers = {**run.buffers, **{str(key[1]): value for key, value in values.items() if key[0] == "stat"}}
    loss = run.job.loss_stage
    losses = {
        f"{loss}L{key[1]}" + (f".{key[2]}" if int(key[2]) >= 0 else ""): value
        for key, value in values.items()
        if key[0] == "loss"
    }
    return Results(gradients, buffers, run.updated, losses, sigma_gradients(run))
