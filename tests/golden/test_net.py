"""Every verb says what it said before the redesign: facts of net.json, see net.py."""

import pytest
from net import CASES, Facts, Net, differences, load

_SHOWN = 20


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    """One folder of made files for all cases."""
    return Net(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def golden() -> dict[str, Facts]:
    """What net.json holds."""
    return load()


def test_every_stored_case_is_run(golden: dict[str, Facts]) -> None:
    assert set(golden) == set(CASES)


@pytest.mark.parametrize("name", list(CASES))
def test_a_verb_says_what_it_said(name: str, net: Net, golden: dict[str, Facts]) -> None:
    wrong = differences(name, golden[name], net.facts(name))
    more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    assert not wrong, f"alrsim {CASES[name]}\n" + "\n".join(wrong[:_SHOWN]) + more


def test_the_net_has_no_holes(golden: dict[str, Facts]) -> None:
    """A reduction that drops everything holds nothing: every case keeps facts, and numbers among them."""
    for name, facts in golden.items():
        assert any(isinstance(value, int | float) for value in facts.values()), name
