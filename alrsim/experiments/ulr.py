"""Claims of the ULR paper (arXiv 2305.08960) and of its authors' public answers to the reviewers."""

from alrsim.experiments.claim import ORDER, POINTS, Area, Budget, Claim
from alrsim.experiments.rules import Rule

ANTITHETIC = {"baseline": "antithetic"}
LAYERWISE = {"baseline": "antithetic", "scope": "layerwise"}
BARE = {"baseline": "none"}
TRICKS = {"estimator": dict(LAYERWISE)}
LEARNED = {"estimator": {"sigma_rule": "learned", "baseline": "antithetic"}}
FIXED = {"estimator": {"sigma_rule": "fixed", "baseline": "antithetic"}}


def _claim(
    name: str, where: str, text: str, figure: float | None, unit: str, area: Area, rule: Rule, measure: str = "",
    arguments: dict[str, object] | None = None, needs: tuple[str, ...] = (), missing: str = "",
    budget: Budget = "long",
) -> Claim:  # fmt: skip
    return Claim(
        f"ulr.{name}", "ULR", where, text, figure, unit, area, rule, measure, arguments or {}, needs, missing, budget
    )


GRADIENT = (
    _claim("thm1.unbiased", "Theorem 1", "the LR estimate is unbiased: mean projection on the true gradient", 1.0,
           "of the gradient", "gradient", Rule("contains", absolute=0.05), "gradients:unbiased", budget="minutes"),
    _claim("fig7.antithetic", "Fig. 7, 11", "antithetic pairs raise the cosine (equal forwards)",
           None, "cosine", "gradient", ORDER, "gradients:ablation",
           {"first": ("lr", ANTITHETIC, 1), "second": ("lr", BARE, 2),
            "more": {"clean": ("lr", {"baseline": "clean"}, 2)}}, budget="minutes"),
    _claim("fig7.layerwise", "Sec. 4.6, Fig. 7, 11", "layer-wise noise raises the cosine (equal draws per layer)",
           None, "cosine", "gradient", ORDER, "gradients:ablation",
           {"first": ("lr", LAYERWISE, 1), "second": ("lr", ANTITHETIC, 1)}, budget="minutes"),
    _claim("fig7.layerwise-forwards", "Sec. 4.6, Fig. 7, 11", "the same at equal forwards of the whole model",
           None, "cosine", "gradient", ORDER, "gradients:ablation",
           {"first": ("lr", LAYERWISE, 1), "second": ("lr", ANTITHETIC, 3)}, budget="minutes"),
    _claim("fig7.qmc", "Sec. 3.3, Fig. 7, 11", "quasi-Monte-Carlo noise (Sobol) raises the cosine over Gaussian", None,
           "cosine", "gradient", ORDER, "gradients:ablation",
           {"first": ("lr", {"noise": "sobol"}, 1), "second": ("lr", {"noise": "gauss"}, 1),
            "more": {"Hadamard": ("lr-hadamard", {}, 1)}, "copies": 64}, budget="minutes"),
    _claim("fig7.weights-in-front", "Sec. 4.3, Fig. 7", "in ResNet-5's first layer noise on weights is better",
           None, "cosine", "gradient", ORDER, "gradients:front_and_back", {"layer": 0}),
    _claim("fig7.outputs-behind", "Sec. 4.3, Fig. 7", "in its last layer noise on outputs is better", -1.0,
           "cosine", "gradient", ORDER, "gradients:front_and_back", {"layer": -1}),
)  # fmt: skip


def _gap(
    name: str, where: str, text: str, figure: float | None, setting: str, first: str, second: str, **more: object
) -> Claim:
    arguments = {"setting": setting, "first": first, "second": second, **more}
    return _claim(name, where, text, figure, POINTS, "accuracy", ORDER, "accuracy:difference", arguments)


ACCURACY = (
    _claim("cifar10.level", "Sec. 4", "LR trains ResNet-5 on CIFAR-10 to this accuracy", 64.8, "%", "accuracy",
           Rule("at-least", absolute=3.0), "accuracy:level", {"setting": "cifar10", "column": "LR"},
           needs=("cifar10",)),
    _claim("cifar10.as-bp", "Sec. 4", "LR is as good as BP on clean data: LR minus BP", 0.4, POINTS, "accuracy",
           Rule("at-least", absolute=1.5), "accuracy:difference",
           {"setting": "cifar10", "first": "LR", "second": "BP"}),
    _gap("r3.lr-over-es", "Answers, Tab. R3", "LR with its variance reduction minus ES without", 29.7, "cifar10", "LR",
         "ES", first_changes=TRICKS, second_changes={"estimator": dict(BARE)}),
    _gap("r3.tricks-help-es", "Answers, Tab. R3", "variance reduction helps ES", 11.8, "cifar10", "ES", "ES",
         first_changes=TRICKS, second_changes={"estimator": dict(BARE)}),
    _gap("r3.lr-over-es-tricks", "Answers, Tab. R3", "LR minus ES, both with variance reduction", 17.9, "cifar10", "LR",
         "ES", first_changes=TRICKS, second_changes=TRICKS),
    _gap("r1.adaptive", "Answers, Tab. R1", "a learned sigma raises ResNet-5's accuracy (VGG-8: 1.4)", 3.5, "cifar10",
         "LR", "LR", first_changes=LEARNED, second_changes=FIXED),
    _gap("r2.adaptive", "Answers, Tab. R2", "a learned sigma raises LSTM's accuracy (RNN 1.7, GRU 2.3)", 1.6,
         "ag-news", "LR", "LR", first_changes=LEARNED, second_changes=FIXED),
    _claim("snn.level", "Sec. 4.1", "accuracies of spiking networks",
           None, "%", "accuracy", ORDER,
           missing="the table of spiking networks is not in the text at hand; the ordering below is measured"),
    _gap("snn.over-bp", "Sec. 4.1", "spikes have no derivative: LR trains what BP cannot (LR minus BP)", None,
         "fashion-mnist", "LR", "BP"),
    _claim("title.one-forward", "Title, Sec. 3", "one noisy forward per step trains: share of BP's accuracy",
           90.0, "%", "accuracy", Rule("at-least"),
           "accuracy:of_backpropagation",
           {"setting": "cifar10", "column": "LR", "changes": {"copies": 1, "estimator": dict(BARE)}}),
    _claim("rnn.bptt", "Sec. 4.2, Fig. 6", "LR instead of BPTT in an LSTM: share of BP's accuracy",
           95.0, "%", "accuracy", Rule("at-least"), "accuracy:of_backpropagation",
           {"setting": "ag-news", "column": "LR", "changes": {"rate": 1e-2}}),
)  # fmt: skip


def _attack(name: str, text: str, figure: float | None, attack: str) -> Claim:
    return _claim(f"robust.{name}", "Sec. 4", text, figure, POINTS, "robustness", ORDER, "robustness:against",
                  {"attack": attack})  # fmt: skip


ROBUSTNESS = (
    _attack("fgsm", "LR resists FGSM better than BP: LR minus BP (55.3 and 12.1 %)", 43.2, "FGSM"),
    _attack("gaussian", "LR resists random Gaussian noise better than BP", None, "Gaussian"),
    _attack("uniform", "LR resists random uniform noise better than BP", None, "uniform"),
)

ELSEWHERE = (
    _claim("answers.backward", "Answers", "one backward pass takes about as many times a forward", 2.0, "x", "speed",
           Rule("equals", absolute=0.5), "speed:backward", budget="minutes"),
    _claim("fig6.duration", "Fig. 6", "an epoch is shorter with BPTT cut by LR", None, "s", "speed", ORDER,
           missing="the bars of the figure are not in the text at hand"),
    _claim("tab1.duration", "Tab. 1, Sec. 4.2", "time saved by no backward pass through frozen parts",
           None, "s", "speed", ORDER,
           missing="the paper's numbers are not in the text at hand, and its setting needs a pre-trained model"),
    _claim("deep.resnet50", "Answers", "ResNet-50 on ImageNet is uneconomical with LR alone", None, "%", "accuracy",
           ORDER, missing="ImageNet, and an accelerator: no digits of it can be had on two cores"),
)  # fmt: skip

ULR_CLAIMS = (*GRADIENT, *ACCURACY, *ROBUSTNESS, *ELSEWHERE)
