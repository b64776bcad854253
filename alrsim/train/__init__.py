"""Training: the gradients of scheduled or sequential steps, fed to torch optimizers."""

from alrsim.train.job import TrainJob
from alrsim.train.learner import LEARNERS, Learner
from alrsim.train.loop import Progress, TrainState, initial_state, train
from alrsim.train.setup import Training, open_training

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
