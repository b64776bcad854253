"""Hostile input that was found once: a command line, and the words that refuse it."""

import pytest

from alrsim.cli.main import run

FOUND = [
    ("trajectory --runs 1000000000000", "--runs: 1,000,000,000,000 runs of 3,000 steps are more than 30,000,000"),
    ("trajectory --copies 1000000000000", "--copies: this host has not enough memory for that"),
    ("trajectory --sigma 1e30", "--sigma: is 1e+30, must be between 1e-12 and 1e12"),
    ("gradcheck mlp --sigma 1e-300", "--sigma: is 1e-300, must be between 1e-12 and 1e12"),
    ("execute mlp --batch 1000000000000 --method bp:1f1b --units 2", "--batch: this host has not enough memory"),
    ("train mlp --batch 1000000000000 --steps 2", "--batch: this host has not enough memory"),
    ("calibrate mlp --batch 64 -o p.yaml", "--batch: what is measured are micro-batches of 4, 8, 16 samples"),
    ("plan mlp --hardware h100 --units 1000000", "--units: is 1,000,000; at most 1,024 are planned for"),
    ("simulate mlp --method bp:1f1b --units 2 --chunks 3", "--chunks: is for interleaved-1f1b and zb-v"),
    ("compare mlp --units 2 --segments 1", "--segments: is for method segments:..."),
]


@pytest.mark.parametrize(("words", "message"), FOUND, ids=[words for words, _ in FOUND])
def test_what_was_found_is_refused_in_words(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 1
    assert message in capsys.readouterr().err
