"""The gradient model's closed forms, decision spaces, the twin of a unit, sizes between two exports, bottlenecks."""

from math import sqrt

import pytest

from alrsim.errors import FileError, ModelError, OptionError
from alrsim.estimators.variance_law import copies_for
from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.planner.candidate import DEFAULT_MODES, MODES, Candidate, options_of
from alrsim.planner.explain import bottleneck, with_twin
from alrsim.planner.gradient import cosine, measured_per_dim, most_noise, noise_of
from alrsim.planner.options import PlanOptions
from alrsim.planner.search import covers
from alrsim.planner.sized_model import Source, between
from alrsim.planner.space import Space, candidates, microbatch_counts
from alrsim.planner.time_to_cosine import possible
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import segmentation_of
from alrsim.schedulers import SearchOptions, schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.model import cut_stages, load_model
from tests.linked import link_table

STORED, ALR = MODES["stored"], MODES["alr"]


def noise(stages, rule, elements=8, per_dim=1.0, **options):
    graph = chain(stages, elements=elements)
    return noise_of(graph, segmentation_of(rule, graph, RuleOptions(**options)), per_dim)


def test_noise_of_a_whole_net_is_one_per_dimension_when_every_stage_injects():
    assert noise(4, "lr") == pytest.approx(4 * 8)
    assert noise(4, "lr", per_dim=0.1) == pytest.approx(0.1 * 4 * 8)


def test_an_exact_head_has_no_noise_and_one_segment_carries_only_its_end():
    assert noise(4, "segments", segments=(), exact_head=False) == pytest.approx(8)
    assert noise(4, "segments", segments=(1,)) == pytest.approx(8 / 4)
    assert noise(4, "segments", segments=(2,)) == pytest.approx(2 * 8 / 4)
    assert noise(4, "segments", segments=(1, 2)) == pytest.approx(2 * 2 * 8 / 4)
    assert noise(4, "bp") == 0


@pytest.mark.parametrize("mode", [STORED, ALR])
@pytest.mark.parametrize("target", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("r", [0.5, 3.0, 541.0])
def test_copies_are_the_least_that_reach_the_cosine(mode, target, r):
    copies = copies_for(mode.k * r, target, mode.ceiling)
    assert cosine(r, copies, mode) >= target - 1e-9
    assert copies == 1 or cosine(r, copies - 1, mode) < target
    assert r <= most_noise(copies, target, mode) * (1 + 1e-9)


def test_the_law_at_known_points():
    assert cosine(541, 256, STORED) == pytest.approx(1 / sqrt(1 + 541 / 256))
    assert cosine(0, 1, ALR) == 0.87
    assert copies_for(ALR.k, 0.9, ALR.ceiling) is None
    assert copies_for(0.0, 0.9, STORED.ceiling) == 1
    assert {MODES[name].ceiling for name in DEFAULT_MODES} == {1.0}


def test_the_least_noise_of_a_net_is_that_of_its_best_segments():
    graph = chain(3, elements=6)
    assert possible(graph, 1.0, segments=True).least == pytest.approx(6 / 3)  # the first stage alone, an exact head
    assert possible(graph, 1.0, segments=False).least == pytest.approx(3 * 6)


def test_constants_are_read_from_gradcheck_and_refused_where_there_are_none():
    graph = chain(2, elements=10)
    whole = {"kind": "whole", "noise_of_one_copy": {"value": 40.0}}
    method = {"method": "lr", "input_code": "plain", "weight_noise": [], "scope": "joint", "curves": [whole]}
    assert measured_per_dim({"methods": [method]}, graph, "q.json")[0] == pytest.approx(40 / 20)
    alone = {**method, "scope": "layerwise"}
    assert measured_per_dim({"methods": [alone]}, graph, "q.json")[0] == pytest.approx(40 * 2 / 20)
    with pytest.raises(FileError, match="holds no noise of one copy"):
        measured_per_dim({"methods": [{**method, "input_code": "sign"}]}, graph, "q.json")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_a_method_whose_state_survives_its_formats(mode):
    from alrsim.rules.policy import refuse_lost_noise

    options = options_of(Candidate("lr", "layer", (("a",),), 2, 4, mode=mode), RuleOptions())
    refuse_lost_noise(options)
    assert options.copies == 4
    assert options.signs == (mode in ("bits", "alr"))


def test_the_space_is_the_product_of_its_choices():
    cuts = {"balanced:1": (("a", "b"),), "layer": (("a",), ("b",))}
    space = Space(("bp", "lr"), (1, 2), cuts, (1, 4), modes=("stored", "bits"))
    listed = list(candidates(space))
    assert len(set(listed)) == len(listed)
    assert sum(one.rule == "bp" for one in listed) == 2 * 2
    assert sum(one.rule == "lr" for one in listed) == 2 * (1 + 2) * 2  # 1 copy in 1 group, 4 copies in 1 or 4
    with pytest.raises(OptionError, match="rules: 'magic' is not a choice"):
        PlanOptions.take({"rules": "magic"})
    with pytest.raises(OptionError, match="modes: 'magic' is not a choice"):
        PlanOptions.take({"modes": "magic"})
    assert microbatch_counts(24, 3) == (1, 2, 3, 4, 6, 8, 12)


@pytest.mark.parametrize(("model", "spec"), [("mlp", "layer"), ("resnet5", "block")])
def test_stages_between_two_sizes_are_those_of_an_export_at_that_size(model, spec):
    loaded = load_model(model)
    graphs = {batch: loaded.at(batch).graph for batch in (2, 4, 7)}
    source = Source(model, {2: graphs[2], 7: graphs[7]}, 28)
    cut = source.cut(spec)
    assert source.stages(cut, 7) == cut_stages(graphs[4], spec)
    assert between(cut_stages(graphs[2], spec), 2, cut_stages(graphs[4], spec), 4, 7) == cut_stages(graphs[7], spec)


def test_graphs_that_do_not_grow_evenly_are_refused():
    with pytest.raises(ModelError, match="does not grow evenly"):
        between(chain(2, elements=3), 2, chain(2, elements=4), 4, 3)
    with pytest.raises(ModelError, match="does not grow evenly"):
        between(chain(2), 1, chain(3), 2, 4)


def test_a_twin_has_the_links_of_its_unit_and_one_to_it():
    machine = with_twin(abstract_machine(3, transfer_ns=2), 1)
    assert [unit.name for unit in machine.units] == ["u0", "u1", "u2", "u3"]
    links = link_table(machine)
    assert set(links) == {(a, b) for a in range(4) for b in range(4) if a != b}
    assert links[0, 3].occupancy_ns == links[3, 1].occupancy_ns == 2


def test_the_bottleneck_of_a_pipeline_with_one_slow_stage_is_that_stage(textbook):
    problem = textbook(3, 3, 4, "bp", f=1, b=1, w=1, transfer=1)
    slow = tuple(
        tuple(5 * ticks for ticks in row) if task.id.stage == 1 and task.id.kind == "F" else row
        for task, row in zip(problem.tasks.tasks, problem.durations, strict=True)
    )
    from dataclasses import replace

    problem = replace(problem, durations=slow)
    made = schedule(problem, "1f1b")
    timeline = simulate(problem, made)
    found = bottleneck(problem, made, timeline)
    assert (found.unit, found.stage, found.kind) == ("u1", 1, "F")
    ticks = {span.task: span.end - span.start for span in timeline.spans}
    on_path = sum(ticks[task] for task in found.path)
    assert on_path + found.waiting * timeline.makespan == pytest.approx(timeline.makespan)
    slow = sum(ticks[task] for task in found.path if (task.stage, task.kind) == (1, "F"))
    assert found.share == pytest.approx(slow / timeline.makespan)


@pytest.mark.parametrize(
    ("placement", "gradients", "is_lr", "holds"),
    [
        ("fixed", None, False, {"fixed", "gradients", "stages", "free"}),
        ("fixed", "free", False, {"fixed", "gradients", "stages", "free"}),
        ("fixed", None, True, {"fixed", "gradients", "stages", "free"}),
        ("fixed", "free", True, {"gradients", "free"}),
        ("stages", None, True, {"stages", "free"}),
        ("stages", "free", False, {"stages", "free"}),
        ("stages", "free", True, {"free"}),
        ("free", None, True, {"free"}),
    ],
)
def test_a_proof_counts_only_where_it_was_given_at_least_the_freedom_that_was_asked_for(
    placement, gradients, is_lr, holds
):
    search = SearchOptions(placement=placement, gradients=gradients)
    known = ("fixed", "gradients", "stages", "free")
    assert {proved for proved in known if covers(search, proved, is_lr=is_lr)} == holds
