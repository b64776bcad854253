"""What is planned: the model at the sizes that are needed, the decision space, and the same question changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from alrsim.errors import AlrsimError, FileError, OptionError
from alrsim.files import read_json
from alrsim.hardware.build import machine_from
from alrsim.hardware.machine import Machine
from alrsim.planner.bounds import unit_powers
from alrsim.planner.candidate import MODES, Candidate
from alrsim.planner.chains import is_tight, placed_candidates
from alrsim.planner.evaluate import MOVABLE, Evaluated, Setting, Target
from alrsim.planner.explain import with_twin
from alrsim.planner.gradient import DEFAULT_PER_DIM, SOURCE, cosine, measured_per_dim, noise_of
from alrsim.planner.levers import levers
from alrsim.planner.options import PlanOptions
from alrsim.planner.search import DoesNotFitError, More, Outcome, search
from alrsim.planner.sized_model import Source
from alrsim.planner.space import Space, candidates, cuts_of, kinds_of_units, microbatch_counts
from alrsim.planner.time_to_cosine import lr_candidates
from alrsim.progress import stretch
from alrsim.reports.plan_result import OneMoreUnit
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import segmentation_of
from alrsim.steps.chain import FP32, narrowed
from alrsim.steps.draft import warn_format
from alrsim.steps.model import DEFAULT_BATCH, Model, microbatch_size
from alrsim.steps.options import PredictionOptions, parse_precision
from alrsim.steps.pricing import cost_model_of


@dataclass(frozen=True)
class Question:
    """What is planned.

    Attributes:
        counts: Numbers of micro-batches to choose from.
        per_dim: Noise-to-signal of one copy per noise dimension.
        noise_source: Where that comes from.
    """

    model: Model
    asked: PlanOptions
    setting: Setting
    counts: tuple[int, ...]
    per_dim: float
    noise_source: str

    @property
    def space(self) -> Space:
        """The decision space that was asked for."""
        return self.space_in(self.setting, self.counts)

    def space_in(self, setting: Setting, counts: tuple[int, ...]) -> Space:
        """The decision space in another setting."""
        asked, source = self.asked, setting.source
        rules = asked.wanted_rules
        layers: tuple[str, ...] = ("layer", "block")
        if asked.cut is not None:
            cuts, layers = {asked.cut: source.cut(asked.cut)}, (asked.cut,)
        else:
            lr = bool({"lr", "segments"} & set(rules))
            cuts = cuts_of(source, setting.machine, setting.base.precision, lr=lr)
        return Space(rules, counts, cuts, asked.copies or (1,), modes=asked.modes, layers=layers)

    def candidates(self, setting: Setting, space: Space) -> list[Candidate]:
        """Every candidate of a space, and cuts made for given units where units are unlike or memory may be short; for
        a cosine those with exact gradients, LR's follow from what they take."""
        if self.asked.cosine is not None:
            space = replace(space, rules=tuple(rule for rule in space.rules if rule.startswith("bp")))
        found, movable = list(candidates(space)), self.asked.cut is None and setting.search.placement in MOVABLE
        if movable and (len(kinds_of_units(setting.machine)) > 1 or is_tight(setting)):
            found += placed_candidates(setting, space.microbatches, space.rules)
        return found

    def rest(self, setting: Setting, space: Space) -> More | None:
        """LR's part of the space for a cosine."""
        wanted = self.asked.cosine
        if wanted is None or not {"lr", "segments"} & set(space.rules):
            return None

        return partial(lr_candidates, setting, space, wanted, self.per_dim)

    def cosine_of(self, one: Evaluated) -> float:
        """The expected cosine of a plan's gradient with the true one; 1 for exact rules."""
        if not one.candidate.is_lr:
            return 1.0
        graph = self.setting.source.stages(one.candidate.cut, one.candidate.microbatches)
        shape = segmentation_of(one.candidate.rule, graph, one.options)
        noise = noise_of(graph, shape, self.per_dim) / max(1, graph.batch)
        return cosine(noise, one.candidate.copies, MODES[one.candidate.mode])


def open_question(model: Model, machine: Machine, asked: PlanOptions) -> Question:
    """Read the model at the sizes that are needed.

    Raises:
        OptionError: abstract units, or a batch that cannot be split as asked.
        ProfileError: energy on units whose power is not known.
    """
    if machine.is_abstract:
        raise OptionError(
            f"the abstract units of {machine.name} count tasks, not time, so that every cut takes another number of "
            "steps",
            field="hardware",
            fix="give a real profile, or `durations` for textbook problems",
        )
    if not 0 <= asked.idle_power <= 1:
        raise OptionError(
            f"is {asked.idle_power}, must be between 0 and 1", field="idle_power", fixes=[("idle_power", 0.2)]
        )
    if asked.target == "energy":
        unit_powers(machine)
    warn_format(machine, asked)
    source, counts = load_sizes(model, asked, len(machine.units))
    options = asked.of_step()
    base = RuleOptions(
        optimizer=options.optimizer,  # type: ignore[arg-type]
        update=asked.update,
        loss=asked.loss,
        precision=parse_precision(asked.precision, default=narrowed(FP32, machine)),
    )
    prediction = options.only(PredictionOptions)
    cost, name = cost_model_of(machine)
    target = cast(Target, asked.target)
    setting = Setting(source, machine, cost, name, target, base, asked.searching, prediction, asked.idle_power)
    return Question(model, asked, setting, counts, *per_dim_of(asked, source))


def load_sizes(model: Model, asked: PlanOptions, units: int) -> tuple[Source, tuple[int, ...]]:
    """The model at one or two sizes of a micro-batch, and the numbers of micro-batches to choose from.

    A torch model is exported for the whole batch and for about two micro-batches per unit; the counts at all other
    sizes follow. A file has one size, which is one micro-batch.

    Raises:
        OptionError: a number of micro-batches that does not divide the batch.
    """
    given = asked.microbatches
    if not model.scales:
        if given is not None and len(given) > 1:
            raise OptionError("a file holds one size of a micro-batch", field="microbatches", fix="give one number")
        count = (given or (4,))[0]
        sized = model.at(asked.batch, count)
        samples = max(1, sized.samples)
        return Source(model.name, {samples: sized.graph}, samples * count), (count,)
    batch = asked.batch or model.batch or DEFAULT_BATCH
    counts = given or microbatch_counts(batch, units)
    for count in counts:
        microbatch_size(batch, count)  # refuses what does not divide the batch
    chosen = {counts[0], min(counts, key=lambda count: (abs(count - 2 * units), count))}
    exported = sorted(chosen | {counts[-1]} if len(chosen) == 1 else chosen)
    return Source(model.name, _graphs(model, batch, exported), batch), counts


def _graphs(model: Model, batch: int, counts: Sequence[int]) -> Mapping[int, Any]:
    sized = [model.at(batch, count) for count in counts]
    return {one.samples: one.graph for one in sized}


def per_dim_of(asked: PlanOptions, source: Source) -> tuple[float, str]:
    """Noise-to-signal of one copy per noise dimension, and where the number comes from.

    Raises:
        FileError: the file of gradcheck holds none.
    """
    if asked.noise_per_dim is not None:
        return asked.noise_per_dim, "as typed"
    if asked.quality is None:
        return DEFAULT_PER_DIM, SOURCE
    where = str(asked.quality)
    document = read_json(asked.quality)
    if not isinstance(document, dict) or not isinstance(document.get("cut"), str):
        raise FileError("is no result of gradcheck", where=where, fix="save one that gradcheck makes")
    samples = min(source.graphs)
    small = Source(source.name, {samples: source.graphs[samples]}, samples)
    return measured_per_dim(document, small.stages(small.cut(document["cut"]), 1), where)


def answer(question: Question) -> Outcome:
    """Search the whole space.

    Raises:
        DoesNotFitError: nothing fits; with the levers that would help.
    """
    setting, space = question.setting, question.space
    listed = question.candidates(setting, space)
    try:
        with stretch(len(listed), "plan") as step:
            return search(setting, listed, step, question.rest(setting, space))
    except DoesNotFitError as error:
        raise with_levers(error, question, space) from None


def one_more(question: Question, outcome: Outcome, unit: str) -> OneMoreUnit | None:
    """Plan again for one unit more, with the cuts that it allows: the same space of rules and micro-batches, the chosen
    noise mode, and no improvement, so that like is compared with like. ``None`` where there is no such machine or
    nothing fits.

    Args:
        unit: The busiest one, which is doubled in a heterogeneous machine.
    """
    count = len(question.setting.machine.units) + 1
    try:
        changed = replace(question.setting, machine=larger(question.setting.machine, count, unit))
        wider = question.space_in(changed, question.counts)
        if outcome.best.candidate.is_lr:
            wider = replace(wider, modes=(outcome.best.candidate.mode,))
        rest = question.rest(changed, wider)
        again = search(changed, question.candidates(changed, wider), more=rest, improve=False)
    except AlrsimError:
        return None
    if not again.quick:
        return None
    if again.quick >= outcome.quick:  # the unit may stay idle
        return OneMoreUnit(count, 1.0, outcome.best.candidate.label)
    return OneMoreUnit(count, outcome.quick / again.quick, again.best.candidate.label)


def larger(machine: Machine, units: int, like: str | None = None) -> Machine:
    """The profile's machine with more units; where its number is fixed, with twins of one unit.

    Args:
        like: The unit that is doubled in a machine of unlike units; default: the last.

    Raises:
        ProfileError: the profile does not have so many.
    """
    profile = machine.profile
    if profile is not None and profile.spec.kind != "heterogeneous":
        return machine_from(profile, units)
    index = machine.unit_index()[like] if like is not None else len(machine.units) - 1
    for _ in range(units - len(machine.units)):
        machine = with_twin(machine, index)
    return machine


def with_levers(error: DoesNotFitError, question: Question, space: Space) -> DoesNotFitError:
    """The error with what would help, computed."""
    setting = replace(question.setting, source=_at_more_sizes(question, max(space.microbatches)))

    def again(changed: Setting, wider: Space) -> Sequence[Candidate]:
        cuts = question.space_in(changed, wider.microbatches).cuts
        return question.candidates(changed, replace(wider, cuts=cuts))

    found = levers(setting, space, again, lambda units: larger(setting.machine, units))
    fix = "; ".join(one.sentence for one in found) or "use a machine with more memory"
    changed = DoesNotFitError(error.what, where=error.where, fix=fix)
    changed.nearest, changed.levers = error.nearest, tuple(found)
    return changed


def _at_more_sizes(question: Question, count: int) -> Source:
    """Also at a smaller micro-batch, where only one size was needed so far and the batch can be split further."""
    source, model = question.setting.source, question.model
    smaller = next((more for more in range(count + 1, source.batch + 1) if source.batch % more == 0), None)
    if len(source.graphs) > 1 or smaller is None or not model.runs:
        return source
    return Source(source.name, {**source.graphs, **_graphs(model, source.batch, [smaller])}, source.batch)
