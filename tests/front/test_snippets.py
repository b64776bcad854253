"""The lines of the documentation that people copy, as they stand there."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import pytest

import alrsim as al

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def net() -> al.Model:
    """A torch module of somebody's own."""
    import torch
    from torch import nn

    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return al.load_model(nn.Sequential(*body, nn.Linear(8 * 32 * 32, 10)), example=torch.randn(8, 3, 32, 32))


@pytest.fixture(scope="module")
def chip() -> al.Machine:
    unit = al.UnitSpec("fwd", peak={"bf16": 200e12}, memory="16 GB", bandwidth="2 TB/s")
    return al.Machine.of(unit, count=4, link=al.LinkSpec(bandwidth="50 GB/s", latency="2 us"))


def test_figure2() -> None:
    figure = al.figure2()
    assert (figure.bp.steps, figure.lr.steps, figure.speedup) == (15, 10, 1.5)
    assert "speed-up of lr over bp" in figure._repr_html_()


def test_compare(tmp_path: Path) -> None:
    methods = ["bp:1f1b", "bp:zb-h1", "alr:lr-free"]
    result = al.compare("resnet9", "h100", units=4, batch=64, microbatches=8, methods=methods, copies=4)
    pandas = pytest.importorskip("pandas")
    frame = result.frame().sort_values("makespan_ns")
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["makespan_ns"]) == sorted(one.makespan for one in result)
    axes = matplotlib.figure.Figure().add_subplot()
    assert result["alr:lr-free"].timeline.plot(ax=axes) is axes
    assert len(axes.collections) + len(axes.patches) > 0
    names = {path.name for path in result.save(tmp_path / "out")}
    assert names == {"result.json", "gantt.png", "memory.png", "trace.json.gz"}
    assert al.load(tmp_path / "out") == result


def test_machines() -> None:
    assert len(al.load_machine("h100", units=4).units) == 4
    assert "h100" in {one.name for one in al.machines()}


def test_step(net: al.Model, chip: al.Machine, tmp_path: Path) -> None:
    with pytest.warns(al.AlrsimWarning, match="does not compute in fp32: bf16 is taken"):
        step = al.step(net, chip, "bp:zb-h1", batch=64, microbatches=8)
    assert step.tasks.to_networkx().number_of_nodes() == len(step.tasks.tasks)
    assert len(step.stages.stages) == 4
    with pytest.warns(al.AlrsimWarning, match="has no word for losses and updates"):
        step.schedule.to_pytorch_csv(tmp_path / "zb.csv")
    assert 0 < step.simulate().metrics.idle_fraction < 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", al.AlrsimWarning)  # what was left out is said again
        again = al.load_schedule(tmp_path / "zb.csv")
        doubled = al.load_schedule(tmp_path / "zb.csv", durations="f=2,b=2,w=2")
    assert again.makespan > 0
    assert doubled.makespan == 2 * again.makespan


def test_textbook() -> None:
    step = al.textbook(f=1, b=1, w=1, transfer="1/4", stages=4, units=4, microbatches=8, method="bp:zb-h1")
    assert step.simulate().exact_makespan == step.makespan
    assert isinstance(step.makespan, Fraction)


def test_measured_beside_predicted() -> None:
    here = al.step("mlp", al.load_machine("cpu-2core"), "bp:1f1b", batch=64, microbatches=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", al.AlrsimWarning)  # a busy host is said
        costs = al.calibrate(here, executor="threads", repeats=1)
    measured = here.execute(executor="threads", repeats=2)
    figure = measured.plot_beside(here.simulate(costs=costs))
    assert len(figure.axes) == 2
    there = al.step("mlp", "h100", "bp:1f1b", units=2, batch=64, microbatches=8).simulate()
    with pytest.raises(al.AlrsimError, match="one is of cpu-2core, the other of h100"):
        measured.plot_beside(there)
    assert len(measured.plot_beside(there, across_machines=True).axes) == 2


def test_eight_comparisons_export_the_model_once(net: al.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from alrsim.frontend import torch_export

    exports: list[int] = []
    real = torch_export.export_model

    def counted(model: Any, batch: int) -> Any:
        exports.append(batch)
        return real(model, batch)

    monkeypatch.setattr(torch_export, "export_model", counted)
    net._sizes.clear()
    options: dict[str, Any] = {"batch": 64, "cut": "operator", "methods": ["bp:list"]}
    spans = [al.compare(net, "h100", units=units, **options)[0].makespan for units in range(1, 9)]
    assert exports == [16]
    assert min(spans) > 0


def test_own_scheduler() -> None:
    from alrsim.registry import registry_of

    @al.scheduler("mine", rules=("bp",))
    def mine(problem: al.Problem) -> al.Schedule:
        from alrsim.schedulers.pipelines import serial

        return serial(problem)

    assert al.textbook("bp:mine", f=1, b=1, units=2).makespan == al.textbook("bp:serial", f=1, b=1, units=2).makespan
    dict.__delitem__(registry_of("scheduler"), "mine")
