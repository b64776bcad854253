"""``--estimators``: estimators per stage from a file; and options that a method would not read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alrsim.errors import FileError
from alrsim.estimators.policy import LR, Plan
from alrsim.files import save_value
from alrsim.steps.estimators_file import read_estimators

MLP = ("mlp", "--option", "hidden=8", "--batch", 8, "--microbatches", 2, "--units", 2)


def saved(path: Path, plan: Plan) -> Path:
    save_value("plan", plan, path)
    return path


def layerwise(*copies: int) -> Plan:
    return tuple(replace(LR, scope="layerwise", copies=count) for count in copies)


def test_a_plan_gives_every_stage_its_own_copies_and_the_schedule_remembers(alrsim: Any, tmp_path: Path) -> None:
    plan = saved(tmp_path / "plan.json", layerwise(6, 2, 4))
    target = tmp_path / "schedule.json"
    ran = alrsim("schedule", *MLP, "--method", "lr:lr-fixed", "--estimators", plan, "-o", target)
    assert ran.status == 0, ran.err
    recipe = json.loads(target.read_text())["recipe"]
    options = recipe.get("value", recipe)["options"]
    assert options["stage_copies"] == [6, 2, 4]
    assert options["scope"] == "layerwise"
    by_file = alrsim("simulate", target, *MLP[:5], "--json", "-")
    by_plan = alrsim("simulate", *MLP, "--method", "lr:lr-fixed", "--estimators", plan, "--json", "-")
    assert by_file.status == by_plan.status == 0, by_file.err + by_plan.err
    assert json.loads(by_file.out)["schedule"] == json.loads(by_plan.out)["schedule"]


def test_a_plan_changes_the_work_of_lr_alone(alrsim: Any, tmp_path: Path) -> None:
    plan = saved(tmp_path / "plan.json", (replace(LR, kind="es", copies=5), *[replace(LR, copies=5)] * 2))
    methods = ("--methods", "bp:1f1b,lr:lr-fixed,alr:lr-free")
    with_plan = json.loads(alrsim("compare", *MLP, *methods, "--estimators", plan, "--json", "-").out)["methods"]
    without = json.loads(alrsim("compare", *MLP, *methods, "--json", "-").out)["methods"]
    assert with_plan[1] != without[1]
    assert [with_plan[at] for at in (0, 2)] == [without[at] for at in (0, 2)]


@pytest.mark.parametrize("rule", ["fixed", "relative"])
def test_a_plan_runs_on_this_host(alrsim: Any, tmp_path: Path, rule: Any) -> None:
    plan = tuple(replace(one, sigma=0.03, sigma_rule=rule) for one in layerwise(2, 3, 2))
    path = saved(tmp_path / "plan.json", plan)
    ran = alrsim("execute", *MLP, "--method", "lr:lr-fixed", "--estimators", path, "--repeats", 1, "--json", "-")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["stages"] == 3


def test_a_plan_that_does_not_fit_is_refused_with_both_numbers(alrsim: Any, tmp_path: Path) -> None:
    plan = saved(tmp_path / "plan.json", layerwise(6, 2, 4, 3))
    ran = alrsim("schedule", *MLP, "--method", "lr:lr-fixed", "--estimators", plan)
    assert ran.status != 0
    assert "there are estimators for 4 stages, the cut has 3" in ran.err
    assert "--cut" in ran.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--method", "alr:lr-fixed"), "is for method lr:"),
        (("--method", "bp:1f1b"), "is for method lr:"),
        (("--method", "lr:lr-fixed", "--copies", 3), "is said by the estimators"),
        (("--method", "lr:lr-fixed", "--noise", "laplace"), "is said by the estimators"),
        (("--method", "lr:lr-fixed", "--group", 4), "do not divide"),
    ],
)
def test_what_contradicts_a_plan_is_refused(alrsim: Any, tmp_path: Path, argv: tuple[object, ...], words: str) -> None:
    plan = saved(tmp_path / "plan.json", layerwise(6, 2, 4))
    ran = alrsim("schedule", *MLP, *argv, "--estimators", plan)
    assert ran.status != 0
    assert words in ran.err
    assert "try:" in ran.err


def test_a_plan_with_exact_stages_needs_the_rule_for_them(alrsim: Any, tmp_path: Path) -> None:
    plan = saved(tmp_path / "plan.json", (LR, LR, replace(LR, kind="bp")))
    ran = alrsim("schedule", *MLP, "--method", "lr:lr-fixed", "--estimators", plan)
    assert "they make the last stages exact" in ran.err
    plan = saved(tmp_path / "exact.json", (replace(LR, kind="bp"),) * 3)
    ran = alrsim("schedule", *MLP, "--method", "lr:lr-fixed", "--estimators", plan)
    assert "they make every stage exact" in ran.err


def test_files_that_hold_no_plan_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(FileError, match="no such file"):
        read_estimators(path)
    path.write_text("{")
    with pytest.raises(FileError, match="not valid JSON"):
        read_estimators(path)
    path.write_text(json.dumps({"format": "alrsim.schedule/1"}))
    with pytest.raises(FileError, match="holds 'alrsim"):
        read_estimators(path)
    with pytest.raises(FileError, match="no stages"):
        read_estimators(saved(path, ()))
    with pytest.raises(FileError, match="carries the noise of all stages"):
        read_estimators(saved(path, (LR, replace(LR, copies=2))))
    with pytest.raises(FileError, match="share their forwards"):
        read_estimators(saved(path, (LR, replace(LR, noise="laplace"))))
    with pytest.raises(FileError, match="has an exact gradient"):
        read_estimators(saved(path, (replace(LR, kind="bp"), LR)))
    document = json.loads(saved(path, (LR,)).read_text())
    document["value"][0]["copies"] = 0
    path.write_text(json.dumps(document))
    with pytest.raises(FileError, match="copies is 0"):
        read_estimators(path)


def test_plans_beside_files_and_tables_are_refused(alrsim: Any, tmp_path: Path) -> None:
    plan = saved(tmp_path / "plan.json", layerwise(6, 2, 4))
    table = ("--method", "lr:lr-fixed", "--units", 2, "--durations", "f=1,g=1")
    assert "--estimators: is for a model" in alrsim("simulate", *table, "--estimators", plan).err
    target = tmp_path / "schedule.json"
    assert alrsim("schedule", *MLP, "-o", target).status == 0
    for verb in ("simulate", "execute"):
        ran = alrsim(verb, *MLP[:3], "--schedule", target, "--estimators", plan)
        assert "was made for its own estimators" in ran.err


@pytest.mark.parametrize(
    "typed",
    [
        ("--copies", 4),
        ("--noise", "laplace"),
        ("--input-code", "sign"),
        ("--noise-code", "sign"),
        ("--group", 1),
        ("--baseline", "none"),
        ("--scope", "layerwise"),
        ("--reduce", "accumulate"),
    ],
)
def test_options_of_lr_are_refused_for_a_single_bp_method(alrsim: Any, typed: tuple[object, ...]) -> None:
    for verb in ("schedule", "simulate", "execute"):
        ran = alrsim(verb, *MLP, "--method", "bp:1f1b", *typed)
        assert ran.status != 0
        assert f"{typed[0]}: is for LR methods, not for bp:1f1b" in ran.err


def test_options_of_lr_are_accepted_where_one_method_of_several_reads_them(alrsim: Any) -> None:
    ran = alrsim("compare", *MLP, "--methods", "bp:1f1b,lr:lr-fixed", "--copies", 4, "--scope", "layerwise")
    assert ran.status == 0, ran.err
