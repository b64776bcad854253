# ruff: noqa: E501 - a table is read by its lines
"""The net's cases: name -> what is typed after ``alrsim``.

``{inputs}`` is the checked-in folder beside this file, ``{traces}`` the recorded runs, ``{tmp}`` an empty folder of the
case, and ``{made}/NAME`` a file that the command makes first, as :data:`MADE` says. ``--json -`` is added to every line.

Left out: `calibrate`, `validate` and `demo` say only what was measured; of `execute` only what no clock decides is kept
(:data:`ONLY`); of `reproduce` only the claims whose measurement is a count or a formula, and quick.
Searches stop by the work they did; the guard by the clock is set out of reach of a busy host (`time_limit`).
"""

MADE: dict[str, str] = {
    "mlp.json": "graph mlp --batch 8 -o {made}/mlp.json",
    "resnet5.json": "graph resnet5 --batch 8 -o {made}/resnet5.json",
    "mlp.onnx": "export mlp --batch 8 -o {made}/mlp.onnx",
    "zb.json": "schedule {made}/mlp.json --method bp:zb-h1 --units 2 --hardware h100 -o {made}/zb.json",
    "alr.json": "schedule {made}/mlp.json --method alr:lr-free --copies 2 --units 2 -o {made}/alr.json",
    "gpipe.csv": "schedule {made}/mlp.json --method bp:gpipe --units 2 --no-loss --no-update -o {made}/gpipe.csv",
    "suggested.json": (
        "gradcheck mlp --option hidden=8 --batch 4 --copies 2,4 --draws 2 --scope layerwise --suggest 0.5"
        " -o {made}/suggested.json"
    ),
}
"""Files that cases need, in the form of whatever version runs: only their content is held fast, by the cases."""

_ALL_BP = "bp:gpipe,bp:1f1b,bp:zb-h1,bp:interleaved-1f1b,bp:zb-v"
_ALL_LR = "lr:lr-fixed,lr:lr-free,alr:lr-free"
_SOME = "bp:1f1b,bp:zb-h1,lr:lr-free,alr:lr-fixed"
_TRAIN = "train mlp --option hidden=8 --batch 10 --steps 4 --eval-every 2"
_GRADCHECK = "gradcheck mlp --option hidden=8 --batch 4 --draws 2"
_TEXTBOOK = "--durations f=1,b=1,w=1,transfer=1/4"

CASES: dict[str, str] = {
    # graph
    "graph mlp": "graph mlp --operators",
    "graph resnet5": "graph resnet5 --batch 4",
    "graph vgg8 group norm": "graph vgg8 --batch 2 --option norm=group",
    "graph lstm": "graph lstm --batch 2",
    "graph gat": "graph gat",
    "graph snn": "graph snn --batch 2",
    "graph of a factory": "graph {inputs}/model.py:make --batch 4",
    "graph of onnx": "graph {made}/mlp.onnx",
    # stages
    "stages balanced": "stages {made}/resnet5.json --cut balanced:3",
    "stages layer": "stages {made}/mlp.json --cut layer --microbatches 4",
    "stages block": "stages {made}/mlp.json --cut block",
    "stages names": "stages {made}/mlp.json --cut names:node_linear_1",
    # schedule
    "schedule 1f1b": "schedule mlp --units 2",
    "schedule zb-v": "schedule {made}/resnet5.json --method bp:zb-v --units 2 --hardware h100 -m 6",
    "schedule alr free": "schedule {made}/resnet5.json --method alr:lr-free --units 3 --hardware h100 --copies 4 --group 2",
    "schedule heft": "schedule {made}/mlp.json --method bp:heft --hardware hetero-h100-l4-cpu --search time_limit=3600",
    "schedule local search": "schedule {made}/mlp.json --method lr:local-search --units 2 --hardware h100 --search seed=1 --search placement=stages --search time_limit=3600",
    "schedule cpsat": "schedule {made}/mlp.json --method bp:cpsat --units 2 --hardware h100 -m 2 --search time_limit=3600",
    "schedule suggested estimators": "schedule mlp --option hidden=8 --method lr:lr-free --estimators {made}/suggested.json --units 2 --batch 16",
    # simulate
    "simulate zb-h1": "simulate {made}/mlp.json --method bp:zb-h1 --units 2 --hardware h100",
    "simulate lr free": "simulate {made}/mlp.json --method lr:lr-free --units 2 --copies 2 --baseline antithetic",
    "simulate a file": "simulate {made}/zb.json {made}/mlp.json --units 2 --hardware h100",
    "simulate a file of alr": "simulate {made}/alr.json {made}/mlp.json --signs --units 2",
    "simulate a csv": "simulate {made}/gpipe.csv {made}/mlp.json --units 2",
    "simulate textbook zb-h1": f"simulate --method bp:zb-h1 --units 4 --microbatches 8 {_TEXTBOOK}",
    "simulate textbook interleaved": f"simulate --method bp:interleaved-1f1b --units 2 --stages 4 -m 4 {_TEXTBOOK}",
    "simulate textbook zb-v": f"simulate --method bp:zb-v --units 3 --stages 6 -m 6 {_TEXTBOOK}",
    "simulate textbook lr": "simulate --method lr:lr-fixed --stages 4 --units 5 --loss-unit 4 -m 3 --durations f=1,w=1,l=1,u=1",
    "simulate textbook file": "simulate {inputs}/lanes.json --durations f=1/3,b=0.1,w=1/6",
    "simulate textbook repaired": "simulate {inputs}/pytorch-1f1b.csv --durations f=1,b=1,w=1 --repair",
    "simulate textbook fused": "simulate {inputs}/fused.csv --durations f=1,b=1,w=1 --overlap 1/3",
    "simulate fast engine": f"simulate --method bp:1f1b --units 4 -m 16 --engine fast {_TEXTBOOK}",
    "simulate simpy engine": f"simulate --method bp:1f1b --units 4 -m 16 --engine simpy {_TEXTBOOK}",
    # compare
    "compare defaults": "compare mlp",
    "compare h100 every scheduler": "compare {made}/resnet5.json --hardware h100 --units 2 --copies 4 --methods "
    + f"{_ALL_BP},{_ALL_LR}",
    "compare cpu": "compare {made}/resnet5.json --hardware cpu-2core --methods " + _SOME,
    "compare hetero": "compare {made}/mlp.json --hardware hetero-h100-l4-cpu --methods bp:1f1b,bp:list,lr:lr-free,alr:lr-fixed",
    "compare two stages per unit": "compare {made}/mlp.json --units 2 --cut balanced:4 --methods bp:serial,bp:list,bp:interleaved-1f1b,bp:zb-v",
    "compare latency": "compare {made}/mlp.json --transfer-semantics latency --methods " + _SOME,
    "compare link": "compare {made}/mlp.json --transfer-semantics link --methods " + _SOME,
    "compare blocking": "compare {made}/mlp.json --transfer-semantics blocking --methods " + _SOME,
    "compare simpy": "compare {made}/mlp.json --hardware h100 --units 2 --engine simpy --methods " + _SOME,
    "compare fast": "compare {made}/mlp.json --hardware h100 --units 2 --engine fast --methods " + _SOME,
    "compare noise on parameters": (
        "compare {made}/mlp.json --hardware h100 --units 2 --copies 3"
        " --methods bp:gpipe,es:lr-fixed,aes:lr-free,hybrid:lr-free,a-hybrid:lr-fixed"
    ),
    "compare other noise, accumulated": (
        "compare {made}/mlp.json --hardware h100 --units 2 --copies 4 --reduce accumulate"
        " --methods lr-rademacher:lr-free,lr-laplace:lr-fixed,lr-hadamard:lr-fixed"
    ),
    "compare segments": "compare {made}/mlp.json --units 2 --copies 2 --cut layer --segments 1,2 --methods segments:list,segments:lr-fixed,segments:lr-free",
    "compare noise behind": "compare {made}/resnet5.json --hardware h100 --units 2 --copies 2 --inject post --methods bp:1f1b,lr:lr-fixed,alr:lr-free",
    "compare layerwise": "compare {made}/mlp.json --copies 2 --scope layerwise --methods bp:1f1b,lr:lr-free,lr:lr-fixed",
    "compare mixed formats": (
        "compare {made}/resnet5.json --hardware h100 --units 2 --copies 2 --precision"
        " params=bf16,activations=bf16,saved=int8,noise=regenerated --methods bp:1f1b,lr:lr-free,alr:lr-free"
    ),
    "compare packed signs": "compare {made}/mlp.json --hardware h100 --units 2 --precision saved=sign1,noise=sign1 --methods alr:lr-free,alr:lr-fixed",
    "compare bf16 adam": "compare {made}/mlp.json --hardware h100 --units 4 --precision bf16 --optimizer adam -m 8 --methods bp:1f1b,bp:zb-h1,lr:lr-free",
    "compare searches": "compare {made}/mlp.json --methods bp:gpipe,bp:heft,bp:local-search,bp:auto,lr:auto,lr:heft --search time_limit=3600",
    "compare lstm": "compare lstm --hardware h100 --units 2 --batch 8 --methods bp:1f1b,lr:lr-free",
    "compare gat": "compare gat --units 2 -m 1 --batch 1 --methods bp:gpipe,lr:lr-fixed",
    # plan
    "plan step time": "plan mlp --hardware h100 --units 2 --batch 8 --search time_limit=3600",
    "plan memory": "plan mlp --hardware h100 --units 2 --batch 8 --target memory --no-what-if --rules bp,lr --search time_limit=3600",
    "plan energy": "plan mlp --hardware h100 --units 2 --batch 8 --target energy --idle-power 0.3 --no-what-if --search time_limit=3600",
    "plan time to cosine": "plan mlp --target time-to-cosine --cosine 0.3 --hardware h100 --units 2 --batch 8 --rules lr,segments --noise-per-dim 0.1 --no-what-if --search time_limit=3600",
    "plan durations": "plan --durations f=1,b=1,w=0 --stages 4 --units 4 --microbatches 3 --search time_limit=3600",
    "plan durations, loss row": "plan --durations f=1,b=1,w=0,l=1,u=1 --stages 2 --units 3 --loss-unit 2 --loss-row -m 2 --search time_limit=3600",
    # explain
    "explain a model": "explain {made}/mlp.json --hardware h100 --units 2 --method bp:zb-h1",
    "explain a file": "explain {made}/alr.json {made}/mlp.json --signs --units 2",
    "explain a moment": f"explain {_TEXTBOOK} --method bp:1f1b --units 4 --unit u2 --at 6",
    "explain lr": "explain --durations f=1,w=1,u=1 --method lr:lr-free --units 3 --stages 4 -m 3",
    # sweep
    "sweep grid": "sweep {inputs}/sweep.yaml --workers 1 -o {tmp}/sweep.sqlite",
    "sweep sample": "sweep {inputs}/sweep-sample.yaml --workers 1 -o {tmp}/sweep.sqlite",
    "sweep plan": "sweep {inputs}/sweep-plan.yaml --workers 1 -o {tmp}/sweep.sqlite",
    # execute
    "execute 1f1b": "execute mlp --method bp:1f1b --units 2 --repeats 1",
    # gradcheck
    "gradcheck lr and alr": f"{_GRADCHECK} --copies 2,4,8 --seed 3",
    "gradcheck kinds of noise": (
        f"{_GRADCHECK} --copies 2,4 --scope layerwise --suggest 0.5 --methods lr,alr,es,a-hybrid,lr-hadamard"
    ),
    "gradcheck accumulated": f"{_GRADCHECK} --copies 1..4 --methods alr --reduce accumulate --noise rademacher --train-steps 2 --fresh",
    # trajectory
    "trajectory": "trajectory --steps 40 --runs 2",
    # train
    "train bp": f"{_TRAIN} -m 1",
    "train lr": f"{_TRAIN} -m 1 --method lr --copies 4 --monitor 2",
    "train lr, scheduled": f"{_TRAIN} -m 2 --method lr --copies 4 --scheduler lr-free --units 2",
    "train alr": f"{_TRAIN} -m 1 --method alr --copies 4",
    "train hybrid": f"{_TRAIN} -m 1 --method hybrid --copies 2 --optimizer sgd --direction sign",
    "train segments": f"{_TRAIN} -m 1 --method segments --segments 1 --copies 4 --precision saved=bf16,noise=regenerated",
    "train fa": f"{_TRAIN} -m 1 --method fa",
    "train hsic": f"{_TRAIN} -m 1 --method hsic",
    # the papers
    "figure2": "figure2",
    "figure2 larger": "figure2 --layers 6 --microbatches 5",
    "reproduce figure 2": "reproduce --quick --claims alr.fig2",
    "reproduce list": "reproduce --list",
    # replay
    "replay mlp": (
        "replay {traces}/mlp-m4-bp_1f1b.trace.json.gz {traces}/mlp-m4-lr_lr-free-c4.trace.json.gz"
        " {traces}/mlp-m4-alr_lr-free-c1-sign1.trace.json.gz {traces}/mlp-m16-bp_zb-h1.trace.json.gz"
    ),
    "replay resnet12": "replay {traces}/resnet12-m4-alr_lr-free-c1.trace.json.gz {traces}/resnet12-m4-bp_1f1b.trace.json.gz",
    # hardware
    "hardware list": "hardware list",
    "hardware show h100": "hardware show h100",
    "hardware show hetero": "hardware show hetero-h100-l4-cpu",
    "hardware validate cpu-2core": "hardware validate cpu-2core",
    # export
    "export mlp": "export mlp --batch 8 -o {tmp}/mlp.onnx",
    "export resnet5": "export resnet5 --batch 2 -o {tmp}/resnet5.onnx",
}

ONLY: dict[str, tuple[str, ...]] = {
    "execute 1f1b": (
        "about",
        "rule",
        "stages",
        "microbatches",
        "forwards_per_step",
        "schedule",
        "units",
        "predicted_peak_memory_bytes",
    ),
}
"""Top-level keys that are kept of documents which are otherwise measured."""

ESTIMATES = ("gradcheck", "trajectory", "train")
"""Verbs that compute with torch in fp32: another processor may round otherwise, so these are compared less strictly."""
