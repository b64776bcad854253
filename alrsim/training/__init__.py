"""Training: the gradients of scheduled or sequential steps, fed to torch optimizers."""

from alrsim.training.job import TrainJob
from alrsim.training.learner import LEARNERS, Learner
from alrsim.training.loop import Progress, initial_state, train
from alrsim.training.setup import Training, open_training
from alrsim.training.state import TrainState

__all__ = [
    "LEARNERS",
    "Learner",
    "Progress",
    "TrainJob",
    "TrainState",
    "Training",
    "initial_state",
    "open_training",
    "train",
]
