"""The table of durations as it is typed: exact rationals, defaults, and what is refused."""

from fractions import Fraction

import pytest

from alrsim.errors import OptionError
from alrsim.steps.textbook import parse_durations


def test_typed_durations_are_exact_and_filled_in() -> None:
    found = parse_durations("f=2, b=3,w=1/3,u=0,transfer=0.25")
    third = Fraction(1, 3)
    assert found == {"f": 2, "b": 3, "w": third, "u": 0, "l": 0, "g": third, "c": 0, "transfer": Fraction(1, 4)}
    assert parse_durations("f=1,w=2,g=5")["g"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not of the form KEY=VALUE"),
        ("f=1,", "'' is not of the form KEY=VALUE"),
        ("f", "'f' is not of the form KEY=VALUE"),
        ("b=1", "needs at least f"),
        ("f=1,q=2", "'q'"),
        ("F=1", "'F'"),
        ("f=1,f=2", "'f' is given twice"),
        ("f=-1", "is negative"),
        ("f=nan", "'nan' is not a number"),
        ("f=inf", "'inf' is not a number"),
        ("f=1/0", "'1/0' is not a number"),
        ("f=", "is not of the form KEY=VALUE"),
        ("f=one", "'one' is not a number"),
    ],
)
def test_bad_durations_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_durations(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("durations")
