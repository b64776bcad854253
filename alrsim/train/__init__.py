"""Training: the gradients of scheduled or sequential steps, fed to torch optimizers."""

from alrsim.train.job import TrainJob
from alrsim.train.learner import LEARNERS, Learner
from alrsim.train.loop import Progress, initial_state, train
from alrsim.train.setup import Training, open_training
from alrsim.train.state import TrainState

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
