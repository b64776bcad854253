"""Which orderings of a published table a measurement confirms, and which layer is to blame where it does not."""

import numpy as np
import pytest

from alrsim.estimators.variance_law import copies_for, law, noise_share
from alrsim.execution.job import Settings
from alrsim.quality.curves import LAYER_MEAN, OVERALL, Curve, Quality, curve_of, quality_of
from alrsim.quality.metrics import Interval, Law
from alrsim.quality.ordering import Constants, Ordering, orderings
from alrsim.rules.options import RuleOptions

COPIES = (10, 50, 200)
PAPER = {"A": 0.4, "B": 0.3, "C": 0.1}
BUILT = {"A": "a", "B": "b", "C": "c"}


def curve(name: str, rho: float, *, kind: str = "layer", ceiling: float = 1.0, shift: float = 0.0) -> Curve:
    """A curve that follows its law exactly, up to a shift, in three draws that scatter by 0.01."""
    cosines = law(np.array(COPIES, float), rho, ceiling, 1.0) + shift + np.array([[-0.01], [0.0], [0.01]])
    fitted = None if kind == "mean" else Law(Interval(rho, rho, rho), Interval(ceiling), 1.0)
    noise = None if kind == "mean" else Interval(rho, rho, rho)
    stage = 0 if kind == "layer" else None
    more = {"noise_of_one_copy": noise, "law": fitted}
    return curve_of(kind, name, stage, 4, COPIES, cosines, **more)  # type: ignore[arg-type]


def quality(method: str, rhos: tuple[float, float], *, shift: float = 0.0, ceiling: float = 1.0) -> Quality:
    layers = [curve(f"layer{at}", rho, shift=shift, ceiling=ceiling) for at, rho in enumerate(rhos)]
    mean = curve(LAYER_MEAN, 1.0, kind="mean")
    mean.cosines[:] = np.mean([one.cosines for one in layers], axis=0)
    whole = curve(OVERALL, rhos[0], kind="whole", shift=shift)
    return quality_of(method, COPIES, RuleOptions(copies=2), Settings(), (*layers, whole, mean), 2)


def verdicts(found: list[Ordering]) -> dict[tuple[str, str], str]:
    return {(pair.first, pair.second): pair.verdict for pair in found}


def test_an_ordering_holds_is_reversed_or_is_not_decided() -> None:
    measured = {"a": quality("a", (20, 20)), "b": quality("b", (900, 900)), "c": quality("c", (20, 20))}
    found = orderings(measured, PAPER, BUILT, LAYER_MEAN)
    assert verdicts(found) == {("A", "B"): "holds", ("A", "C"): "undecided", ("B", "C"): "reversed"}
    assert [(pair.first, pair.second) for pair in found] == [("A", "C"), ("B", "C"), ("A", "B")], "largest gap first"


def test_differences_are_paired_by_draws() -> None:
    """The draws scatter by 0.01 together: their differences do not scatter at all."""
    measured = {"a": quality("a", (20, 20), shift=0.001), "b": quality("b", (20, 20))}
    (pair,) = orderings(measured, PAPER, BUILT, LAYER_MEAN)
    assert pair.verdict == "holds"
    assert pair.difference.value == pytest.approx(0.001)
    assert pair.predicted == pytest.approx(0.0), "the law knows nothing of the shift"


def test_the_layer_that_speaks_most_against_it_is_named_with_its_constants() -> None:
    measured = {"a": quality("a", (30, 5000)), "b": quality("b", (30, 10))}
    (pair,) = orderings(measured, PAPER, BUILT, LAYER_MEAN)
    assert pair.verdict == "reversed"
    assert pair.cause is not None
    assert pair.cause.layer.endswith("layer1")
    assert pair.cause.laws == {"first": Constants(5000.0, 1.0), "second": Constants(10.0, 1.0)}
    assert pair.predicted == pytest.approx(pair.difference.value)


def test_a_coded_layers_constants_are_those_of_the_fit() -> None:
    """The noise of a copy is relative to the gradient, the law of a coded layer to its own expectation."""
    (pair,) = orderings(
        {"a": quality("a", (30, 30), ceiling=0.7), "b": quality("b", (30, 30))}, PAPER, BUILT, LAYER_MEAN
    )
    assert pair.verdict == "reversed"
    assert pair.cause is not None
    assert pair.cause.laws["first"] == Constants(30.0, 0.7)


def test_methods_that_were_not_measured_are_not_compared() -> None:
    assert orderings({"a": quality("a", (20, 20))}, PAPER, BUILT, OVERALL) == []


@pytest.mark.parametrize(("noise", "ceiling", "target"), [(100.0, 1.0, 0.7), (3000.0, 0.9, 0.5), (2.0, 1.0, 0.3)])
def test_the_copies_for_a_cosine_invert_the_law(noise: float, ceiling: float, target: float) -> None:
    count = copies_for(noise, target, ceiling)
    assert count is not None
    assert float(law(np.array([count], float), noise, ceiling, 1.0)[0]) >= target
    if count > 1:
        assert float(law(np.array([count - 1], float), noise, ceiling, 1.0)[0]) < target


def test_beyond_the_ceiling_no_number_of_copies_is_enough() -> None:
    assert copies_for(1.0, 0.8, 0.8) is None
    assert copies_for(float("inf"), 1.0, 0.5) is None


def test_orthogonal_copies_share_no_noise_at_whole_matrices() -> None:
    assert noise_share((1, 2, 4), 4).tolist() == [0.75, 0.25, 0.0]
    assert noise_share((8, 12), 4).tolist() == [0.0, 0.0]
    # 4 exact copies and 2 that leave a quarter, weighing a third
    assert noise_share((6,), 4).tolist() == pytest.approx([0.25 / 9])
    assert noise_share((1, 10)).tolist() == [1.0, 0.1]
