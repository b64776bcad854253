"""``gradcheck`` and ``trajectory`` as functions: what they return, write and refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alrsim.datasets import DATASETS
from alrsim.documents import read_document
from alrsim.errors import AlrsimError, AlrsimWarning
from alrsim.files import load_value
from alrsim.frontend.torch_model import TorchModel
from alrsim.options import about, options_of
from alrsim.quality.gradcheck import GradcheckOptions, gradcheck
from alrsim.quality.trajectory import trajectory
from alrsim.steps.estimators_file import read_estimators
from alrsim.steps.model import load_model

SMALL: dict[str, Any] = {"option": {"hidden": "8"}, "batch": 4, "copies": [2, 4, 8], "draws": 2}


def curves_of(result: Any) -> list[Any]:
    return [one["curves"] for one in result.to_dict()["methods"]]


def test_the_result_says_what_was_measured_beside_the_papers_table() -> None:
    found = gradcheck("mlp", seed=3, **SMALL)
    assert (found.copies, found.dataset, found.draws) == ((2, 4, 8), "digits", 2)
    assert [one.method for one in found.methods] == ["lr", "alr"]
    names = [curve.name for curve in found["lr"].curves]
    assert len(names) == 3 + 2
    assert names[-2:] == ["whole gradient", "mean over layers"]
    columns = {column.method: column for column in found.table4.columns}
    assert (columns["LR"].paper.acc, columns["LR"].paper.sta) == (0.36, 0.21)
    assert columns["LR"].whole_gradient is not None
    assert columns["LR"].whole_gradient.acc == found["lr"].curves[-2].acc
    missing = {name for name, column in columns.items() if column.status == "not asked for"}
    assert missing == {"ES", "AES", "Hybrid", "A-Hybrid"}
    (pair,) = found.table4.orderings["mean_over_layers"]
    assert (pair.first, pair.second, pair.paper) == ("LR", "ALR", (0.36, 0.34))
    assert curves_of(gradcheck("mlp", seed=3, **SMALL)) == curves_of(found)


def test_the_result_is_read_back_shown_and_drawn(tmp_path: Path) -> None:
    options = {**SMALL, "copies": "1..4", "draws": 1, "methods": "alr", "scope": "layerwise", "fresh": True}
    found = gradcheck("mlp", reduce="accumulate", noise="rademacher", train_steps=2, dataset="random", **options)
    for words in ("ALR", "not asked for", "compare the order", "One draw", "random"):
        assert words in found.table()
    found.save(tmp_path)
    assert (tmp_path / "cosines.png").read_bytes().startswith(b"\x89PNG")
    assert read_document(tmp_path / "result.json").to_dict() == found.to_dict()
    assert (found.state.train_steps, found.copies_share_noise) == (2, False)
    law = found["alr"].curves[0].law
    assert law is not None
    assert law.k == 1.0, "the sign of +-1 noise loses nothing"
    assert found["alr"].curves[0].cosine_std is None


def test_every_method_of_the_papers_table_has_its_column_and_its_orderings() -> None:
    found = gradcheck("mlp", methods="lr,alr,es,aes,hybrid,a-hybrid", scope="layerwise", **SMALL)
    text = found.table()
    for words in ("HYBRID: gauss noise, on parameters of stages 0, 1, baseline clean, layerwise", "of 15 pairs"):
        assert words in text
    assert all(column.status == "measured" for column in found.table4.columns)
    for pairs in found.table4.orderings.values():
        assert len(pairs) == 15
        assert all((pair.cause is None) == (pair.verdict == "holds") for pair in pairs)
        assert all(pair.paper[0] > pair.paper[1] for pair in pairs)
    assert found["es"].curves[0].expected_noise == found["es"].curves[0].parameters
    assert found["hybrid"].curves[2].expected_noise is None
    law = found["a-hybrid"].curves[0].law
    assert law is not None
    assert law.ceiling.value == 1.0, "no input is coded where parameters shake"
    assert found["es"].curves[0].cosine == found["hybrid"].curves[0].cosine, "the same noise"


def test_a_suggestion_is_written_and_read_back(tmp_path: Path) -> None:
    from alrsim.estimators.policy import Plan

    found = gradcheck("mlp", methods="lr", scope="layerwise", suggest=0.5, **SMALL)
    assert "For cosine 0.5 in every layer" in found.table()
    assert found.suggestion is not None
    found.suggestion.write(tmp_path / "plan.json")
    plan = load_value("plan", Plan, tmp_path / "plan.json")
    assert [one.copies for one in plan] == [layer.copies for layer in found.suggestion.layers]
    assert [one.kind for one in plan] == [layer.kind for layer in found.suggestion.layers]


@pytest.mark.parametrize(
    ("model", "data", "option"),
    [
        ("rnn", "synthetic-text", {"hidden": "6", "embedding": "5", "sequence": "4", "vocabulary": "12"}),
        ("gcn", "synthetic-graph", {"nodes": "12", "features": "5", "hidden": "4", "classes": "3"}),
    ],
)
def test_sequences_and_graphs_have_true_gradients_too(model: str, data: str, option: dict[str, str]) -> None:
    small: dict[str, Any] = {"batch": 4, "copies": 64, "draws": 2, "methods": ["lr"], "scope": "layerwise"}
    found = gradcheck(model, option=option, dataset=data, **small)
    assert found.dataset == data
    assert all(curve.cosine[0].value > 0.2 for curve in found["lr"].curves)


def test_a_module_in_memory_is_checked_on_own_data() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    net = load_model(module, example=x[:8])
    quality = gradcheck(net, data=(x, x[:, :3].argmax(1)), methods=["lr", "alr"], copies=[10, 50], draws=2)
    assert quality.dataset.startswith("own-")
    assert quality["lr"].curve("mean over layers").cosine[1].value > 0.5


def test_a_relative_sigma_is_a_share_of_what_each_method_puts_noise_on() -> None:
    found = gradcheck("mlp", methods="lr,es", sigma_rule="relative", sigma=0.05, **SMALL)
    lr, es = found["lr"], found["es"]
    assert len(set(lr.sigmas)) == 3
    assert all(first != second for first, second in zip(lr.sigmas, es.sigmas, strict=True))


def test_noise_behind_pooling_is_a_choice_of_the_cut() -> None:
    small: dict[str, Any] = {"option": {"image_size": "8"}, "batch": 2, "copies": 4, "draws": 1, "methods": "lr"}
    assert [gradcheck("resnet5", inject=where, **small).cut for where in ("pre", "post")] == ["layer", "block"]


def test_stages_without_a_true_gradient_are_left_out_loudly() -> None:
    options = {**SMALL, "option": {"image_size": "8", "hidden": "8"}}
    with pytest.warns(AlrsimWarning, match="exactly zero in stage 0"):
        found = gradcheck("snn", methods="lr,es", suggest=0.5, **options)
    assert found.skipped_stages == (0, 1)
    for method in found.methods:
        assert [curve.stage for curve in method.curves] == [2, None, None]
        layer, whole, _ = method.curves
        assert whole.cosine == layer.cosine, "the whole gradient is that of the stages that are left"


def test_losses_per_node_are_masked_unless_asked_otherwise() -> None:
    small: dict[str, Any] = {"batch": 2, "copies": [2, 4], "draws": 2, "methods": "lr,es"}
    by_default, unmasked = gradcheck("gcn", **small), gradcheck("gcn", mask="none", **small)
    assert [one.mask for one in by_default.methods] == ["reach", "none"]
    assert [one.mask for one in unmasked.methods] == ["none", "none"]
    first, second = curves_of(by_default), curves_of(unmasked)
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_codes_of_noise_and_of_loss_weights_change_what_is_measured(tmp_path: Path) -> None:
    plain = gradcheck("mlp", methods="lr", **SMALL)["lr"]
    signs = gradcheck("mlp", methods="lr", noise_code="sign", **SMALL)["lr"]
    coarse = gradcheck("mlp", methods="lr", weight_code="int4", **SMALL)["lr"]
    assert [one.noise_code for one in (plain, signs, coarse)] == ["plain", "sign", "plain"]
    assert [one.weight_code for one in (plain, signs, coarse)] == ["fp32", "fp32", "int4"]
    assert signs.curves[0].law is not None
    assert signs.curves[0].law.k == pytest.approx(np.pi / 2)
    assert plain.curves[0].cosine != signs.curves[0].cosine
    assert plain.curves[0].cosine != coarse.curves[0].cosine
    given: dict[str, Any] = {"suggest": 0.3, "sigma": 0.05, "sigma_rule": "relative", "noise_code": "sign"}
    found = gradcheck("mlp", methods="lr", **SMALL, **given)
    found.write(tmp_path / "plan.json")
    plan = read_estimators(tmp_path / "plan.json")
    assert {(one.sigma, one.sigma_rule, one.noise_code) for one in plan} == {(0.05, "relative", "sign")}


def test_trajectory_says_where_everybody_ends(tmp_path: Path) -> None:
    found = trajectory(steps=60, runs=2)
    assert "starting point decide the outcome" in found.table()
    found.save(tmp_path)
    assert (tmp_path / "trajectory.png").read_bytes().startswith(b"\x89PNG")
    assert read_document(tmp_path / "result.json").to_dict() == found.to_dict()
    assert [one.method for one in found.methods] == ["bp", "lr", "alr"]
    assert found.methods[0].runs[0].path[0] == (-3.0, 2.0)
    assert found.methods[0].runs[0].loss < 3.0


def test_the_help_names_every_data_set() -> None:
    (help,) = (about(one).help for one in options_of(GradcheckOptions) if one.name == "dataset")
    assert all(name in help for name in DATASETS)


class Flat(nn.Module):
    """Its true gradient is zero everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(value) * 0
        return found


FLAT = TorchModel("flat", Flat(), lambda batch: (torch.ones(batch, 8),), 4)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("mlp", {"methods": "bp"}, "method with estimated gradients"),
        ("mlp", {"methods": "ess"}, "try: es"),
        ("mlp", {"methods": "lr,lr"}, "listed twice"),
        ("mlp", {"methods": ","}, "at least one"),
        ("mlp", {"suggest": 1}, "must be between 0 and 1"),
        ("mlp", {"sigma_rule": "learned"}, "a rule of training"),
        ("mlp", {"inject": "middle"}, "inject"),
        ("mlp", {"inject": "pre", "cut": "layer"}, "give one of the two"),
        ("resnet5", {"option": {"image_size": "8"}, "batch": 2, "dataset": "cifar10"}, "data_folder"),
        (FLAT, {"batch": 4, "dataset": "random"}, "exactly zero"),
        ("mlp", {"mask": "reach"}, "one loss per sample"),
        ("mlp", {"mask": "some"}, "mask"),
        ("gcn", {"methods": "es", "mask": "reach"}, "nothing to mask"),
        ("mlp", {"weight_code": "int2"}, "weight_code"),
        ("mlp", {"precision": "noise=sign1"}, "noise=rademacher"),
        ("mlp", {"precision": "activations=bf16"}, "cannot be executed"),
        ("mlp", {"copies": "10.."}, "neither a range nor a list"),
        ("mlp", {"copies": "ten"}, "neither a range nor a list"),
        ("mlp", {"copies": "0..5"}, "a number of copies is 1 to"),
        ("mlp", {"copies": [20, 10]}, "does not ascend"),
        ("mlp", {"draws": 0}, "draws: is 0"),
        ("mlp", {"batch": 0}, "batch: is 0"),
        ("mlp", {"train_steps": -1}, "train_steps: is -1"),
        ("mlp", {"sigma": 0}, "sigma: is 0"),
        ("mlp", {"sigma": "nan"}, "is no number"),
        ("mlp", {"dataset": "mnist"}, "choose from digits, random"),
        ("mlp", {"option": {"features": "60"}, "dataset": "digits"}, "dataset=random"),
        ("mlp", {"baseline": "copy-mean", "copies": "1..4"}, "needs at least 2 copies"),
        ("mlp", {"cut": "slices"}, "slices"),
        ("resnet5", {"option": {"norm": "batch", "image_size": "8"}, "batch": 2}, "norm=group"),
    ],
)
def test_bad_input_gets_one_message(model: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(AlrsimError) as error:
        gradcheck(model, **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps: is 0"),
        ({"steps": 99999999}, "must be at most"),
        ({"lr": 0}, "lr: is 0"),
        ({"sigma": -1}, "must be above 0"),
        ({"copies": 0}, "copies: is 0"),
        ({"runs": 0}, "runs: is 0"),
        ({"start": "here"}, "is not two numbers"),
        ({"start": "1,1e9"}, "is not within"),
    ],
)
def test_a_walk_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AlrsimError) as error:
        trajectory(**options)
    assert words in str(error.value)
