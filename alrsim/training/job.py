"""What is trained and how, as a value: two runs of equal jobs give the same numbers, bit for bit."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from math import gcd, inf
from typing import Any, Literal

from alrsim.errors import OptionError
from alrsim.estimators.policy import Mask, Plan

Direction = Literal["gradient", "sign"]
RateSchedule = Literal["constant", "step", "cosine"]
OptimizerName = Literal["adam", "adamw", "sgd", "momentum", "rmsprop"]

Check = tuple[bool, str, str, str]
"""Whether something is wrong, what, the option that is to blame, and what to do."""

FREE = frozenset({"steps", "eval_every", "copies_min", "copies_max"})
"""Fields that a resumed run may change: they decide when a run ends and what it tells, not what a step computes."""


@dataclass(frozen=True)
class TrainJob:
    """A training run. Where its tasks run (schedule, units) is no part of it, because it changes no bit.

    Attributes:
        model: Name, with ``model_options``.
        data: Name of the data set; ``data_folder`` where its files are, if it has files.
        method: A preset of :data:`alrsim.estimators.policy.PRESETS`, ``segments``, ``plan``, ``auto``, or a learner of
            its own (``fa``, ``hsic``).
        changes: Fields of :class:`alrsim.estimators.policy.Estimator` that replace the preset's.
        plan: One estimator per stage: of ``plan`` as given, of ``auto`` as measured (``None``: at the start). Its
            copies are scaled such that the most of them are ``copies``.
        cut: Where the model is cut into stages, which decides where noise goes.
        segments: Method ``segments``: the first stage of every segment after the first; the last one is exact.
        copies: Noise draws per sample, at the start.
        group: Copies stacked in one task; ``None``: all.
        mask: Which losses weigh a noise element: ``none``: all of the sample; ``reach``: those that it can influence
            (:mod:`alrsim.execution.programs.receptive_field`); ``None``: ``reach`` where positions have own losses.
        precision: Formats of what is kept, the fields of :class:`alrsim.hardware.precision.PrecisionPlan` by name;
            empty: the method's.
        batch: Samples in a step.
        microbatches: Parts of the batch that are tasks of their own.
        direction: ``gradient``, or ``sign``: the optimizer gets the signs of the gradient (the papers' "w A" columns on
            BP, FA and HSIC, read as in signSGD).
        rate: Learning rate at the start.
        rate_schedule: ``step`` multiplies it by ``rate_factor`` every ``rate_every`` steps; ``cosine`` ends near 0 at
            the last step.
        steps: Optimizer steps in total.
        eval_every: Steps between rows of the log.
        sigma_rate: Adam's rate for log sigma, where the noise scales are learned.
        monitor: Steps between measurements of the split-half cosine; 0: never.
        target_cosine: The monitor doubles or halves the copies to hold this; ``None``: copies stay.
        learner_options: Of ``fa`` and ``hsic``.
        weights: Digest of the first parameters of a model that was given in memory; empty: its name tells them.

    Raises:
        OptionError: a value that makes no sense.
    """

    model: str
    data: str = "digits"
    method: str = "bp"
    model_options: Mapping[str, str] = field(default_factory=dict)
    data_folder: str | None = None
    changes: Mapping[str, str | float] = field(default_factory=dict)
    plan: Plan | None = None
    cut: str = "layer"
    segments: tuple[int, ...] | None = None
    copies: int = 1
    group: int | None = None
    mask: Mask | None = None
    precision: Mapping[str, str] = field(default_factory=dict)
    batch: int = 50
    microbatches: int = 1
    optimizer: OptimizerName = "adam"
    rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    direction: Direction = "gradient"
    rate_schedule: RateSchedule = "constant"
    rate_every: int = 1000
    rate_factor: float = 0.5
    steps: int = 600
    eval_every: int = 100
    seed: int = 0
    sigma_rate: float = 0.01
    monitor: int = 0
    target_cosine: float | None = None
    copies_min: int = 2
    copies_max: int = 1024
    learner_options: Mapping[str, float] = field(default_factory=dict)
    weights: str = ""

    def __post_init__(self) -> None:
        for name in ("copies", "batch", "microbatches", "steps", "eval_every", "rate_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"is {getattr(self, name)}, must be at least 1", field=option_of(name))
        for name in ("rate", "rate_factor", "sigma_rate"):
            if not 0 < getattr(self, name) < inf:
                raise OptionError(f"is {getattr(self, name)}, must be positive", field=option_of(name))
        for name in ("momentum", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"is {getattr(self, name)}, must be at least 0 and below 1", field=option_of(name))
        for wrong, what, name, fix in (*self._wrong_parts(), *self._wrong_monitor(), *self._wrong_halves()):
            if wrong:
                raise OptionError(what, field=name, fix=fix)

    def _wrong_parts(self) -> Iterator[Check]:
        """How batch, copies and stages are split."""
        yield (
            self.batch % self.microbatches > 0,
            f"a batch of {self.batch} samples cannot be split evenly into {self.microbatches} micro-batches",
            "microbatches",
            "choose a divisor of the batch",
        )
        group = 1 if self.group is None else self.group
        yield (
            group < 1 or (self.copies % group > 0 and self.method != "auto"),
            f"copy groups of {group} do not divide {self.copies} copies",
            "group",
            f"choose a divisor of {self.copies}",
        )
        yield (
            (self.segments is not None) != (self.method == "segments"),
            "method segments needs the first stage of every segment after the first, and no other method has them",
            "segments",
            "for example `method=segments` `segments=2,4`",
        )

    def _wrong_monitor(self) -> Iterator[Check]:
        """What measures the cosine, and what it steers."""
        target = self.target_cosine
        yield self.monitor < 0, f"is {self.monitor}, must be at least 0", "monitor", ""
        yield target is not None and not 0 < target < 1, f"is {target}, must be between 0 and 1", "target_cosine", ""
        yield (
            target is not None and not self.monitor and self.method != "auto",
            "needs the monitor that it steers by",
            "target_cosine",
            "add, for example, `monitor=20`",
        )
        yield (
            self.monitor > 0 and self.copies % 2 > 0 and not self.open,
            f"the monitor splits the copies in two halves, and {self.copies} is odd",
            "copies",
            f"use {self.copies + 1}",
        )
        yield (
            target is not None and not 2 <= self.copies_min <= self.copies_max,
            f"{self.copies_min} to {self.copies_max} copies is no range that starts at 2 or more",
            "copies_min",
            "",
        )

    def _wrong_halves(self) -> Iterator[Check]:
        """A monitored step is two of half of the copies, and each must be able to do what the whole can."""
        if not self.monitor or self.open:
            return
        noisy = [one for one in self.plan or () if one.kind != "bp"]
        means = "copy-mean" in {*(one.baseline for one in noisy), self.changes.get("baseline")}
        learned = "learned" in {*(one.sigma_rule for one in noisy), self.changes.get("sigma_rule")}
        needs = "baseline copy-mean needs 2 copies" if means else "a learned sigma needs 2 antithetic pairs"
        what, few = f"{needs} in each half that the monitor splits a step into", means or learned
        yield few and self.copies < 4, f"{what}, and there are {self.copies}", "copies", "use 4 or more"
        yield (
            few and self.target_cosine is not None and self.copies_min < 4,
            f"{what}, and the copies may fall to {self.copies_min}",
            "copies_min",
            "use 4 or more",
        )
        half = self.copies // 2
        yield (
            learned and self.group is not None and gcd(self.group, half) < 2,
            f"a learned sigma needs 2 pairs in every copy group, and in the monitor's halves of {half} copies groups "
            f"of {self.group} become groups of 1",
            "group",
            "leave it out",
        )

    @property
    def open(self) -> bool:
        """Whether the plan and its copies are still to be measured."""
        return self.method == "auto" and self.plan is None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides what a step computes, as plain values."""
        values = asdict(self)
        for name in FREE - ({"steps"} if self.rate_schedule == "cosine" else set()):
            del values[name]
        return values

    @property
    def digest(self) -> str:
        """Of :attr:`identity`."""
        return sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


NAMES = {
    "model_options": "option",
    "data": "dataset",
    "changes": "the method's options",
    "learner_options": "the method's options",
    "plan": "estimators",
    "rate": "lr",
    "rate_schedule": "lr_schedule",
    "rate_every": "lr_every",
    "rate_factor": "lr_factor",
    "sigma_rate": "sigma_lr",
}
"""Options whose fields have other names here."""


def option_of(field_name: str) -> str:
    """The option that a field comes from."""
    return NAMES.get(field_name, field_name)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What tells two identities apart, in words: ``lr was 0.001, is 0.002``."""
    found = []
    for one in fields(TrainJob):
        first, second = then.get(one.name), now.get(one.name)
        if first == second:
            continue
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            keys = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
            found += [f"{key} was {first.get(key)}, is {second.get(key)}" for key in keys]
        else:
            found.append(f"`{option_of(one.name)}` was {first}, is {second}")
    return found
