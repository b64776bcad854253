"""``alrsim gradcheck`` and ``alrsim trajectory`` from the command line: what they print, write and refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from alrsim.datasets import DATASETS
from alrsim.documents import document_type, kind_of
from alrsim.steps.estimators_file import read_estimators

SMALL = ("--option", "hidden=8", "--batch", 4, "--copies", "2,4,8", "--draws", 2)


def document_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    Draft202012Validator(document_type(kind_of(found)).schema()).validate(found)
    return found


def test_gradcheck_prints_json_and_nothing_else(alrsim: Any) -> None:
    ran = alrsim("gradcheck", "mlp", *SMALL, "--json", "-", "--seed", 3)
    assert (ran.status, ran.err) == (0, "")
    found = document_of(ran.out)
    assert (found["copies"], found["dataset"], found["draws"]) == ([2, 4, 8], "digits", 2)
    assert [one["method"] for one in found["methods"]] == ["lr", "alr"]
    names = [curve["name"] for curve in found["methods"][0]["curves"]]
    assert len(names) == 3 + 2
    assert names[-2:] == ["whole gradient", "mean over layers"]
    columns = {column["method"]: column for column in found["table4"]["columns"]}
    assert columns["LR"]["paper"] == {"acc": 0.36, "sta": 0.21}
    assert columns["LR"]["whole_gradient"]["acc"] == found["methods"][0]["curves"][-2]["acc"]
    assert {name for name, column in columns.items() if column["status"] == "not asked for"} == {
        "ES",
        "AES",
        "Hybrid",
        "A-Hybrid",
    }
    (pair,) = found["table4"]["orderings"]["mean_over_layers"]
    assert (pair["first"], pair["second"], pair["paper"]) == ("LR", "ALR", [0.36, 0.34])
    again = document_of(alrsim("gradcheck", "mlp", *SMALL, "--json", "-", "--seed", 3).out)
    assert [one["curves"] for one in again["methods"]] == [one["curves"] for one in found["methods"]]


def test_gradcheck_says_what_it_measured_and_draws_it(alrsim: Any, tmp_path: Path, factory_file: Path) -> None:
    options = ("--batch", 4, "--copies", "1..4", "--draws", 1, "--methods", "alr", "--scope", "layerwise")
    more = ("--reduce", "accumulate", "--noise", "rademacher", "--train-steps", 2, "--dataset", "random", "--fresh")
    ran = alrsim("gradcheck", f"{factory_file}:make", *options, *more, "--out", tmp_path / "new")
    assert ran.status == 0, ran.err
    for words in ("ALR", "not asked for", "compare the order", "One draw", "random"):
        assert words in ran.out
    assert (tmp_path / "new" / "cosines.png").read_bytes().startswith(b"\x89PNG")
    found = document_of((tmp_path / "new" / "result.json").read_text())
    assert found["state"]["train_steps"] == 2
    assert not found["copies_share_noise"]
    assert found["methods"][0]["curves"][0]["law"]["k"] == 1.0, "the sign of +-1 noise loses nothing"
    assert found["methods"][0]["curves"][0]["cosine_std"] is None


def test_every_method_of_the_papers_table_has_its_column_and_its_orderings(alrsim: Any, tmp_path: Path) -> None:
    methods = "lr,alr,es,aes,hybrid,a-hybrid"
    ran = alrsim("gradcheck", "mlp", *SMALL, "--methods", methods, "--out", tmp_path, "--scope", "layerwise")
    assert ran.status == 0, ran.err
    for words in ("HYBRID: gauss noise, on parameters of stages 0, 1, baseline clean, layerwise", "of 15 pairs"):
        assert words in ran.out
    found = document_of((tmp_path / "result.json").read_text())
    assert all(column["status"] == "measured" for column in found["table4"]["columns"])
    for pairs in found["table4"]["orderings"].values():
        assert len(pairs) == 15
        assert all((pair["cause"] is None) == (pair["verdict"] == "holds") for pair in pairs)
        assert all(pair["paper"][0] > pair["paper"][1] for pair in pairs)
    of = {one["method"]: one for one in found["methods"]}
    assert of["es"]["curves"][0]["expected_noise"] == of["es"]["curves"][0]["parameters"]
    assert of["hybrid"]["curves"][2]["expected_noise"] is None
    assert of["a-hybrid"]["curves"][0]["law"]["ceiling"]["value"] == 1.0, "no input is coded where parameters shake"
    assert of["es"]["curves"][0]["cosine"] == of["hybrid"]["curves"][0]["cosine"], "the same noise"


def test_a_suggested_plan_is_written_and_read_back(alrsim: Any, tmp_path: Path) -> None:
    from alrsim.estimators.policy import Plan
    from alrsim.files import load_value

    options = ("--methods", "lr", "--scope", "layerwise", "--suggest", 0.5, "-o", tmp_path / "plan.json")
    ran = alrsim("gradcheck", "mlp", *SMALL, *options, "--json", tmp_path / "all.json")
    assert ran.status == 0, ran.err
    assert "For cosine 0.5 in every layer" in ran.out
    found = document_of((tmp_path / "all.json").read_text())["suggestion"]
    plan = load_value("plan", Plan, tmp_path / "plan.json")
    assert [one.copies for one in plan] == [layer["copies"] for layer in found["layers"]]
    assert [one.kind for one in plan] == [layer["kind"] for layer in found["layers"]]


@pytest.mark.parametrize(
    ("model", "data", "options"),
    [
        ("rnn", "synthetic-text", ("hidden=6", "embedding=5", "sequence=4", "vocabulary=12")),
        ("gcn", "synthetic-graph", ("nodes=12", "features=5", "hidden=4", "classes=3")),
    ],
)
def test_sequences_and_graphs_have_true_gradients_too(alrsim: Any, model: str, data: str, options: Any) -> None:
    given = [word for option in options for word in ("--option", option)]
    small = ("--batch", 4, "--copies", "64", "--draws", 2, "--methods", "lr", "--scope", "layerwise")
    ran = alrsim("gradcheck", model, *given, "--dataset", data, *small, "--json", "-")
    assert (ran.status, ran.err) == (0, "")
    found = document_of(ran.out)
    assert found["dataset"] == data
    assert all(curve["cosine"][0]["value"] > 0.2 for curve in found["methods"][0]["curves"])


def test_a_relative_sigma_is_a_share_of_what_each_method_puts_noise_on(alrsim: Any) -> None:
    given = ("--methods", "lr,es", "--sigma-rule", "relative", "--sigma", 0.05, "--json", "-")
    lr, es = document_of(alrsim("gradcheck", "mlp", *SMALL, *given).out)["methods"]
    assert len(set(lr["sigmas"])) == 3
    assert all(first != second for first, second in zip(lr["sigmas"], es["sigmas"], strict=True))


def test_noise_behind_pooling_is_a_choice_of_the_cut(alrsim: Any) -> None:
    small = ("--option", "image_size=8", "--batch", 2, "--copies", "4", "--draws", 1, "--methods", "lr", "--json", "-")
    cuts = [
        document_of(alrsim("gradcheck", "resnet5", *small, "--inject", where).out)["cut"] for where in ("pre", "post")
    ]
    assert cuts == ["layer", "block"]


def test_trajectory_says_where_everybody_ends(alrsim: Any, tmp_path: Path) -> None:
    ran = alrsim("trajectory", "--steps", 60, "--runs", 2, "--out", tmp_path, "--json", tmp_path / "all.json")
    assert ran.status == 0, ran.err
    assert "starting point decide the outcome" in ran.out
    assert (tmp_path / "trajectory.png").read_bytes().startswith(b"\x89PNG")
    found = document_of((tmp_path / "all.json").read_text())
    assert [one["method"] for one in found["methods"]] == ["bp", "lr", "alr"]
    assert found["methods"][0]["runs"][0]["path"][0] == [-3.0, 2.0]
    assert found["methods"][0]["runs"][0]["loss"] < 3.0


def test_an_interrupt_leaves_no_file(alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alrsim.quality.sampler import Sampler

    original, calls = Sampler.gradient, []

    def interrupted(self: Sampler, copies: int, seed: int) -> Any:
        calls.append(copies)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return original(self, copies, seed)

    monkeypatch.setattr(Sampler, "gradient", interrupted)
    ran = alrsim("gradcheck", "mlp", *SMALL, "--out", tmp_path / "out", "--json", tmp_path / "result.json")
    assert (ran.status, ran.out, len(calls)) == (130, "", 4)
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def flat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose true gradient is zero everywhere."""
    path = tmp_path_factory.mktemp("models") / "flat.py"
    path.write_text(
        "from torch import nn, ones\n"
        "from alrsim.frontend.torch_model import TorchModel\n\n\n"
        "class Flat(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(8, 4)\n\n"
        "    def forward(self, value):\n"
        "        return self.linear(value) * 0\n\n\n"
        "def make():\n"
        "    return TorchModel('flat', Flat(), lambda batch: (ones(batch, 8),), 4)\n",
        encoding="utf-8",
    )
    return path


def test_stages_without_a_true_gradient_are_left_out_loudly(alrsim: Any) -> None:
    options = ("--option", "image_size=8", "--option", "hidden=8", *SMALL[2:], "--methods", "lr,es")
    ran = alrsim("gradcheck", "snn", *options, "--json", "-", "--suggest", 0.5)
    assert ran.status == 0, ran.err
    assert "exactly zero in stage 0" in ran.err
    found = document_of(ran.out)
    assert found["skipped_stages"] == [0, 1]
    for method in found["methods"]:
        assert [curve["stage"] for curve in method["curves"]] == [2, None, None]
        layer, whole, _ = method["curves"]
        assert whole["cosine"] == layer["cosine"], "the whole gradient is that of the stages that are left"


def test_losses_per_node_are_masked_unless_asked_otherwise(alrsim: Any) -> None:
    line = ("gradcheck", "gcn", "--batch", 2, "--copies", "2,4", "--draws", 2, "--json", "-")
    by_default = document_of(alrsim(*line, "--methods", "lr,es").out)["methods"]
    assert [one["mask"] for one in by_default] == ["reach", "none"]
    unmasked = document_of(alrsim(*line, "--methods", "lr,es", "--mask", "none").out)["methods"]
    assert [one["mask"] for one in unmasked] == ["none", "none"]
    assert by_default[0]["curves"] != unmasked[0]["curves"]
    assert by_default[1]["curves"] == unmasked[1]["curves"]


def test_codes_of_noise_and_of_loss_weights_change_what_is_measured(alrsim: Any, tmp_path: Path) -> None:
    line = ("gradcheck", "mlp", *SMALL, "--methods", "lr", "--json", "-")
    (plain,) = document_of(alrsim(*line).out)["methods"]
    (signs,) = document_of(alrsim(*line, "--noise-code", "sign").out)["methods"]
    (coarse,) = document_of(alrsim(*line, "--weight-code", "int4").out)["methods"]
    assert [one["noise_code"] for one in (plain, signs, coarse)] == ["plain", "sign", "plain"]
    assert [one["weight_code"] for one in (plain, signs, coarse)] == ["fp32", "fp32", "int4"]
    assert signs["curves"][0]["law"]["k"] == pytest.approx(np.pi / 2)
    cosines = [[point["value"] for point in one["curves"][0]["cosine"]] for one in (plain, signs, coarse)]
    assert cosines[0] != cosines[1]
    assert cosines[0] != cosines[2]
    plan = tmp_path / "plan.json"
    given = ("--suggest", 0.3, "--sigma", 0.05, "--sigma-rule", "relative", "--noise-code", "sign", "-o", plan)
    assert alrsim(*line, *given).status == 0
    found = {(one.sigma, one.sigma_rule, one.noise_code) for one in read_estimators(plan)}
    assert found == {(0.05, "relative", "sign")}


def test_the_help_names_every_data_set(alrsim: Any) -> None:
    words = {word.strip(".,;") for word in alrsim("gradcheck", "--help").out.replace("-\n", "-").split()}
    assert set(DATASETS) <= words


BAD: list[tuple[str, str]] = [
    ("gradcheck", "Missing argument 'MODEL'"),
    ("gradcheck mlp --methods bp", "not a method with estimated gradients"),
    ("gradcheck mlp --methods ess", "try: es"),
    ("gradcheck mlp --suggest 1", "must be between 0 and 1"),
    ("gradcheck mlp -o {tmp}/plan.json", "--suggest"),
    ("gradcheck mlp --sigma-rule learned", "a rule of training"),
    ("gradcheck mlp --inject middle", "--inject"),
    ("gradcheck resnet5 --option image_size=8 --batch 2 --dataset cifar10", "--data-folder"),
    ("gradcheck {flat}:make --batch 4 --dataset random", "exactly zero"),
    ("gradcheck mlp --mask reach", "one loss per sample"),
    ("gradcheck mlp --mask some", "'some' is not a choice"),
    ("gradcheck gcn --methods es --mask reach", "nothing to mask"),
    ("gradcheck mlp --noise-code bits", "--noise-code"),
    ("gradcheck mlp --weight-code int2", "--weight-code"),
    ("gradcheck mlp --precision noise=sign1", "--noise rademacher"),
    ("gradcheck mlp --methods lr,lr", "listed twice"),
    ("gradcheck mlp --methods ,", "--methods: needs at least one"),
    ("gradcheck mlp --copies 10..", "neither a range nor a list"),
    ("gradcheck mlp --copies 1..2..3", "neither a range nor a list"),
    ("gradcheck mlp --copies ten", "neither a range nor a list"),
    ("gradcheck mlp --copies 0..5", "a number of copies is 1 to"),
    ("gradcheck mlp --copies 20,10", "does not ascend"),
    ("gradcheck mlp --copies 5..5", "does not ascend"),
    ("gradcheck mlp --copies 1..9999999", "a number of copies is 1 to"),
    ("gradcheck mlp --draws 0", "--draws: is 0"),
    ("gradcheck mlp --batch 0", "--batch: is 0"),
    ("gradcheck mlp --train-steps -1", "--train-steps: is -1"),
    ("gradcheck mlp --sigma 0", "--sigma: is 0"),
    ("gradcheck mlp --sigma nan", "--sigma: nan is no number"),
    ("gradcheck mlp --noise cauchy", "--noise"),
    ("gradcheck mlp --dataset mnist", "choose from digits, random"),
    ("gradcheck mlp --option features=60 --dataset digits", "--dataset random"),
    ("gradcheck mlp --baseline mean", "--baseline"),
    ("gradcheck mlp --baseline copy-mean --copies 1..4", "needs at least 2 copies"),
    ("gradcheck mlp --scope everywhere", "--scope"),
    ("gradcheck mlp --reduce sum", "--reduce"),
    ("gradcheck mlp --cut slices", "slices"),
    ("gradcheck mlp --precision fp23", "'fp23' is not a number format"),
    ("gradcheck mlp --precision activations=bf16", "cannot be executed"),
    ("gradcheck resnet5 --option norm=batch --option image_size=8 --batch 2", "norm=group"),
    ("gradcheck {graph}", "only torch models can be run"),
    ("gradcheck mlp --json {tmp}/none/here.json", "does not exist"),
    ("trajectory --steps 0", "--steps: is 0"),
    ("trajectory --steps 99999999", "must be at most"),
    ("trajectory --lr 0", "--lr: is 0"),
    ("trajectory --sigma -1", "--sigma: is -1, must be above 0"),
    ("trajectory --copies 0", "--copies: is 0"),
    ("trajectory --runs 0", "--runs: is 0"),
    ("trajectory --start here", "is not two numbers"),
    ("trajectory --start 1,1e9", "is not within"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_gets_one_message(
    alrsim: Any, tmp_path: Path, graph_file: Path, flat_file: Path, line: str, message: str
) -> None:
    names = {"graph": graph_file, "tmp": tmp_path, "flat": flat_file}
    ran = alrsim(*(word.format(**names) for word in line.split()), "--out", tmp_path / "out")
    assert ran.status == 1, ran.err
    assert message in ran.err
    assert (ran.out, ran.err.count("error: ")) == ("", 1)
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())
