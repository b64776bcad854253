"""The arithmetic of the step benchmarks, and that their yardstick is a true LR step."""

import numpy as np
import pytest
import torch

from alrsim.execution.executor import new_run, task_body
from alrsim.execution.workers.thread_workers import run_lanes
from alrsim.models import build
from alrsim.quality.reference import true_gradient
from benchmarks.economics import conclude, line_through
from benchmarks.paperstyle import paper_kernels
from benchmarks.stepbench import Model, Turn, Variant, draft_of, job_of, open_bench, program_of
from benchmarks.steps import ratio_of, step_lines

MLP = Model("mlp", (("hidden", "16"), ("depth", "2")), samples=8)


def _turn(total: float, gradient: float) -> Turn:
    return Turn(total, {"F": total - gradient, "G": gradient}, 1.0)


def test_a_line_is_found_and_a_point_off_it_is_told() -> None:
    line = line_through([(2, 5.0), (4, 7.0), (10, 13.0)])
    assert (line.start, line.each, line.error) == pytest.approx((3, 1, 0))
    assert line.at(100) == pytest.approx(103)
    assert line_through([(1, 1.0), (2, 4.0), (3, 3.0)]).error > 0.2


def test_ratios_are_taken_within_turns() -> None:
    slow, fast = [_turn(2, 1), _turn(30, 10), _turn(4, 2)], [_turn(1, 0.1), _turn(10, 1), _turn(4, 4)]
    assert ratio_of(slow, fast) == (2, 1, 3)
    assert ratio_of(slow, fast, "GBC") == (10, 0.5, 10)


@pytest.mark.parametrize(("seconds", "verdict"), [(1.0, "reached"), (1.9, "MISSED")])
def test_targets_have_verdicts(seconds: float, verdict: str) -> None:
    turns = {"LR": [_turn(2, 1)], "alr (int8 signs)": [_turn(seconds, 0.5)]}
    assert any(line.startswith("Target 1.5x") and line.endswith(verdict) for line in step_lines(turns))


def test_a_method_is_worth_what_its_parts_say() -> None:
    """Expectation at 60 degrees from the truth, and a mean of 10 copies with exactly its own variance added to it."""
    truth, expected, noise = np.array([2.0, 0, 0]), np.array([0.5, np.sqrt(0.75), 0]), np.array([0, 0, 0.3])
    found = conclude(expected + noise, 10 * 0.09, 10, truth, coded=True)
    assert (found.ceiling, found.noise) == pytest.approx((0.5, 0.9))
    assert found.measured == pytest.approx(found.expected)
    plain = conclude(truth + noise, 0.9, 10, truth, coded=False)
    assert (plain.ceiling, plain.noise) == pytest.approx((1, 0.9 / 4))


@pytest.mark.parametrize("signs", [False, True])
def test_the_yardstick_estimates_the_gradient_at_its_scale(signs: bool) -> None:
    bench = open_bench(MLP)
    job = job_of(bench, Variant("", "alr" if signs else "lr", 1500, kernels=paper_kernels(signs=signs)))
    torch.manual_seed(0)
    run = new_run(job.prepared, recording=False)
    run_lanes(job.prepared.job.graph, job.lanes, task_body(job.prepared, run))
    estimated = {
        name: value for key, found in run.store.values.items() if key[0] == "grad" for name, value in found.items()
    }
    program = program_of(bench, draft_of(bench, Variant("", "bp")))
    _, exact = true_gradient(build(MLP.name, **dict(MLP.options)).module, program.parameters, bench.batch)
    truth = torch.cat([exact[name].flatten() for name in sorted(exact)])
    guess = torch.cat([estimated[name].flatten() for name in sorted(exact)])
    cosine = float(torch.nn.functional.cosine_similarity(guess, truth, dim=0))
    assert cosine > (0.6 if signs else 0.85)  # the law says 0.7 and 0.9
    if not signs:
        assert float(guess @ truth / (truth @ truth)) == pytest.approx(1, abs=0.2)
