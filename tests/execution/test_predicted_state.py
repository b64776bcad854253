"""The rules predict the bytes that the executor keeps for estimated gradients: noise, codes and values."""

import pytest
import torch

from alrsim.execution.executor import Batch, prepare
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.token import TaskId

CELL = {"vocabulary": 20, "embedding": 6, "hidden": 8, "sequence": 4}
DRAWN_AGAIN = PrecisionPlan(noise=Precision.REGENERATED)
NOISE_BYTES = PrecisionPlan(noise=Precision.INT8)
BYTES = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
BITS = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1)
THRESHOLD = {"input_code": "threshold", "noise_code": "sign"}
CASES = {
    "es": ("mlp", "layer", {"weight_noise": (0, 1, 2)}),
    "es of signs": ("mlp", "layer", {"weight_noise": (0, 1, 2), "precision": NOISE_BYTES, "noise_code": "sign"}),
    "es drawn again": ("mlp", "layer", {"weight_noise": (0, 1, 2), "precision": DRAWN_AGAIN}),
    "hybrid": ("resnet5", "layer", {"weight_noise": (0, 1)}),
    "hybrid pairs": ("mlp", "layer", {"weight_noise": (0,), "baseline": "antithetic", "group": 2}),
    "layer-wise hybrid": ("mlp", "layer", {"weight_noise": (0,), "scope": "layerwise", "reduction": "accumulate"}),
    "copies of their own": ("mlp", "layer", {"scope": "layerwise", "stage_copies": (2, 4, 2), "group": 2}),
    "blocks": ("resnet5", "block", {}),
    "blocks, layer-wise": ("resnet5", "block", {"scope": "layerwise", "reduction": "accumulate"}),
    "threshold": ("mlp", "layer", {**THRESHOLD, "noise": "rademacher", "reduction": "accumulate", "precision": BITS}),
    "threshold of noisy copies": ("resnet5", "layer", {**THRESHOLD, "noise": "rademacher", "precision": BITS}),
    "threshold of signed copies": ("resnet5", "block", {**THRESHOLD, "noise": "rademacher", "precision": BITS}),
    "scaled signs": ("resnet5", "layer", {"input_code": "sign-scaled", "noise_code": "sign", "precision": BYTES}),
    "signs": ("resnet5", "layer", {"input_code": "sign", "noise_code": "sign", "precision": BYTES}),
    "marks": ("gru", "block", {"noise": "state"}),
    "marks, layer-wise": ("rnn", "block", {"noise": "gates", "scope": "layerwise", "group": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_stored_noise_and_kept_inputs_take_the_bytes_that_the_rules_say(subject, case):
    name, cut, changes = CASES[case]
    cell = name in ("gru", "rnn")
    made = subject(name, cut, **({**CELL, "noise": changes["noise"]} if cell else {}))
    chosen = {key: value for key, value in changes.items() if key != "noise" or not cell}
    options = RuleOptions(microbatches=2, copies=4, **chosen)
    tasks = RULES["lr"](made.stages, options)
    samples = made.program.batch * 2
    batch = Batch(tuple(made.model.example(samples)), torch.arange(samples) % made.model.classes)
    ledger = prepare(made.program, tasks, batch, options, Settings(sigma=0.1)).ledger
    predicted = {
        buffer.name: buffer.bytes
        for buffer in tasks.buffers
        if buffer.name.endswith((":noise", ":code", ":saved", ":losses", ":cotangent")) and buffer.rank == 0
    }
    found: dict[str, int] = {}
    for key, entry in ledger.entries.items():
        if key[0] in ("noise", "code", "saved"):
            found[f"{TaskId(key[1], 'F', *key[2:])}:{key[0]}"] = entry.bytes
        if key[0] == "loss":
            found[f"{TaskId(len(made.stages.stages), 'L', *key[1:])}:losses"] = entry.bytes
    for key, total in ledger.sums.items():
        if key[0] == "cotangent":
            task, size = total.terms[0]
            found[f"{tasks.tasks[task].id}:cotangent"] = size
    assert {name for name, size in found.items() if size} == {name for name, size in predicted.items() if size}
    for name, size in predicted.items():
        if options.signs and name.endswith(("noise", "code")):  # an fp32 factor per copy and tensor, up to two tensors
            assert 0 <= found[name] - size <= 2 * 4 * 4
        elif size:
            assert found[name] == size
