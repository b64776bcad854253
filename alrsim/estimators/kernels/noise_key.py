"""Which noise: the names of a draw that the counter of :mod:`alrsim.estimators.kernels.philox` is made of."""

from typing import NamedTuple

import numpy as np

from alrsim.errors import OptionError

_MASK = (1 << 32) - 1


class PhiloxKey(NamedTuple):
    """Which noise.

    Attributes:
        seed: The run's seed.
        step: Optimisation step.
        stage: Stage on whose output the noise is added.
        value: Position of the value among the stage's outputs, below 256.
    """

    seed: int
    step: int = 0
    stage: int = 0
    value: int = 0

    @property
    def words(self) -> tuple[int, int]:
        """The generator's key."""
        return (self.seed ^ self.seed >> 32) & _MASK, self.step & _MASK

    def sample_seed(self, sample: int) -> int:
        """A seed of 62 bits for a generator that has no counter."""
        from alrsim.estimators.kernels.machine.philox import draw

        out = np.empty((4, 1), dtype=np.uint32)
        draw(self.words, (sample, _MASK, self.lane), 0, 1, out)
        return int(out[0, 0]) << 30 ^ int(out[1, 0])

    @property
    def lane(self) -> int:
        """The counter's last word.

        Raises:
            OptionError: more stages or values than the counter can name.
        """
        if not (0 <= self.value < 256 and 0 <= self.stage < 1 << 24):
            raise OptionError(
                f"noise on value {self.value} of stage {self.stage} has no counter of its own",
                where="noise",
                fix="use a coarser cut: at most 256 values per stage and 16.7 million stages",
            )
        return self.stage << 8 | self.value
