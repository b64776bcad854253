"""``validate``: the verb."""

from typing import TYPE_CHECKING

from alrsim.validation.options import ValidateOptions
from alrsim.verbs import verb

if TYPE_CHECKING:
    from alrsim.validation.result import ValidateResult


@verb(ValidateOptions)
def validate(*, asked: ValidateOptions) -> "ValidateResult":
    """Predict a grid of training steps, run them for real, and score the predictions.

    Per model: costs are measured on other steps, all predictions are written down, then the steps run in turn. The
    journal holds every prediction and every measured step as it is made: interrupt it, and the same call goes on.

    Raises:
        OptionError: a cell that does not exist, or an executor that this host cannot run.
        AlrsimError: a cell cannot be built or run; what was done before is in the journal.
    """
    from alrsim.validation.validating import validated

    return validated(asked)
