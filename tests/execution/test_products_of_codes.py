"""Gradients of stored codes: the kernels' products are what the decoded codes give, in a fraction of the memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from alrsim.estimators.kernels.product import PRODUCTS
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape
from alrsim.execution.executor import prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.kernels.products import spread_out, squeeze
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions

INT8, SIGN1, REGENERATED = Precision.INT8, Precision.SIGN1, Precision.REGENERATED


@examples(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 70),
    features=st.integers(1, 5),
    kind=st.sampled_from(["binary", "bipolar", "ternary"]),
    linear=st.booleans(),
)
def test_squeezed_bits_come_back_and_take_one_bit_each(rows, features, kind, linear):
    generator = torch.Generator().manual_seed(rows)
    low, high = {"binary": (0, 2), "bipolar": (0, 2), "ternary": (-1, 2)}[kind]
    if linear:
        shape, value = LinearShape(features, 3), torch.randint(low, high, (rows, features), generator=generator)
        length = rows
    else:
        shape = ConvShape(features, 3, (5, 7), (3, 3), (1, 1), (1, 1), (1, 1))
        value, length = torch.randint(low, high, (rows, features, 5, 7), generator=generator), 35
    value = 2 * value - 1 if kind == "bipolar" else value
    state = PRODUCTS["packed"].keep_input(value.to(torch.int8), shape, kind)
    operand = squeeze(state, length)
    bits = value.numel() * (2 if kind == "ternary" else 1)
    assert operand.nbytes == -(-bits // 8)
    back = spread_out(operand)
    assert torch.equal(back.data, state.data)
    assert (back.kind, back.rows) == (state.kind, state.rows)


CODES = [
    ("sign", INT8, INT8),
    ("sign", SIGN1, SIGN1),
    ("sign", INT8, REGENERATED),
    ("sign", SIGN1, INT8),
    ("threshold", INT8, INT8),
    ("threshold", SIGN1, SIGN1),
    ("threshold", SIGN1, REGENERATED),
    ("plain", INT8, INT8),
    ("plain", SIGN1, SIGN1),
]


def both_ways(one, monkeypatch, **case):
    """Gradients by the kernels on the stored codes, and by decoding the same codes."""
    options = RuleOptions(microbatches=2, copies=4, **case)
    graph, batch, numbers = RULES["lr"](one.stages, options), one.batch(2), Settings(sigma=0.05, seed=3)
    job = prepare(one.program, graph, batch, options, numbers).job
    fast = sequential(one.program, graph, batch, options, numbers).gradients
    monkeypatch.setattr("alrsim.execution.job.stage_products", lambda *_: {})
    slow = sequential(one.program, graph, batch, options, numbers).gradients
    monkeypatch.undo()
    return job, fast, slow


@pytest.mark.parametrize(("input_code", "saved", "noise"), CODES)
@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
@pytest.mark.parametrize("model", ["mlp", "resnet5"])
def test_the_product_of_codes_is_that_of_the_decoded_codes(
    subject, monkeypatch, model, baseline, input_code, saved, noise
):
    sizes = {"hidden": 8, "features": 12} if model == "mlp" else {"width": 4, "image_size": 16}
    one = subject(model, "layer", 3, **sizes)
    job, fast, slow = both_ways(
        one,
        monkeypatch,
        baseline=baseline,
        input_code=input_code,
        noise_code="sign",
        precision=PrecisionPlan(saved=saved, noise=noise),
    )
    assert len(job.products) >= 2
    for stage, product in job.products.items():
        # The kernels round a row's loss weight: to 127 levels, or packed and linear to 7.
        linear = isinstance(product.shape, LinearShape)
        levels = 7 if linear and product.kernel.name != "int8" else 127
        for name in one.program.at(1)[stage].parameters:
            error = float((fast[name] - slow[name]).norm() / slow[name].norm())
            assert error < 1.5 / levels, name
    rest = set(fast) - {name for stage in job.products for name in one.program.at(1)[stage].parameters}
    assert all(torch.equal(fast[name], slow[name]) for name in rest)


def test_rademacher_noise_is_a_sign_without_a_code(subject, monkeypatch):
    one = subject("resnet5", "layer", 3, width=4, image_size=16)
    plan = PrecisionPlan(saved=SIGN1, noise=SIGN1)
    job, fast, slow = both_ways(one, monkeypatch, noise="rademacher", input_code="threshold", precision=plan)
    assert job.products
    for name, value in fast.items():
        assert float((value - slow[name]).norm()) < 0.2 * float(slow[name].norm())


def test_nothing_is_decoded(subject, monkeypatch):
    one = subject("resnet5", "layer", 3, width=4, image_size=16)
    options = RuleOptions(
        copies=4, input_code="sign", noise_code="sign", precision=PrecisionPlan(saved=SIGN1, noise=SIGN1)
    )
    graph = RULES["lr"](one.stages, options)

    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("alrsim.execution.kernels.coding.decode", refuse)
    monkeypatch.setattr("alrsim.execution.kernels.noising.decode", refuse)
    done = sequential(one.program, graph, one.batch(1), options)
    assert all(bool(value.abs().sum() > 0) for value in done.gradients.values())


@pytest.mark.parametrize(("saved", "share"), [(INT8, 4), (SIGN1, 32)])
@pytest.mark.parametrize("input_code", ["sign", "threshold"])
def test_state_is_a_fraction_of_fp32_and_as_large_as_predicted(subject, saved, share, input_code):
    one = subject("resnet5", "layer", 3, width=4, image_size=16)

    def kept(plan, **codes):
        options = RuleOptions(copies=8, precision=plan, **codes)
        graph = RULES["lr"](one.stages, options)
        entries = prepare(one.program, graph, one.batch(1), options).ledger.entries
        mine = {key: entry.bytes for key, entry in entries.items() if key[0] in ("code", "noise")}
        predicted = sum(b.bytes for b in graph.buffers if b.name.endswith((":code", ":noise")))
        return mine, predicted

    coded, predicted = kept(PrecisionPlan(saved=saved, noise=saved), input_code=input_code, noise_code="sign")
    scales = 4 * 8  # one fp32 factor per copy
    assert predicted <= sum(coded.values()) <= predicted + scales * len(coded)
    exact, _ = kept(PrecisionPlan(saved=Precision.BF16))
    for key, size in coded.items():
        full = exact[key] * (1 if key[0] == "noise" else 2)
        assert full // share <= size <= full // share + scales


def test_loss_weights_of_few_bits_cost_little(subject):
    """Facts 5.6: int8 changes nothing that matters, int4 little."""
    one = subject("mlp", "layer", 12, hidden=16, features=12)
    options = RuleOptions(copies=40)
    graph, batch = RULES["lr"](one.stages, options), one.batch(1)
    found = {}
    for code in ("fp32", "int8", "int4"):
        numbers = Settings(sigma=0.02, seed=1, weight_code=code)
        done = sequential(one.program, graph, batch, options, numbers).gradients
        found[code] = torch.cat([value.flatten() for value in done.values()])
    cosine = {code: float(torch.cosine_similarity(found["fp32"], found[code], 0)) for code in ("int8", "int4")}
    assert cosine["int8"] > 0.9995
    assert 0.95 < cosine["int4"] < cosine["int8"]


def test_the_kernel_is_chosen_once_per_case_and_process(subject, monkeypatch):
    one = subject("mlp", "layer", 3, hidden=8, features=12)
    options = RuleOptions(
        copies=4, input_code="sign", noise_code="sign", precision=PrecisionPlan(saved=INT8, noise=INT8)
    )
    graph = RULES["lr"](one.stages, options)
    first = prepare(one.program, graph, one.batch(1), options).job.products

    def refuse(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("alrsim.execution.kernels.products.choose", refuse)
    second = prepare(one.program, graph, one.batch(1), options).job.products
    assert {stage: one.kernel.name for stage, one in first.items()} == {s: p.kernel.name for s, p in second.items()}


@pytest.mark.parametrize("input_code", ["threshold", "sign-scaled"])
@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
@pytest.mark.parametrize(("model", "cut"), [("mlp", "layer"), ("resnet5", "layer"), ("mlp", "operator")])
def test_the_models_own_input_is_multiplied_as_it_is(subject, model, cut, baseline, input_code):
    """It is the same for all copies, so that their noise is summed first."""
    sizes = {"hidden": 8, "features": 12} if model == "mlp" else {"width": 4, "image_size": 16}
    one = subject(model, cut, 3, **sizes)
    found = []
    for code in (input_code, "plain"):
        options = RuleOptions(copies=4, baseline=baseline, input_code=code)
        graph = RULES["lr"](one.stages, options)
        prepared = prepare(one.program, graph, one.batch(1), options)
        found.append(sequential(one.program, graph, one.batch(1), options).gradients)
        if code != "plain":
            assert not [key for key in prepared.ledger.entries if key[:2] == ("code", 0)]
    for name in one.program.at(1)[0].parameters:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)
