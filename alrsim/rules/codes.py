"""How a stage's input is kept for its LR gradient: as a code, or as it is."""

from collections.abc import Sequence

from alrsim.graph.stages import MODEL_INPUT, Edge
from alrsim.hardware.precision import Precision
from alrsim.rules.options import RuleOptions


def is_coded(options: RuleOptions, incoming: Sequence[Edge]) -> bool:
    """Whether a stage's input is kept as a code, in ``precision.saved``.

    A threshold or scaled-sign code leaves a stage that reads the model's own input alone as it is: that input carries
    no noise, so it is one tensor for all copies (of a linear map behind other operators, their result for one copy).

    Args:
        incoming: Edges that the stage reads.
    """
    if options.input_code in ("threshold", "sign-scaled") and all(edge.source == MODEL_INPUT for edge in incoming):
        return False
    return options.input_code != "plain" or options.precision.saved is not options.precision.activations


def code_bits(options: RuleOptions, *, unsigned: bool) -> int:
    """Bits of one element of a code: a packed threshold code of values with signs has three levels and takes two."""
    saved = options.precision.saved
    if options.input_code == "threshold" and saved is Precision.SIGN1 and not unsigned:
        return 2
    return saved.bits
