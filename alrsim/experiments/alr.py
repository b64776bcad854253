"""Claims of the ALR paper (arXiv 2403.12320), in the order of its text."""

from alrsim.experiments.claim import ORDER, POINTS, Area, Budget, Claim
from alrsim.experiments.paper import TABLES
from alrsim.experiments.rules import Rule
from alrsim.quality.paper import ACC


def _claim(
    name: str, where: str, text: str, figure: float | None, unit: str, area: Area, rule: Rule, measure: str = "",
    arguments: dict[str, object] | None = None, needs: tuple[str, ...] = (), missing: str = "",
    budget: Budget = "seconds",
) -> Claim:  # fmt: skip
    return Claim(
        f"alr.{name}", "ALR", where, text, figure, unit, area, rule, measure, arguments or {}, needs, missing, budget
    )


SCHEDULE = (
    _claim("fig2.bp-idle", "Fig. 2", "BP leaves this share of the computation units' grid idle", 53.3, "%", "schedule",
           Rule("equals", absolute=0.05), "schedule:bp_idle"),
    _claim("fig2.lr-idle", "Fig. 2", "the LR pipeline leaves this share idle", 24.0, "%", "schedule",
           Rule("equals", absolute=0.05), "schedule:lr_idle"),
    _claim("fig2.speedup", "Fig. 2", "LR pipeline over BP in steps of the grid", 1.5, "x", "schedule",
           Rule("equals", absolute=0.005), "schedule:speedup"),
    _claim("fig2.free-rows", "Fig. 2", "the same with gradients in any free unit, as the text says", 1.5,
           "x", "schedule", Rule("at-least", absolute=0.005), "schedule:speedup", {"free": True}),
)  # fmt: skip

SPEED = (
    _claim("fig4.alr-over-lr", "Fig. 4", "largest gain in iterations/s of int8 ALR over LR at equal copies", 1.22, "x",
           "speed", Rule("at-least", relative=0.05), "speed:largest", {"fast": "ALR"}, budget="minutes"),
    _claim("fig4.ours-over-lr", "Fig. 4", "the same gain by this program's own 1-bit estimator, accumulated", 1.22, "x",
           "speed", Rule("at-least", relative=0.05), "speed:largest", {"fast": "lr-rademacher"}, budget="minutes"),
    _claim("fig4.alr-p-over-lr", "Fig. 4", "mean gain of pipelined ALR over un-pipelined LR", 2.04, "x", "speed",
           Rule("at-least", relative=0.05), "speed:pipelined", budget="minutes"),
    _claim("fig4.over-bp", "Fig. 4", "with few copies pipelined LR makes more iterations/s than BP", 1.0, "x", "speed",
           Rule("at-least"), "speed:against_bp", budget="minutes"),
    _claim("fig4.fades", "Fig. 4", "that advantage shrinks as copies are added", None, "x",
           "speed", ORDER, "speed:fades", budget="minutes"),
)  # fmt: skip

MEMORY = (
    _claim("sec43.memory", "Sec. 4.3", "additional memory of LR over that of int8 ALR", 4.0, "x", "memory",
           Rule("at-least", relative=0.03), "memory:saving", {"name": "alr"}),
    _claim("sec43.memory-bits", "Sec. 4.3", "the same with signs packed to bits (+-1 noise, threshold codes)", 4.0, "x",
           "memory", Rule("at-least", relative=0.03), "memory:saving", {"name": "bits"}),
    _claim("tab2.copies", "Sec. 4.2", "copies that fit where one copy of LR fits", 4.0, "x", "memory",
           Rule("at-least", relative=0.03), "memory:copies_that_fit"),
    _claim("sec1.memory-bound", "Sec. 1, 4.3", "state grows tenfold with tenfold copies (here: accumulated)",
           10.0, "x", "memory", Rule("at-most", relative=0.03), "memory:growth"),
)  # fmt: skip

_LEVELS = tuple(
    _claim(f"tab4.acc-{column.lower()}", "Table 4", f"Acc of {column}: mean cosine over copies, eq. 7", value, "cosine",
           "gradient", Rule("equals", absolute=0.1), "gradients:table_acc", {"column": column}, budget="long")
    for column, value in ACC.items()
)  # fmt: skip

_ORDERS = tuple(
    _claim(f"tab4.{first.lower()}-over-{second.lower()}", "Table 4", f"Acc of {first} minus that of {second}",
           round(ACC[first] - ACC[second], 2), "cosine", "gradient", ORDER, "gradients:table_order",
           {"first": first, "second": second}, budget="long")
    for first, second in (("LR", "ALR"), ("Hybrid", "LR"), ("LR", "ES"), ("A-Hybrid", "ALR"), ("ALR", "AES"))
)  # fmt: skip

GRADIENT = (
    *_LEVELS,
    *_ORDERS,
    _claim("tab4.hybrid-over-lr-layerwise", "Table 4", "Hybrid minus LR with the noise of one layer at a time", 0.06,
           "cosine", "gradient", ORDER, "gradients:table_order",
           {"first": "Hybrid", "second": "LR", "changes": {"scope": "layerwise"}}, budget="long"),
    _claim("tab4.drop", "Table 4", "sign encoding costs little Acc (mean over LR, ES, Hybrid)", 0.03, "cosine",
           "gradient", Rule("at-most", absolute=0.02), "gradients:table_drop", budget="long"),
    _claim("tab4.stability", "Table 4", "sign encoding lowers Sta, eq. 8 (mean drop over LR, ES, Hybrid)", 0.04,
           "cosine", "gradient", ORDER, "gradients:table_stability", budget="long"),
    _claim("fig5.fc-hybrid", "Fig. 5", "cosine of Hybrid's fully connected layer with 2,000 copies", 1.0, "cosine",
           "gradient", Rule("equals", absolute=0.05), "gradients:last_layer", {"column": "Hybrid"}, budget="long"),
    _claim("fig5.fc-a-hybrid", "Fig. 5", "cosine of A-Hybrid's fully connected layer with 2,000 copies", 0.8, "cosine",
           "gradient", Rule("equals", absolute=0.1), "gradients:last_layer", {"column": "A-Hybrid"}, budget="long"),
    _claim("fig5.thinner", "Fig. 5", "A-Hybrid's cosine varies less between experiments than Hybrid's", None, "cosine",
           "gradient", ORDER, "gradients:thinner", {"first": "Hybrid", "second": "A-Hybrid"}, budget="long"),
    _claim("fig1.cosine", "Fig. 1", "five times the copies raise LR's cosine from 0.17 to 0.28", 1.65, "x",
           "gradient", Rule("equals", relative=0.2), "gradients:more_copies", budget="long"),
    _claim("fig6.lr-follows-bp", "Fig. 6", "LR's path on Beale's function is nearly BP's: distance",
           0.0, "of the path", "gradient", Rule("at-most", absolute=0.05), "path:same_path"),
    _claim("fig6.alr-escapes", "Fig. 6", "ALR reaches the optimum more often than BP",
           None, "of runs", "gradient", ORDER, "path:escapes"),
)  # fmt: skip


def _gap(
    name: str, where: str, text: str, figure: float | None, first: str, second: str, setting: str, **more: object
) -> Claim:
    arguments = {"setting": setting, "first": first, "second": second, **more}
    if {first, second} & {"LR w A", "Hybrid w A"} and first.endswith("w A") != second.endswith("w A"):
        arguments["signs"] = True
    return _claim(name, where, text, figure, POINTS, "accuracy", ORDER, "accuracy:difference", arguments, budget="long")


def _cells(table: str, first: str, second: str) -> float:
    return round(TABLES[table][first] - TABLES[table][second], 1)


_PAIRS_1 = (
    ("a-helps-lr", "LR w A", "LR", "ALR minus LR"),
    ("a-helps-es", "ES w A", "ES", "AES minus ES"),
    ("a-helps-hybrid", "Hybrid w A", "Hybrid", "A-Hybrid minus Hybrid"),
    ("a-hurts-bp", "BP w A", "BP", "taking signs of BP's update costs accuracy"),
    ("a-hurts-hsic", "HSIC w A", "HSIC", "taking signs of HSIC's update costs accuracy"),
    ("a-hurts-fa", "FA w A", "FA", "taking signs of FA's update costs accuracy"),
    ("hybrid-over-lr", "Hybrid", "LR", "Hybrid minus LR"),
    ("lr-over-es", "LR", "ES", "LR minus ES"),
    ("lr-over-fa", "LR", "FA", "LR minus FA"),
    ("lr-over-hsic", "LR", "HSIC", "LR minus HSIC"),
    ("a-hybrid-over-hsic", "Hybrid w A", "HSIC", "A-Hybrid minus HSIC (the text says 32.2)"),
)

_PAIRS_2 = (
    ("a-helps-lr", "LR w A", "LR", "ALR with 4x the copies minus LR"),
    ("a-helps-es", "ES w A", "ES", "AES with 4x the copies minus ES"),
    ("a-helps-hybrid", "Hybrid w A", "Hybrid", "A-Hybrid with 4x the copies minus Hybrid"),
)

_TABLE_1 = tuple(
    _gap(f"tab1.{name}", "Table 1", text, _cells("table 1", first, second), first, second, "cifar100")
    for name, first, second, text in _PAIRS_1
)

_TABLE_2 = tuple(
    _gap(f"tab2.{name}", "Table 2", text, _cells("table 2", first, second), first, second, "tiny-imagenet")
    for name, first, second, text in _PAIRS_2
)

ACCURACY = (
    _claim("fig3.levels", "Fig. 3", "59.5, 43.1, 61.3 % by ALR, AES, A-Hybrid: mean distance", 0.0,
           POINTS, "accuracy", Rule("at-most", absolute=3.0), "accuracy:table_levels",
           {"setting": "cifar10", "table": "figure 3"}, needs=("cifar10",), budget="long"),
    _gap("fig3.a-hybrid-over-alr", "Fig. 3", "A-Hybrid minus ALR", _cells("figure 3", "Hybrid w A", "LR w A"),
         "Hybrid w A", "LR w A", "cifar10"),
    _gap("fig3.alr-over-aes", "Fig. 3", "ALR minus AES", _cells("figure 3", "LR w A", "ES w A"), "LR w A", "ES w A",
         "cifar10"),
    _gap("fig3.alr-over-lr", "Fig. 3", "ALR ends above LR at equal copies", None, "LR w A", "LR", "cifar10"),
    _gap("fig3.faster-start", "Fig. 3", "A-Hybrid is ahead of Hybrid in the first quarter of training", None,
         "Hybrid w A", "Hybrid", "cifar10", reading="early"),
    _claim("fig3.fluctuation", "Fig. 3", "ALR's loss fluctuates more than LR's", None, "% of the loss", "accuracy",
           ORDER, "accuracy:difference",
           {"setting": "cifar10", "first": "LR w A", "second": "LR", "reading": "fluctuation"}, budget="long"),
    _claim("fig1.accuracy", "Fig. 1", "five times the copies raise LR's accuracy", 19.9, POINTS, "accuracy", ORDER,
           "accuracy:difference",
           {"setting": "cifar100", "first": "LR", "second": "LR", "first_changes": {"copies": 10},
            "second_changes": {"copies": 2}}, budget="long"),
    _claim("tab1.levels", "Table 1", "the 12 accuracies: mean distance", 0.0, POINTS, "accuracy",
           Rule("at-most", absolute=3.0), "accuracy:table_levels", {"setting": "cifar100", "table": "table 1"},
           needs=("cifar100",), budget="long"),
    _claim("tab1.average-gain", "Table 1", "signs help LR, ES and Hybrid on average", 16.6, POINTS, "accuracy", ORDER,
           "accuracy:average_gain",
           {"setting": "cifar100", "pairs": (("LR w A", "LR"), ("ES w A", "ES"), ("Hybrid w A", "Hybrid"))},
           budget="long"),
    _claim("tab1.bp-over-a-hybrid", "Table 1", "A-Hybrid is nearly as good as BP: BP minus A-Hybrid", 0.3, POINTS,
           "accuracy", Rule("at-most", absolute=1.0), "accuracy:difference",
           {"setting": "cifar100", "first": "BP", "second": "Hybrid w A", "signs": True}, budget="long"),
    *_TABLE_1,
    _claim("tab2.levels", "Table 2", "the 12 accuracies: mean distance", 0.0, POINTS, "accuracy",
           Rule("at-most", absolute=3.0), "accuracy:table_levels", {"setting": "tiny-imagenet", "table": "table 2"},
           needs=("tiny-imagenet",), budget="long"),
    _claim("tab2.bp-over-a-hybrid", "Table 2", "A-Hybrid with 4x the copies is nearly as good as BP", 1.5, POINTS,
           "accuracy", Rule("at-most", absolute=1.0), "accuracy:difference",
           {"setting": "tiny-imagenet", "first": "BP", "second": "Hybrid w A", "signs": True}, budget="long"),
    *_TABLE_2,
    _claim("tab3.levels", "Table 3", "accuracies of LSTM, GAT and SNN", None, "%",
           "accuracy", ORDER,
           missing="the table's cells are a picture that is not in the text at hand; only its average gain is"),
    _claim("tab3.average-gain", "Table 3", "on LSTM, GAT and SNN ALR is as good as LR: mean ALR minus LR", 0.8, POINTS,
           "accuracy", Rule("at-least", absolute=2.0), "accuracy:over_settings",
           {"settings": ("ag-news", "cora", "fashion-mnist"), "first": "LR w A", "second": "LR"}, budget="long"),
)  # fmt: skip

ALR_CLAIMS = (*SCHEDULE, *SPEED, *MEMORY, *GRADIENT, *ACCURACY)
