"""The options that decide what a step is: its workload, its method, its machine, and how it is predicted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alrsim.errors import OptionError
from alrsim.estimators.policy import Injection, InputCode, NoiseCode, NoiseKind, Plan
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.options import Options, choose, keyword, parse_pairs, parse_positive
from alrsim.rules.options import Baseline, NoiseScope, Optimizer, Reduction
from alrsim.units import parse_rational

if TYPE_CHECKING:
    from alrsim.schedulers import SearchOptions

SEMANTICS = ("latency", "link", "blocking")
ENGINES = ("auto", "simpy", "fast")
COSTS = ("auto", "measured", "roofline")

MODEL, METHOD, PREDICTION = "Model and batch", "Method", "Prediction"
"""Panels of the help."""

_PRECISION_KEYS = {
    "params": "parameters",
    "parameters": "parameters",
    "activations": "activations",
    "saved": "saved",
    "noise": "noise",
}


def parse_precision(
    given: "str | PrecisionPlan | Mapping[str, str] | None", *, default: PrecisionPlan
) -> PrecisionPlan:
    """``None`` -> the default; ``bf16`` -> that for everything; ``params=bf16,saved=int8`` -> over the default.

    Raises:
        OptionError: unknown keys or formats.
    """
    if given is None or isinstance(given, PrecisionPlan):
        return default if given is None else given
    if isinstance(given, str) and "=" not in given:
        every = _format(given.strip())
        return PrecisionPlan(every, every, every, every)
    found = {key: getattr(default, key) for key in ("parameters", "activations", "saved", "noise")}
    pairs = parse_pairs(given.split(",") if isinstance(given, str) else given, "precision")
    for key, value in pairs.items():
        choose(key, _PRECISION_KEYS, field="precision", what="kind of state")
        found[_PRECISION_KEYS[key]] = _format(value)
    return PrecisionPlan(**found)


def _format(text: str) -> Precision:
    return Precision(choose(text.lower(), [p.value for p in Precision], field="precision", what="number format"))


def _precision(given: Any, name: str) -> Any:
    parse_precision(given, default=PrecisionPlan())
    return given


def parse_segments(given: "str | int | Iterable[int]", name: str = "segments") -> tuple[int, ...]:
    """``2,4`` -> ``(2, 4)``.

    Raises:
        OptionError: something that is no stage number.
    """
    items = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    parts = [str(item).strip() for item in items]
    parts = [part for part in parts if part]
    if not all(part.isdecimal() for part in parts):
        raise OptionError(f"{given!r} is not a list of stage numbers", field=name, fix="for example 2,4")
    return tuple(int(part) for part in parts)


def _overlap(given: Any, name: str) -> Fraction:
    value = parse_rational(str(given), where=name)
    if not 0 < value <= 1:
        raise OptionError(f"{given} is not above 0 and at most 1", field=name, fix="1 means no gain")
    return value


def _bind(given: Any, name: str) -> dict[str, int]:
    sizes = {}
    for key, text in parse_pairs(given, name).items():
        if not text.isdecimal() or int(text) < 1:
            raise OptionError(f"{key}={text}: a dimension is a whole number of at least 1", field=name)
        sizes[key] = int(text)
    return sizes


def _search(given: Any, name: str) -> dict[str, str]:
    from alrsim.schedulers.search import parse_search

    pairs = parse_pairs(given, name)
    parse_search(pairs)
    return pairs


def _estimators(given: Any, name: str) -> Plan:
    if isinstance(given, (str, Path)):
        from alrsim.steps.estimators_file import read_estimators

        return read_estimators(Path(given))
    return tuple(given)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """How a model is loaded."""

    option: dict[str, str] | None = keyword(
        "Option of a zoo model, such as norm=group. Repeatable.",
        default=None,
        metavar="KEY=VALUE",
        many=True,
        parse=parse_pairs,
        panel=MODEL,
    )
    bind: dict[str, int] | None = keyword(
        "Size of a dynamic dimension of an .onnx file. Repeatable.",
        default=None,
        metavar="DIM=N",
        many=True,
        parse=_bind,
        panel=MODEL,
    )
    batch: int | None = keyword(
        "Samples in the whole batch. Default: 32, or what the file holds.",
        default=None,
        metavar="N",
        least=1,
        panel=MODEL,
    )


@dataclass(frozen=True, kw_only=True)
class MachineOptions(Options):
    """The machine of a step."""

    units: int | None = keyword(
        "Units. Default: what the profile has.", default=None, metavar="N", short="n", least=1, panel=MODEL
    )


@dataclass(frozen=True, kw_only=True)
class StageOptions(Options):
    """Where a model is cut into stages."""

    cut: str | None = keyword(
        "balanced:K | module[:DEPTH] | operator | layer | block | names:op1,op2. Default: balanced over the units for "
        "BP (equally slow on the machine), layer for LR.",
        default=None,
        metavar="SPEC",
        panel=MODEL,
    )


@dataclass(frozen=True, kw_only=True)
class CutOptions(StageOptions):
    """How a batch and a model are cut."""

    microbatches: int = keyword(
        "Micro-batches that the batch is split into.", default=4, metavar="M", short="m", least=1, panel=MODEL
    )


@dataclass(frozen=True, kw_only=True)
class FormatOptions(Options):
    """Number formats."""

    precision: str | PrecisionPlan | None = keyword(
        "One format for all (fp32, bf16, fp16) or params=bf16,activations=bf16,saved=int8,noise=regenerated. Signs of "
        "signed inputs are -1, 0, 1 in saved=int8, but one bit in saved=sign1, where zeros become 1; threshold codes "
        "take two bits there.",
        default=None,
        metavar="SPEC",
        parse=_precision,
        panel=METHOD,
    )


@dataclass(frozen=True, kw_only=True)
class TaskOptions(StageOptions, FormatOptions):
    """What decides which tasks any step has, and how their order is searched."""

    optimizer: str = keyword(
        "sgd | momentum | adam.", default="sgd", metavar="O", choices=get_args(Optimizer), panel=METHOD
    )
    update: bool = keyword("Parameter updates are tasks.", default=True, panel=METHOD)
    loss: bool = keyword("The loss is a task.", default=True, panel=METHOD)
    time_limit: float | None = keyword(
        "Seconds for schedulers that search (auto, cpsat, local-search). Default: a fixed amount of work, which gives "
        "the same schedule on every host.",
        default=None,
        metavar="S",
        parse=parse_positive,
        panel=METHOD,
    )
    search: dict[str, str] | None = keyword(
        "For schedulers that search: placement=fixed|stages|free, gradients=free, live=N (micro-batches that a unit "
        "may hold), priority=..., base=..., effort=..., seed=..., workers=..., memory=no, exact=no. Repeatable.",
        default=None,
        metavar="KEY=VALUE",
        many=True,
        parse=_search,
        panel=METHOD,
    )

    @property
    def searching(self) -> "SearchOptions | None":
        """What a scheduler that searches is asked for; ``None`` where nothing was said."""
        if not self.search and self.time_limit is None:
            return None
        from alrsim.schedulers.search import parse_search

        return parse_search(self.search or {}, time_limit=self.time_limit)


@dataclass(frozen=True, kw_only=True)
class EstimatorOptions(StageOptions, FormatOptions):
    """How gradients are estimated, and where noise goes."""

    baseline: str = keyword(
        "LR: clean | copy-mean | antithetic | none.",
        default="clean",
        metavar="B",
        choices=get_args(Baseline),
        panel=METHOD,
    )
    scope: str = keyword(
        "LR: noise joint | layerwise.", default="joint", metavar="S", choices=get_args(NoiseScope), panel=METHOD
    )
    reduce: str = keyword(
        "LR: stack copies, or accumulate them (one clean forward more, noise drawn again).",
        default="stack",
        metavar="R",
        choices=get_args(Reduction),
        panel=METHOD,
    )
    noise: str | None = keyword(
        "LR: gauss | rademacher | laplace | hadamard | sobol. Default: the method's.",
        default=None,
        metavar="N",
        choices=get_args(NoiseKind),
        panel=METHOD,
    )
    input_code: str | None = keyword(
        "LR: how a stage's input is kept: plain | sign | sign-scaled | threshold. Default: the method's.",
        default=None,
        metavar="C",
        choices=get_args(InputCode),
        panel=METHOD,
    )
    noise_code: str | None = keyword(
        "LR: gradients see the noise as it is (plain), or its signs (sign). Default: the method's.",
        default=None,
        metavar="C",
        choices=get_args(NoiseCode),
        panel=METHOD,
    )
    inject: str = keyword(
        "LR: noise on pre-activations (pre) or behind activation, pooling, residual sum (post); sets the cut.",
        default="pre",
        metavar="I",
        choices=get_args(Injection),
        panel=METHOD,
    )


@dataclass(frozen=True, kw_only=True)
class CopyOptions(EstimatorOptions, CutOptions):
    """How a step is split into micro-batches, copies and segments."""

    copies: int = keyword("LR: noisy copies of each micro-batch.", default=1, metavar="C", least=1, panel=METHOD)
    group: int | None = keyword(
        "LR: copies stacked in one task. Default: all.", default=None, metavar="N", least=1, panel=METHOD
    )
    segments: tuple[int, ...] | None = keyword(
        "Method segments: first stage of every later segment.",
        default=None,
        metavar="S1,S2",
        parse=parse_segments,
        panel=METHOD,
    )
    estimators: Plan | None = keyword(
        "Method lr: one estimator per stage, from a file that gradcheck suggested.",
        default=None,
        metavar="FILE",
        parse=_estimators,
        panel=METHOD,
    )


@dataclass(frozen=True, kw_only=True)
class MethodOptions(CopyOptions, TaskOptions):
    """What decides which tasks a step has, besides rule and scheduler."""

    first_input_gradient: bool = keyword(
        "BP: stage 0 computes an input gradient too, and pays for it.", default=False, panel=METHOD
    )
    chunks: int | None = keyword(
        "Stages per unit of interleaved-1f1b and zb-v. Default 2.", default=None, metavar="V", least=1, panel=METHOD
    )


def cost_names() -> tuple[str, ...]:
    """What ``cost`` may be: the built-in choices, and plugged-in cost models."""
    from alrsim.cost.models import COST_MODELS

    return (*COSTS, *(name for name in COST_MODELS if name not in COST_MODELS.builtin))


@dataclass(frozen=True, kw_only=True)
class TransferOptions(Options):
    """How messages occupy links."""

    transfer_semantics: str = keyword(
        "latency | link | blocking.", default="link", metavar="T", choices=SEMANTICS, panel=PREDICTION
    )


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(TransferOptions):
    """How a step is priced and simulated."""

    cost: str = keyword(
        "measured: task times of a calibrated profile. roofline: its figures. auto: measured where every task is.",
        default="auto",
        metavar="C",
        choices=cost_names,
        panel=PREDICTION,
    )
    engine: str = keyword(
        "simpy: the reference. fast: compiled, the same times. auto: fast for large problems where it is exact.",
        default="auto",
        metavar="E",
        choices=ENGINES,
        panel=PREDICTION,
    )
    overlap: Fraction = keyword(
        "Time of a fused pair of tasks, as a share of their sum.",
        default=Fraction(1),
        metavar="F",
        parse=_overlap,
        panel=PREDICTION,
    )


@dataclass(frozen=True, kw_only=True)
class StepOptions(PredictionOptions, MethodOptions, MachineOptions, ModelOptions):
    """Everything that decides a step, besides model, machine and method."""


@dataclass(frozen=True, kw_only=True)
class FileOptions(Options):
    """How a schedule file is read."""

    repair: bool = keyword("Correct the known fault of PyTorch's own 1F1B rows.", default=False)
    signs: bool = keyword(
        "A schedule file of rule lr is one of ALR: codes of input and noise are signs.", default=False
    )


RUN = "Measured runs"


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """What may be reached from other hosts."""

    trust_network: bool = keyword(
        "Use ports that authenticate nobody, of a foreign torchrun or a Dask cluster without TLS: whoever reaches "
        "them can run code as you.",
        default=False,
        panel=RUN,
    )


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions(NetworkOptions):
    """What runs schedules for real."""

    executor: str = keyword(
        "What runs the schedule: threads (workers of this process) | processes (one pinned process per unit) | "
        "torchrun (ranks) | cuda.",
        default="threads",
        metavar="E",
        panel=RUN,
    )
    limit: float | None = keyword(
        "Give a run up when no task begins or ends for that many seconds. Default: 300.",
        default=None,
        metavar="SECONDS",
        panel=RUN,
    )
    seed: int = keyword("Seed of noise and data in measured runs.", default=0, metavar="N", least=0, panel=RUN)


@dataclass(frozen=True, kw_only=True)
class RunOptions(ExecutorOptions):
    """How schedules are run for real."""

    repeats: int = keyword("Measured runs; the median is reported.", default=5, metavar="N", least=1, panel=RUN)
