"""``alrsim plan MODEL``: the model at the sizes that are needed, the space, the search and its explanation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alrsim.cli.common import load_with_warnings
from alrsim.cli.model import DEFAULT_BATCH, LoadedModel, request
from alrsim.cli.output import progress
from alrsim.cli.parse import parse_precision
from alrsim.cli.pipeline import FP32, cost_model_of, find_machine, is_abstract
from alrsim.cli.plan_asked import Asked
from alrsim.cost.cut import cut_graph
from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import Profile, machine_from
from alrsim.planner.candidate import Base, Candidate
from alrsim.planner.evaluate import Evaluated, Setting
from alrsim.planner.explain import Bottleneck, OneMore, bottleneck, one_more_unit, with_twin
from alrsim.planner.levers import levers
from alrsim.planner.search import DoesNotFitError, Outcome, search
from alrsim.planner.source import Source
from alrsim.planner.space import Space, candidates, cuts_of, microbatch_counts
from alrsim.schedule.recipe import Recipe


@dataclass(frozen=True)
class Answer:
    """What `alrsim plan` prints.

    Attributes:
        samples: Samples of the whole batch.
        why: What makes the chosen plan as long as it is.
        more: The same question for one unit more; ``None`` where it was not asked or has no answer.
    """

    asked: Asked
    profile: Profile
    setting: Setting
    space: Space
    outcome: Outcome
    why: Bottleneck
    more: OneMore | None

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
    precision = parse_precision(asked.precision, default=FP32)
    source, counts = load_sizes(asked, len(machine.units))
    cost, name = cost_model_of(profile)
    base = Base(asked.optimizer, asked.update, asked.loss, precision)
    setting = Setting(source, machine, cost, name, asked.target, base, asked.search, asked.semantics, asked.idle_power)
    space = space_of(asked, setting, counts)
    listed = list_candidates(asked, setting, space)
    try:
        with progress(len(listed), "plan") as step:
            outcome = search(setting, listed, step)
    except DoesNotFitError as error:
        raise with_levers(error, asked, profile, setting, space) from None
    why = bottleneck(outcome.best.problem, outcome.best.timeline)
    more = _one_more(asked, profile, setting, space, outcome, why) if asked.what_if else None
    return Answer(asked, profile, setting, space, outcome, why, more)


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
    """Every candidate of the space."""
    return list(candidates(space))


def _one_more(
    asked: Asked, profile: Profile, setting: Setting, space: Space, outcome: Outcome, why: Bottleneck
) -> OneMore | None:
    """The same space of rules, micro-batches and modes, with the cuts that one unit more allows."""

    def grow() -> Machine:
        return larger(profile, setting.machine, len(setting.machine.units) + 1, why.unit)

    def again(machine: Machine) -> Sequence[Candidate]:
        changed = replace(setting, machine=machine)
        return list_candidates(asked, changed, space_of(asked, changed, space.microbatches))

    return one_more_unit(setting, outcome, grow, again)


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

    def again(changed: Setting, wider: Space) -> Sequence[Candidate]:
        cuts = space_of(asked, changed, wider.microbatches).cuts
        return list_candidates(asked, changed, replace(wider, cuts=cuts))

    found = levers(setting, space, again, lambda units: larger(profile, setting.machine, units))
    fix = "; ".join(one.sentence for one in found) or "use a machine with more memory"
    changed = DoesNotFitError(error.what, where=error.where, fix=fix)
    changed.nearest = error.nearest
    return changed


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
