"""The rules predict the bytes that the executor keeps for estimated gradients: noise, codes and values."""

from collections import Counter

import pytest
import torch

from alrsim.execute.executor import Batch, prepare
from alrsim.execute.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.taskgraph import Category

CELL = {"vocabulary": 20, "embedding": 6, "hidden": 8, "sequence": 4}
FP32 = PrecisionPlan()
DRAWN_AGAIN = PrecisionPlan(noise=Precision.REGENERATED)
BYTES = PrecisionPlan(noise=Precision.INT8)
CASES = {
    "es": ("mlp", "layer", {"weight_noise": (0, 1, 2)}),
    "es of signs": ("mlp", "layer", {"weight_noise": (0, 1, 2), "precision": BYTES, "noise_code": "sign"}),
    "es drawn again": ("mlp", "layer", {"weight_noise": (0, 1, 2), "precision": DRAWN_AGAIN}),
    "hybrid": ("resnet5", "layer", {"weight_noise": (0, 1)}),
    "hybrid pairs": ("mlp", "layer", {"weight_noise": (0,), "baseline": "antithetic", "group": 2}),
    "layer-wise hybrid": ("mlp", "layer", {"weight_noise": (0,), "scope": "layerwise", "reduction": "accumulate"}),
    "copies of their own": ("mlp", "layer", {"scope": "layerwise", "stage_copies": (2, 4, 2), "group": 2}),
    "blocks": ("resnet5", "block", {}),
    "blocks, layer-wise": ("resnet5", "block", {"scope": "layerwise", "reduction": "accumulate"}),
    "marks": ("gru", "block", {"noise": "state"}),
    "marks, layer-wise": ("rnn", "block", {"noise": "gates", "scope": "layerwise", "group": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_stored_noise_and_kept_inputs_take_the_bytes_that_the_rules_say(subject, case):
    name, cut, changes = CASES[case]
    model = {**CELL, "noise": changes["noise"]} if name in ("gru", "rnn") else {}
    made = subject(name, cut, **model)
    chosen = {key: value for key, value in changes.items() if key != "noise"}
    options = RuleOptions(microbatches=2, copies=4, **chosen)
    tasks = RULES["lr"](made.stages, options)
    samples = made.program.batch * 2
    batch = Batch(tuple(made.model.example(samples)), torch.arange(samples) % made.model.classes)
    prepared = prepare(made.program, tasks, batch, options, Settings(sigma=0.1))
    predicted: Counter[str] = Counter()
    for buffer in tasks.buffers:
        what = buffer.name.rpartition(":")[2]
        if buffer.category is Category.NOISE or what in ("code", "saved", "losses"):
            predicted[what] += buffer.bytes
        elif buffer.accumulator.endswith(tuple(f"cotangent{m}" for m in range(2))) and buffer.rank == 0:
            predicted["cotangent"] += buffer.bytes
    found: Counter[str] = Counter()
    for key, entry in prepared.ledger.entries.items():
        if key[0] in ("noise", "code", "saved", "loss"):
            found["losses" if key[0] == "loss" else str(key[0])] += entry.bytes
    for key, total in prepared.ledger.sums.items():
        if key[0] == "cotangent":
            found["cotangent"] += total.terms[0][1]
    if options.precision.noise is Precision.INT8:  # an fp32 factor per draw and tensor, too little to plan with
        draws = sum(one.draws for one in prepared.job.instances.noisy)
        found["noise"] -= 2 * 4 * draws * sum(len(code.parameters) for code in made.program.at(1))
    assert {k: v for k, v in found.items() if v} == {k: v for k, v in predicted.items() if v}
