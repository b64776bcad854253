"""``alrsim plan MODEL``: the model at the sizes that are needed, the space, the search and its explanation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alrsim.cli.common import load_with_warnings
from alrsim.cli.model import DEFAULT_BATCH, LoadedModel, request
from alrsim.cli.output import progress
from alrsim.cli.parse import parse_precision
from alrsim.cli.pipeline import FP32, find_machine
from alrsim.cli.plan_asked import Asked
from alrsim.cli.pricing import cost_model_of, is_abstract
from alrsim.cost.cut import cut_graph
from alrsim.errors import FileError, OptionError
from alrsim.files import read_json
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import Profile, machine_from
from alrsim.planner.bounds import unit_powers
from alrsim.planner.candidate import MODES, Base, Candidate
from alrsim.planner.chains import is_tight, may_move, placed_candidates
from alrsim.planner.evaluate import Evaluated, Setting
from alrsim.planner.explain import Bottleneck, OneMore, bottleneck, one_more_unit, with_twin
from alrsim.planner.gradient import DEFAULT_PER_DIM, SOURCE, cosine, default_model, measured_per_dim, noise_of
from alrsim.planner.levers import levers
from alrsim.planner.search import DoesNotFitError, More, Outcome, search
from alrsim.planner.sized_model import Source
from alrsim.planner.space import Space, candidates, cuts_of, kinds_of_units, microbatch_counts
from alrsim.planner.time_to_cosine import lr_candidates
from alrsim.rules.segmentation import segmentation_of
from alrsim.schedule.recipe import Recipe
from alrsim.units import Ns


@dataclass(frozen=True)
class Answer:
    """What `alrsim plan` prints.

    Attributes:
        samples: Samples of the whole batch.
        why: What makes the chosen plan as long as it is.
        more: The same question for one unit more; ``None`` where it was not asked or has no answer.
        per_dim: Noise-to-signal of one copy per noise dimension.
        source_of_noise: Where that comes from.
    """

    asked: Asked
    profile: Profile
    setting: Setting
    space: Space
    outcome: Outcome
    why: Bottleneck
    more: OneMore | None
    per_dim: float
    source_of_noise: str

    @property
    def best(self) -> Evaluated:
        return self.outcome.best


def plan_model(asked: Asked) -> Answer:
    """The whole way.

    Raises:
        OptionError: an abstract profile, a batch that cannot be split as asked.
        DoesNotFitError: nothing fits; with the levers that would help.
    """
    assert asked.model is not None
    profile, machine = find_machine(asked.hardware, asked.units)
    if is_abstract(profile):
        raise OptionError(
            "abstract units count tasks, not time, so that every cut takes another number of steps",
            where=f"--hardware {profile.name}",
            fix="give a real profile (`alrsim hardware list`), or --durations for textbook problems",
        )
    if asked.target == "energy":
        unit_powers(machine)
    precision = parse_precision(asked.precision, default=FP32)
    source, counts = load_sizes(asked, len(machine.units))
    cost, name = cost_model_of(profile)
    base = Base(asked.optimizer, asked.update, asked.loss, precision)
    setting = Setting(source, machine, cost, name, asked.target, base, asked.search, asked.semantics, asked.idle_power)
    space = space_of(asked, setting, counts)
    listed = list_candidates(asked, setting, space)
    per_dim, source_of_noise = per_dim_of(asked, source)
    try:
        with progress(len(listed), "plan") as step:
            outcome = search(setting, listed, step, rest_of(asked, setting, space, per_dim))
    except DoesNotFitError as error:
        raise with_levers(error, asked, profile, setting, space) from None
    why = bottleneck(outcome.best.problem, outcome.best.schedule, outcome.best.timeline)
    more = _one_more(asked, profile, setting, space, outcome, why, per_dim) if asked.what_if else None
    return Answer(asked, profile, setting, space, outcome, why, more, per_dim, source_of_noise)


def load_sizes(asked: Asked, units: int) -> tuple[Source, tuple[int, ...]]:
    """The model at one or two sizes of a micro-batch, and the numbers of micro-batches to choose from.

    A torch model is exported for the whole batch and for about two micro-batches per unit; the counts at all other
    sizes follow. A file has one size, which is one micro-batch.

    Raises:
        OptionError: a number of micro-batches that does not divide the batch.
    """
    assert asked.model is not None
    if request(asked.model, asked.option, asked.bind, None).source not in ("zoo", "factory"):
        count = (asked.microbatches or (4,))[0]
        if asked.microbatches is not None and len(asked.microbatches) > 1:
            raise OptionError("a file holds one size of a micro-batch", where="--microbatches", fix="give one number")
        loaded = load_with_warnings(request(asked.model, asked.option, asked.bind, asked.batch, count))
        batch = max(1, loaded.samples) * count
        return Source(loaded.name, {batch // count: loaded.graph}, batch), (count,)
    batch = asked.batch or DEFAULT_BATCH
    counts = asked.microbatches or microbatch_counts(batch, units)
    anchors = {counts[0], min(counts, key=lambda count: (abs(count - 2 * units), count))}
    if len(anchors) == 1 and len(counts) > 1:
        anchors.add(counts[-1])
    loaded_at: dict[int, LoadedModel] = {}
    for count in sorted(anchors):
        found = load_with_warnings(request(asked.model, asked.option, asked.bind, batch, count))
        loaded_at[found.samples] = found
    for count in counts:
        request(asked.model, asked.option, asked.bind, batch, count)  # refuses what does not divide the batch
    name = next(iter(loaded_at.values())).name
    return Source(name, {samples: found.graph for samples, found in loaded_at.items()}, batch), tuple(counts)


def space_of(asked: Asked, setting: Setting, counts: tuple[int, ...]) -> Space:
    """The decision space that was asked for."""
    lr = bool({"lr", "segments"} & set(asked.rules))
    if asked.cut is not None:
        cuts = {asked.cut: cut_graph(setting.source.any_graph(), asked.cut)}
        layers: tuple[str, ...] = (asked.cut,)
    else:
        cuts = cuts_of(setting.source, setting.machine, setting.cost, setting.base.precision, lr=lr)
        layers = ("layer", "block")
    return Space(asked.rules, counts, cuts, asked.copies or (1,), modes=asked.modes, layers=layers)


def list_candidates(asked: Asked, setting: Setting, space: Space) -> list[Candidate]:
    """Every candidate of the space; for a cosine those with exact gradients, LR's follow from what they take."""
    if asked.cosine is not None:
        exact = replace(space, rules=tuple(rule for rule in space.rules if rule.startswith("bp")))
        return [*candidates(exact), *_placed(asked, setting, exact)]
    return [*candidates(space), *_placed(asked, setting, space)]


def _placed(asked: Asked, setting: Setting, space: Space) -> list[Candidate]:
    """Cuts made for given units, where units are unlike or memory may be short."""
    if asked.cut is not None or not may_move(setting.search):
        return []
    machine = setting.machine
    if len(kinds_of_units(machine)) == 1 and not is_tight(setting.source, machine, setting.base):
        return []
    return placed_candidates(setting.source, machine, setting.cost, setting.base, space.microbatches, space.rules)


def rest_of(asked: Asked, setting: Setting, space: Space, per_dim: float) -> More | None:
    """LR's part of the space for a cosine."""
    cosine = asked.cosine
    if cosine is None or not {"lr", "segments"} & set(space.rules):
        return None

    def more(known: Ns) -> tuple[Sequence[Candidate], Ns]:
        found = lr_candidates(setting, space, cosine, known, per_dim)
        return found.candidates, found.floor

    return more


def per_dim_of(asked: Asked, source: Source) -> tuple[float, str]:
    """Noise-to-signal of one copy per noise dimension, and where the number comes from.

    Raises:
        FileError: the file of gradcheck holds none.
    """
    if asked.noise_per_dim is not None:
        return asked.noise_per_dim, "as typed"
    if asked.quality is None:
        return DEFAULT_PER_DIM, SOURCE
    document = read_json(asked.quality)
    if not isinstance(document, dict) or not isinstance(document.get("cut"), str):
        raise FileError("is no result of gradcheck", where=str(asked.quality), fix="alrsim gradcheck MODEL --json FILE")
    samples = min(source.graphs)
    graph = source.stages(cut_graph(source.graphs[samples], document["cut"]), source.batch // samples)
    return measured_per_dim(document, graph, str(asked.quality))


def cosine_of(answer: "Answer", one: Evaluated) -> float:
    """The expected cosine of a plan's gradient with the true one; 1 for exact rules."""
    if not one.candidate.is_lr:
        return 1.0
    graph = answer.setting.source.stages(one.candidate.cut, one.candidate.microbatches)
    shape = segmentation_of(one.candidate.rule, graph, one.options)
    noise = noise_of(default_model(graph, answer.per_dim), shape) / max(1, graph.batch)
    return cosine(noise, one.candidate.copies, MODES[one.candidate.mode])


def _one_more(
    asked: Asked,
    profile: Profile,
    setting: Setting,
    space: Space,
    outcome: Outcome,
    why: Bottleneck,
    per_dim: float,
) -> OneMore | None:
    """The same space of rules and micro-batches with the cuts that one unit more allows, and the chosen noise mode."""

    def grow() -> Machine:
        return larger(profile, setting.machine, len(setting.machine.units) + 1, why.unit)

    def again(machine: Machine) -> Outcome:
        changed = replace(setting, machine=machine)
        wider = space_of(asked, changed, space.microbatches)
        if outcome.best.candidate.is_lr:
            wider = replace(wider, modes=(outcome.best.candidate.mode,))
        listed = list_candidates(asked, changed, wider)
        return search(changed, listed, more=rest_of(asked, changed, wider, per_dim), improve=False)

    return one_more_unit(outcome, grow, again)


def larger(profile: Profile, machine: Machine, units: int, like: str | None = None) -> Machine:
    """The profile's machine with more units; where its number is fixed, with twins of one unit.

    Args:
        like: The unit that is doubled in a heterogeneous machine; default: the last.

    Raises:
        ProfileError: the profile does not have so many.
    """
    if profile.spec.kind != "heterogeneous":
        return machine_from(profile, units)
    index = machine.unit_index()[like] if like is not None else len(machine.units) - 1
    for _ in range(units - len(machine.units)):
        machine = with_twin(machine, index)
    return machine


def with_levers(
    error: DoesNotFitError, asked: Asked, profile: Profile, setting: Setting, space: Space
) -> DoesNotFitError:
    """The error with what would help, computed."""

    setting = replace(setting, source=_at_more_sizes(asked, setting.source, max(space.microbatches)))

    def again(changed: Setting, wider: Space) -> Sequence[Candidate]:
        cuts = space_of(asked, changed, wider.microbatches).cuts
        return list_candidates(asked, changed, replace(wider, cuts=cuts))

    found = levers(setting, space, again, lambda units: larger(profile, setting.machine, units))
    fix = "; ".join(one.sentence for one in found) or "use a machine with more memory"
    changed = DoesNotFitError(error.what, where=error.where, fix=fix)
    changed.nearest = error.nearest
    return changed


def _at_more_sizes(asked: Asked, source: Source, count: int) -> Source:
    """Also at a smaller micro-batch, where only one size was needed so far and the batch can be split further."""
    assert asked.model is not None
    wanted = request(asked.model, asked.option, asked.bind, None)
    smaller = next((more for more in range(count + 1, source.batch + 1) if source.batch % more == 0), None)
    if len(source.graphs) > 1 or smaller is None or wanted.source not in ("zoo", "factory"):
        return source
    found = load_with_warnings(request(asked.model, asked.option, asked.bind, source.batch, smaller))
    return Source(source.name, {**source.graphs, found.samples: found.graph}, source.batch)


def recipe_of(answer: Answer) -> Recipe:
    """What later verbs need to build the same tasks."""
    one = answer.best.candidate
    samples = answer.setting.source.batch // one.microbatches
    return Recipe(answer.setting.source.name, samples, one.rule, answer.best.options, one.cut)


def write_plan(answer: Answer, output: Path) -> None:
    """The chosen schedule with its recipe, for `simulate` and `execute`.

    Raises:
        OptionError: another ending than .json.
    """
    from alrsim.schedule.files import write_schedule

    if output.suffix != ".json":
        raise OptionError(f"{output.name!r} does not end in .json", where="--output")
    write_schedule(output, answer.best.schedule, recipe_of(answer))
