"""Every kernel of the weighted product against an fp64 reference that knows nothing of taps or bits."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from alrsim.compiled import machine_code
from alrsim.errors import ExecutionError, OptionError
from alrsim.estimators.kernels import int8, packed, threads
from alrsim.estimators.kernels.machine import vnni
from alrsim.estimators.kernels.product import PRODUCTS, product
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape
from alrsim.estimators.kernels.state import quantise

CASES = {
    "linear": LinearShape(13, 11),
    "linear over tokens": LinearShape(9, 17, 5),
    "one feature": LinearShape(1, 1),
    "conv 3x3 same": ConvShape(3, 8, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "conv odd plane": ConvShape(5, 7, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "conv 17 outputs": ConvShape(2, 17, (12, 12), (3, 3), (1, 1), (1, 1), (1, 1)),
    "conv valid": ConvShape(4, 6, (7, 10), (3, 2), (1, 1), (0, 0), (1, 1)),
    "conv stride, dilation": ConvShape(3, 5, (13, 9), (3, 3), (2, 1), (2, 1), (1, 2)),
    "conv groups": ConvShape(6, 9, (6, 7), (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "conv depthwise stride": ConvShape(4, 4, (9, 9), (3, 3), (2, 2), (1, 1), (1, 1), 4),
    "conv 1x1": ConvShape(10, 3, (5, 5), (1, 1), (1, 1), (0, 0), (1, 1)),
    "conv padding wider than the plane": ConvShape(2, 3, (3, 2), (5, 5), (1, 1), (4, 4), (1, 1)),
    "conv 1d": ConvShape(3, 4, (70,), (5,), (1,), (2,), (1,)),
    "conv 3d": ConvShape(2, 3, (4, 5, 6), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
KINDS = ("real", "int8", "ternary", "bipolar", "binary")
COPIES, SAMPLES = 3, 5


@pytest.fixture(autouse=True)
def _one_thread_of_torch():
    """Threads are what a kernel is asked to use; torch's own spin, which makes small products slow on a busy host."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sizes(shape):
    if isinstance(shape, LinearShape):
        middle = (shape.positions,) if shape.positions > 1 else ()
        return (*middle, shape.inputs), (*middle, shape.outputs)
    return (shape.inputs, *shape.size), (shape.outputs, *shape.out_size)


def operands(shape, kind, noise, copies=COPIES, samples=SAMPLES):
    generator = torch.Generator().manual_seed(7)
    ins, outs = sizes(shape)

    def values(kind, size):
        if kind == "real":
            return torch.randn(size, generator=generator)
        low, high = {"int8": (-127, 128), "ternary": (-1, 2)}.get(kind, (0, 2))
        whole = torch.randint(low, high, size, generator=generator)
        return (2 * whole - 1 if kind == "bipolar" else whole).float()

    x = values(kind, (copies * samples, *ins))
    e = values("bipolar" if noise == "sign" else "real", (copies * samples, *outs))
    return x, e, torch.randn(copies, samples, generator=generator)


def reference(x, e, weights, shape):
    """The gradient of ``sum w e f(x)`` with respect to the weight and the bias, by autograd in fp64."""
    weight = torch.zeros(shape.weight, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(shape.outputs, dtype=torch.float64, requires_grad=True)
    x, e = x.double(), e.double()
    if isinstance(shape, LinearShape):
        y = F.linear(x, weight, bias)
    else:
        function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(shape.size)]
        y = function(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)
    factors = weights.double().reshape(-1, *(1,) * (y.dim() - 1))
    return torch.autograd.grad((y * e * factors).sum(), [weight, bias])


def kept(kernel, x, e, shape, kind, noise):
    return kernel.keep_input(x, shape, kind), kernel.keep_noise(e, shape, noise)


def packed_weights(weights, shape):
    """What packed bits multiply by: 4 bits for linear maps; for small planes rows in groups that share a mean size."""
    if isinstance(shape, LinearShape):
        whole, scale = quantise(weights, 2**packed.PLANES - 1)
        return whole.double() * scale
    plan = packed._plan(weights, shape)
    if plan.group == 1:
        return weights.double()
    flat = weights.reshape(-1).double()
    found = torch.empty_like(flat)
    found[torch.from_numpy(plan.order)] = torch.from_numpy(plan.weights).repeat_interleave(plan.group)[: len(flat)]
    return (found * torch.where(flat < 0, -1.0, 1.0)).view(weights.shape)


def seen_weights(name, weights, shape):
    """The weights that a kernel multiplies by, as its contract states them."""
    if name in ("packed", "int8-bits"):
        return packed_weights(weights, shape)
    if name != "int8":
        return weights.double()
    whole, scale = quantise(weights, 127)
    return whole.double() * scale


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_autograd_in_fp64_within_its_bound(name, case):
    kernel, shape = PRODUCTS[name], CASES[case]
    tried = 0
    for kind in KINDS:
        for noise in ("real", "sign"):
            if not kernel.takes(kind, noise):
                continue
            tried += 1
            x, e, weights = operands(shape, kind, noise)
            left, right = kept(kernel, x, e, shape, kind, noise)
            exact, _ = reference(x, e, seen_weights(name, weights, shape), shape)
            size, _ = reference(x.abs(), e.abs(), weights.abs(), shape)
            found = kernel.multiply(left, right, weights, shape, 1)
            assert found.dtype == torch.float32
            assert found.shape == shape.weight
            assert bool(((found - exact).abs() <= kernel.bound * size).all()), (kind, noise)
            if name in ("int8", "int8-bits", "packed"):
                assert torch.equal(kernel.multiply(left, right, weights, shape, 2), found)
    assert tried


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("case", ["linear", "linear over tokens", "conv odd plane", "conv groups", "conv 1d"])
def test_the_bias_gradient_agrees_too(name, case):
    kernel, shape = PRODUCTS[name], CASES[case]
    x, e, weights = operands(shape, "binary", "sign")
    _, right = kept(kernel, x, e, shape, "binary", "sign")
    linear = isinstance(shape, LinearShape)
    used = seen_weights(name, weights, shape) if name == "packed" and linear else weights
    _, exact = reference(x, e, used, shape)
    _, size = reference(x, e.abs(), weights.abs(), shape)
    assert bool(((kernel.bias(right, weights, shape) - exact).abs() <= 2.0**-20 * size).all())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["int8", "ternary", "bipolar", "binary"])
def test_integer_kernels_are_exact_before_rescaling(case, kind):
    shape = CASES[case]
    x, e, weights = operands(shape, kind, "sign")
    whole, _ = quantise(weights, 127)
    exact, _ = reference(x, e, whole, shape)
    left, right = kept(PRODUCTS["int8"], x, e, shape, kind, "sign")
    assert torch.equal(int8.sums(left, right, whole, shape).double(), exact)
    if not PRODUCTS["packed"].takes(kind, "sign"):
        return
    left, right = kept(PRODUCTS["packed"], x, e, shape, kind, "sign")
    if isinstance(shape, LinearShape):
        whole, _ = quantise(weights, 7)
        exact, _ = reference(x, e, whole, shape)
        assert torch.equal(packed.linear_sums(left, right, whole, shape), exact)
    else:
        # Integers that a group of rows shares stay integers; others are its mean.
        equal = whole.abs().max().expand(whole.shape) * whole.sign()
        for used in (whole, equal):
            seen = packed_weights(used, shape)
            exact, _ = reference(x, e, seen, shape)
            found = packed.convolution_sums(left, right, used, shape)
            assert torch.equal(found, exact) or not torch.equal(seen, used)
            assert torch.allclose(found, exact, rtol=0, atol=1e-9)


def test_long_sums_cross_word_and_block_boundaries():
    for shape in (LinearShape(70, 9), ConvShape(2, 9, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1))):
        x, e, weights = operands(shape, "bipolar", "sign", copies=5, samples=901)
        for name in ("int8", "packed", "int8-bits", "fp32"):
            left, right = kept(PRODUCTS[name], x, e, shape, "bipolar", "sign")
            exact, _ = reference(x, e, seen_weights(name, weights, shape), shape)
            size, _ = reference(x.abs(), e.abs(), weights.abs(), shape)
            error = (PRODUCTS[name].multiply(left, right, weights, shape, 2) - exact).abs()
            assert bool((error <= PRODUCTS[name].bound * size).all())


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("conv")])
def test_a_processor_without_byte_products_gives_the_same_integers(case, monkeypatch):
    shape = CASES[case]
    x, e, weights = operands(shape, "int8", "sign", copies=4, samples=31)
    whole, _ = quantise(weights, 127)
    left, right = kept(PRODUCTS["int8"], x, e, shape, "int8", "sign")
    found = int8.sums(left, right, whole, shape, threads=2)
    monkeypatch.setattr(vnni, "available", lambda: False)
    assert torch.equal(int8.sums(left, right, whole, shape, threads=2), found)
    exact, _ = reference(x, e, whole, shape)
    assert torch.equal(found.double(), exact)


@pytest.mark.parametrize("kind", ["ternary", "bipolar", "binary"])
@pytest.mark.parametrize(
    "shape",
    [
        ConvShape(3, 9, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvShape(9, 17, (2, 2), (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvShape(4, 6, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), 2),
        ConvShape(2, 5, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvShape(2, 5, (5, 3), (3, 1), (1, 1), (0, 0), (1, 1)),
        ConvShape(2, 5, (4, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
        ConvShape(2, 3, (20, 4), (13, 1), (1, 1), (0, 0), (1, 1)),
    ],
    ids=lambda shape: f"{shape.inputs}-{shape.outputs} at {shape.size}",
)
@pytest.mark.parametrize("samples", [9, 97, 331])
def test_small_planes_share_weights_in_groups_of_rows(shape, kind, samples):
    """Every sum is that of the weights that the kernel says it uses, and these are close to the ones it was given."""
    x, e, weights = operands(shape, kind, "sign", copies=3, samples=samples)
    left, right = kept(PRODUCTS["packed"], x, e, shape, kind, "sign")
    seen = packed_weights(weights, shape)
    exact, _ = reference(x, e, seen, shape)
    found = packed.convolution_sums(left, right, weights, shape, threads=2)
    assert torch.allclose(found, exact, rtol=0, atol=1e-8)
    assert bool((seen.sign() == weights.sign()).all())
    error = float((seen - weights).norm() / weights.norm())
    assert error < 0.08
    if 3 * samples < 2 * packed.GROUPS or shape.stride != (1, 1) or shape.size == (20, 4):
        assert torch.equal(seen, weights.double())
    else:
        assert error > 0
        assert len(seen.abs().unique()) >= packed.GROUPS


def test_int32_does_not_overflow():
    shape, rows = LinearShape(17, 17), 300_000
    x = torch.full((rows, 17), 127.0)
    e = torch.ones(rows, 17)
    left, right = kept(PRODUCTS["int8"], x, e, shape, "int8", "sign")
    total = int8.sums(left, right, torch.full((1, rows), 127), shape)
    assert bool((total == rows * 127 * 127).all())
    assert rows * 127 * 127 > 2**31
    assert int8.longest_sum("int8") * 127 * 127 < 2**31 <= (int8.longest_sum("int8") + 1) * 127 * 127
    assert int8.longest_sum("binary") * 127 < 2**31


def test_int32_does_not_overflow_inside_one_plane():
    shape = ConvShape(1, 1, (400, 400), (1, 1), (1, 1), (0, 0), (1, 1))
    x, e = torch.full((1, 1, 400, 400), 127.0), torch.ones(1, 1, 400, 400)
    left, right = kept(PRODUCTS["int8"], x, e, shape, "int8", "sign")
    assert int8.sums(left, right, torch.full((1, 1), 127), shape).item() == 160_000 * 127 * 127 > 2**31


@pytest.mark.parametrize("name", PRODUCTS)
def test_zeros_stay_zero(name):
    kernel, shape = PRODUCTS[name], CASES["conv 3x3 same"]
    x, e, weights = operands(shape, "binary", "sign")
    left, right = kept(kernel, torch.zeros_like(x), e, shape, "binary", "sign")
    assert not kernel.multiply(left, right, weights, shape, 1).any()
    left, right = kept(kernel, x, e, shape, "binary", "sign")
    assert not kernel.multiply(left, right, torch.zeros_like(weights), shape, 1).any()


def test_packed_state_is_32_times_smaller_than_fp32_and_int8_4_times():
    shape = ConvShape(8, 16, (32, 32), (3, 3), (1, 1), (1, 1), (1, 1))
    x, e, _ = operands(shape, "binary", "sign")
    bytes_of = {name: sum(s.nbytes for s in kept(PRODUCTS[name], x, e, shape, "binary", "sign")) for name in PRODUCTS}
    assert bytes_of["fp32"] == 32 * bytes_of["packed"] == 4 * bytes_of["int8"] == 2 * bytes_of["bf16"]


def test_a_loss_that_is_not_finite_is_refused():
    shape = CASES["linear"]
    x, e, weights = operands(shape, "binary", "sign")
    weights[0, 0] = float("nan")
    for name in ("int8", "packed"):
        left, right = kept(PRODUCTS[name], x, e, shape, "binary", "sign")
        with pytest.raises(ExecutionError, match="not finite"):
            PRODUCTS[name].multiply(left, right, weights, shape, 1)


def test_unknown_and_unfit_kernels_are_refused_with_a_choice():
    with pytest.raises(OptionError, match="'fast'") as caught:
        product("fast", "binary", "sign")
    assert "packed" in caught.value.fix
    with pytest.raises(OptionError, match="cannot multiply real input by sign noise") as caught:
        product("packed", "real", "sign")
    assert caught.value.fix.startswith("choose one of fp32, paper, bf16,")


def test_compiled_loops_survive_without_a_cache_folder(monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def double(value):
        return 2 * value

    compiled = machine_code(double)
    assert compiled(21) == 42
    assert type(compiled._cache).__name__ == "NullCache"


def test_every_job_runs_once_and_an_error_arrives():
    done = []
    threads.run_all([partial(done.append, i) for i in range(50)], 3)
    assert sorted(done) == list(range(50))

    def fail():
        raise ValueError("in a helper or here")

    with pytest.raises(ValueError, match="in a helper or here"):
        threads.run_all([fail] * 3, 3)


def test_work_is_split_without_gaps():
    for count in (0, 1, 2, 7, 64):
        for many in (1, 2, 3, 100):
            runs = threads.split(count, many)
            assert [i for low, high in runs for i in range(low, high)] == list(range(count))
            assert len(runs) <= max(1, many)


@pytest.mark.parametrize("rows", [1, 2, 17])
@pytest.mark.parametrize("columns", [1, 2, 17])
@pytest.mark.parametrize("inner", [1, 15, 300])
def test_integer_matrix_products_are_right_for_every_stride(rows, columns, inner):
    generator = torch.Generator().manual_seed(3)
    left = torch.randint(-127, 128, (rows, inner), generator=generator).to(torch.int8)
    right = torch.randint(-127, 128, (inner, columns), generator=generator).to(torch.int8)
    exact = left.long() @ right.long()
    for one in (left, left.T.contiguous().T, left.as_strided(left.shape, (0, 1)) if rows == 1 else left):
        for two in (right, right.T.contiguous().T):
            assert torch.equal(int8.int_mm(one, two).long(), exact)
