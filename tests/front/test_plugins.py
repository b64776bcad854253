"""Own schedulers, rules, cost models, estimators, models and machines: registered by decorator, used by name."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import alrsim as al
from alrsim import registry
from alrsim.errors import OptionError
from alrsim.registry import REGISTRIES, load_file, registry_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_scheduler"
TEXTBOOK: dict[str, Any] = {"f": 1, "b": 1, "w": 1, "units": 4, "microbatches": 8}


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    yield
    for one in REGISTRIES.values():
        for name in one.plugged:
            dict.__delitem__(one, name)
    registry.FILES.clear()


def gpipe_again(problem: al.Problem) -> al.Schedule:
    from alrsim.schedulers.pipelines import gpipe

    return gpipe(problem)


def test_a_scheduler_is_a_method_from_then_on() -> None:
    al.scheduler("mine", rules=("bp",))(gpipe_again)
    mine, known = al.textbook("bp:mine", **TEXTBOOK), al.textbook("bp:gpipe", **TEXTBOOK)
    assert mine.makespan == known.makespan
    with pytest.raises(OptionError, match="takes rule bp, not lr"):
        al.textbook("lr:mine", **TEXTBOOK)


def test_decorating_again_replaces_and_a_builtin_name_is_refused() -> None:
    al.scheduler("mine", rules=("bp",))(gpipe_again)

    @al.scheduler("mine", rules=("bp",))
    def serial_again(problem: al.Problem) -> al.Schedule:
        from alrsim.schedulers.pipelines import serial

        return serial(problem)

    assert al.textbook("bp:mine", **TEXTBOOK).makespan == al.textbook("bp:serial", **TEXTBOOK).makespan
    with pytest.raises(OptionError, match="'gpipe' is a built-in scheduler"):
        al.scheduler("gpipe")(gpipe_again)


@pytest.mark.parametrize(
    ("decorator", "wrong"),
    [
        (al.scheduler, lambda: None),
        (al.rule, lambda graph: None),
        (al.cost_model, lambda task, unit: 1),
        (al.estimator, lambda: None),
        (al.executor, lambda jobs: None),
        (al.model, lambda needed: None),
        (al.machine, lambda: None),
    ],
)
def test_a_function_that_does_not_fit_is_refused_when_it_is_registered(decorator: Any, wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"does not fit as a .*: .*\n.*called with \("):
        decorator("mine")(wrong)
    with pytest.raises(OptionError, match=r"'My own' is no name of a"):
        decorator("My own")(lambda *values, **more: None)


def test_an_unknown_rule_of_a_scheduler_is_refused() -> None:
    with pytest.raises(OptionError, match="there is no rule 'pb'"):
        al.scheduler("mine", rules=("pb",))


def test_a_rule_a_cost_model_an_estimator_a_model_and_a_machine() -> None:
    from alrsim.estimators.policy import LR
    from alrsim.rules import bp

    al.rule("bp-again", like="bp")(lambda stages, options: bp(stages, options))
    al.cost_model("flat")(lambda task, unit, precision: 1000)
    al.estimator("lr-again")(lambda stages: LR)

    @al.model("tiny")
    def tiny() -> Any:
        from torch import nn, ones

        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), ones(2, 4)

    @al.machine("bench")
    def bench(units: int | None) -> al.Machine:
        return al.Machine.of(
            al.UnitSpec("core", peak={"fp32": 1e12}, bandwidth="1 GB/s"),
            count=units or 2,
            link=al.LinkSpec(bandwidth="1 GB/s"),
        )

    result = al.compare("tiny", "bench", methods=["bp:1f1b", "bp-again:1f1b"], batch=8, microbatches=4)
    assert result[0].makespan == result[1].makespan
    assert al.load_machine("bench", units=3).name == "core"
    flat = al.step("tiny", "bench", "bp:gpipe", batch=8, microbatches=2, cost="flat")
    assert {row for rows in flat.problem.durations for row in rows} == {1000}
    noisy = al.compare("tiny", "bench", methods=["lr:lr-fixed", "lr-again:lr-fixed"], batch=8, microbatches=2)
    assert noisy[0].makespan == noisy[1].makespan


def test_a_file_is_a_plug_in_and_other_processes_learn_of_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import alrsim as al\n"
        "from alrsim.schedulers.pipelines import gpipe\n"
        "@al.scheduler('from-file', rules=('bp',))\n"
        "def mine(problem):\n    return gpipe(problem)\n"
    )
    load_file(file)
    assert "from-file" in registry_of("scheduler")
    grid = {"method": ["bp:from-file", "bp:gpipe"], "units": [1, 2]}
    result = al.sweep("compare", grid, {"model": "mlp", "hardware": "h100"}, workers=2)
    assert result.failed == 0
    rows = result.results
    found = {(one.configuration["method"], one.configuration["units"]): one.outcome["makespan"] for one in rows}
    assert found["bp:from-file", 2] == found["bp:gpipe", 2]


def test_a_file_that_fails_says_so(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    with pytest.raises(OptionError, match="ZeroDivisionError"):
        load_file(file)
    with pytest.raises(OptionError, match="is no Python file"):
        load_file(tmp_path / "none.py")


def test_the_example_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """Installed into a folder of its own, never into the environment under test."""
    folder = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*install, "--target", str(folder), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import alrsim as al\n"
        "print(al.textbook('bp:reverse', f=1, b=1, w=1, units=4, microbatches=8).makespan)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["33"]
