"""``calibrate``: what tasks take on this host, as a hardware profile, or as the costs of one step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alrsim.errors import OptionError
from alrsim.options import keyword, options_of
from alrsim.reports.calibration import CalibrateResult, CostsResult, costs_result
from alrsim.steps.measuring import running_of
from alrsim.steps.method import Method, parse_methods
from alrsim.steps.model import load_model
from alrsim.steps.options import MODEL, RUN, RunOptions, StepOptions
from alrsim.steps.step import Step
from alrsim.verbs import verb

METHODS = "bp:gpipe,bp-split:zb-h1,lr:lr-fixed,alr:lr-free"


def parse_counts(given: "str | int | Iterable[int]", name: str) -> tuple[int, ...]:
    """``1,2,4``: whole numbers above 0, each once, ascending.

    Raises:
        OptionError: anything else.
    """
    items: Sequence[Any] = (
        given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else [*given]
    )
    parts = [str(item).strip() for item in items]
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"{given!r} is no list of positive whole numbers", field=name, fixes=[(name, "1,2,4")])
    return tuple(sorted({int(part) for part in parts}))


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(RunOptions, StepOptions):
    """Options of :func:`calibrate`."""

    executor: str = keyword(
        "What runs the tasks: threads | processes | torchrun | cuda.", default="processes", metavar="E", panel=RUN
    )
    host: bool = keyword("No model: the host's kernels, links and overhead.", default=False, panel=MODEL)
    device: str = keyword("cpu | cuda.", default="cpu", metavar="D", choices=("cpu", "cuda"), panel=RUN)
    methods: tuple[Method, ...] = keyword(
        "Methods whose tasks are measured; the rule counts.",
        default=parse_methods(METHODS),
        metavar="LIST",
        parse=parse_methods,
        panel=MODEL,
    )
    samples: tuple[int, ...] = keyword(
        "Micro-batch sizes; others are interpolated.",
        default=(4, 8, 16),
        metavar="LIST",
        parse=parse_counts,
        panel=MODEL,
    )
    copies: Any = keyword("LR: copies in a task.", default=(1, 2, 4), metavar="LIST", parse=parse_counts, panel=MODEL)
    quick: bool = keyword("Only the smallest generic kernels.", default=False, panel=RUN)
    name: str = keyword("Name of the profile.", default="this-host", metavar="NAME", panel=MODEL)


@verb(CalibrateOptions)
def calibrate(model: Any = None, *, asked: CalibrateOptions) -> CalibrateResult | CostsResult:
    """Measure kernels, links, overhead and a model's tasks here, as a hardware profile.

    Predict with it as a machine: its task times where they fit (``cost="measured"``), else its roofline. Of a
    :class:`Step` only its own tasks are measured: ``step.simulate(costs=calibrate(step))``.

    Args:
        model: A torch model as :func:`load_model` takes it, or a :class:`Step`.

    Raises:
        OptionError: neither a model nor ``host``, or a model without torch code.
        ExecutionError: what the executor cannot run, if no method is left.
    """
    from alrsim.execution.measuring.host_kernels import device_of
    from alrsim.execution.workers.thread_workers import core_count
    from alrsim.study.host_profile import Wanted, calibrate_host

    if asked.device == "cuda" and "executor" not in asked.given:
        asked = asked.with_(executor="cuda")
    running = running_of(asked)
    step = model if isinstance(model, Step) else None
    if (model is None) == (not asked.host):
        raise OptionError("needs a model, or `host`, one of the two", field="model", fixes=[("host", True)])
    device_of(asked.device)
    if step is not None:
        return calibrate_step(step, asked)
    loaded = None if model is None else load_model(model, option=asked.option)
    if loaded is not None and not loaded.runs:
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            field="model",
            fix="give a zoo name, a factory or a torch module",
        )
    if "batch" in asked.given:
        sizes = ", ".join(map(str, asked.samples))
        raise OptionError(f"what is measured are micro-batches of {sizes} samples", field="batch", fix="`samples=...`")
    units = asked.units or (1 if asked.device == "cuda" else core_count())
    plain = step_options(asked)
    return calibrate_host(
        Wanted(
            loaded,
            asked.methods,
            asked.samples,
            asked.copies,
            plain,
            units,
            running,
            asked.device,
            asked.name,
            asked.quick,
        )
    )


def step_options(asked: CalibrateOptions) -> StepOptions:
    """The options of the steps that are measured; their copies come one number after the other."""
    keywords = {name: getattr(asked, name) for name in asked.given}
    known = {one.name for one in options_of(StepOptions)} - {"copies"}
    return StepOptions.take({name: value for name, value in keywords.items() if name in known})


def calibrate_step(step: Step, asked: CalibrateOptions) -> CostsResult:
    """The costs of one step's own tasks.

    Raises:
        OptionError: a textbook problem, or a step of another machine than this host.
    """
    from alrsim.steps.measuring import calibrate_drafts, job_key, open_bench, require_measurable

    if step.draft is None:
        raise OptionError("only the step of a model can be measured", where=step.name)
    work = step.draft.work
    require_measurable(work.machine, work.model)
    bench = open_bench(work, running_of(asked))
    calibrate_drafts(bench, [step.draft])
    return costs_result(step.name, work.sized.name, bench.costs[job_key(step.draft)])
