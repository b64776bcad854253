"""Every method that can train, by name, without loading any."""

from collections.abc import Mapping
from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS

_TASKS = "alrsim.training.learner:by_tasks"
PLANNED = ("plan", "auto")
"""Methods whose estimators the job holds: as given, or as measured at the start."""


@dataclass(frozen=True)
class LearnerEntry:
    """How a method learns.

    Attributes:
        make: Import path of a :data:`alrsim.training.learner.Maker`; it may stand above this package.
        cut: Where stages end by default. ``block``: the method trains what leaves the activation.
        noisy: Whether it has noise and copies.
    """

    make: str = _TASKS
    cut: str = "layer"
    noisy: bool = True


LEARNERS: Mapping[str, LearnerEntry] = {
    "bp": LearnerEntry(noisy=False),
    **{name: LearnerEntry() for name in (*PRESETS, "segments", *PLANNED) if name != "bp"},
    "fa": LearnerEntry("alrsim.experiments.local_learners:fa", "block", noisy=False),
    "fa-sequential": LearnerEntry("alrsim.experiments.local_learners:fa_sequential", noisy=False),
    "hsic": LearnerEntry("alrsim.experiments.local_learners:hsic", "block", noisy=False),
}

OWN = ("auto", "fa", "fa-sequential", "hsic")
"""Those that are no method of a scheduled step."""


def learner_entry(method: str) -> LearnerEntry:
    """How a method learns; estimators that somebody registered learn as the built-in ones.

    Raises:
        OptionError: there is no such method.
    """
    if method in LEARNERS:
        return LEARNERS[method]
    if method in PRESETS:
        return LearnerEntry()
    raise OptionError(f"there is no method {method!r}", field="method", fix=f"one of {', '.join(LEARNERS)}")
