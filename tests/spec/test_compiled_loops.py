"""Machine code on disk is that of the sources that are there."""

from pathlib import Path

import pytest

from alrsim import compiled


def test_machine_code_of_other_sources_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "loop.nbi"
    index.touch()
    compiled.forget_stale(tmp_path)
    assert not index.exists(), "nobody knows which sources it is of"
    index.touch()
    compiled.forget_stale(tmp_path)
    assert index.exists()
    monkeypatch.setattr(compiled, "sources", lambda: "changed")
    compiled.forget_stale(tmp_path)
    assert not index.exists()


def test_a_loop_that_was_compiled_is_known_to_the_next_process(tmp_path: Path) -> None:
    loop = compiled.machine_code(_loop)
    assert loop(3) == 6
    folder = Path(loop.stats.cache_path)  # type: ignore[attr-defined]
    assert (folder / "alrsim.sources").read_text() == compiled.sources()
    again = compiled.machine_code(_loop)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def _loop(count: int) -> int:
    total = 0
    for index in range(count + 1):
        total += index
    return total
