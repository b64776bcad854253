"""This host as a hardware profile: kernels are timed, then tasks, then the profile is written down."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from re import sub
from statistics import median
from typing import TYPE_CHECKING, Any

from alrsim.cost.cost_tables import Sought, launches_of, rows_of, table_of
from alrsim.cost.costs import LinkFit, MeasuredCosts
from alrsim.cost.curve_fit import fit_sum
from alrsim.cost.roofline import roofline
from alrsim.cost.roofline_fit import HostFit, fit_host, with_error
from alrsim.errors import ExecutionError
from alrsim.hardware.calibration import KernelSection, LinkSection, RooflineSection, Row, TableSection
from alrsim.hardware.figure import Section
from alrsim.hardware.profile import Profile, machine_from, profile_of
from alrsim.hardware.profile_text import profile_text
from alrsim.progress import stretch
from alrsim.reports.calibration import CalibrateResult, summary_of
from alrsim.steps.draft import Draft, Workload, draft_step
from alrsim.steps.measuring import Bench, Running, job_key, open_bench, prepare_draft
from alrsim.steps.method import Method, parse_methods
from alrsim.steps.model import Model, load_model
from alrsim.steps.options import StepOptions
from alrsim.tasks.problem import cost_key
from alrsim.version import __version__
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.execution.measuring.host_kernels import DeviceFacts


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        model: ``None``: the host's kernels only.
        name: Of the profile.
        samples: Micro-batch sizes.
        copies: Copies per LR task.
        quick: The smallest kernels only.
    """

    model: Model | None
    methods: Sequence[Method]
    samples: Sequence[int]
    copies: Sequence[int]
    asked: StepOptions
    units: int
    running: Running
    device: str
    name: str
    quick: bool = False


def calibrate_host(wanted: Wanted) -> CalibrateResult:
    """Everything that was asked for, measured and fitted; nothing is written here.

    Raises:
        ExecutionError: what the executor cannot run, if no method is left.
    """
    kernels, fit = _kernels(wanted)
    base, _ = _finish(wanted, kernels, fit, None, (), None)
    # Without a model the executor still needs tasks: those of a small one, whose kernels are next to nothing.
    small = replace(wanted, model=load_model("mlp"), methods=parse_methods("bp:gpipe"), samples=(4,), copies=(1,))
    drafts, skipped = _drafts(wanted if wanted.model is not None else small, base)
    found = _measure(wanted, drafts)
    known = [kind for (_, draft), one in zip(drafts, found, strict=True) for kind in _modelled(draft, one)]
    tables = () if wanted.model is None else _tables(drafts, found, wanted.running.repeats)
    fitted = roofline_section(known, kernels=wanted.model is not None)
    profile, text = _finish(wanted, kernels, fit, found[0], tables, fitted)
    section = profile.spec.calibration
    assert section is not None, "costs make one"
    return CalibrateResult(
        profile.name, summary_of(section), tuple(skipped), profile=profile, text=text, costs=found[0]
    )


def _kernels(wanted: Wanted) -> tuple[tuple[KernelSection, ...], HostFit]:
    from alrsim.execution.measuring.host_kernels import by_kernel, device_of, measure, probes

    device = device_of(wanted.device)
    every = probes(device, small=wanted.quick)
    with stretch(len(every) * wanted.running.repeats, "kernels") as step:
        timings = measure(
            every, wanted.units, wanted.running.repeats, device, lambda count, _all: step(f"timing {count}")
        )
    sections = [
        KernelSection(
            kernel=kernel,
            precision=precision,
            error=0.0,
            points=tuple(
                (one.probe.size, round(one.alone, 1), round(one.busy, 1), round(one.spread, 4)) for one in found
            ),
        )
        for kernel, precision, found in by_kernel(timings)
    ]
    fit = fit_host(sections)
    return tuple(with_error(fit, section) for section in sections), fit


def _drafts(wanted: Wanted, profile: Profile) -> tuple[list[tuple[Bench, Draft]], list[str]]:
    """Every distinct task graph over sizes and copies, prepared; LR alone has copies."""
    assert wanted.model is not None
    machine = machine_from(profile, wanted.units)
    found: list[tuple[Bench, Draft]] = []
    skipped: dict[str, str] = {}
    microbatches = wanted.asked.microbatches
    for samples in wanted.samples:
        asked = wanted.asked.with_(batch=samples * microbatches)
        first = open_bench(Workload(wanted.model, machine, asked), wanted.running)
        for copies in wanted.copies:
            work = replace(first.work, asked=asked.with_(copies=copies))
            bench = replace(first, work=work)
            for method in wanted.methods:
                if method.label in skipped or (not method.is_lr and copies != wanted.copies[0]):
                    continue
                draft = draft_step(work, method)
                if job_key(draft) in bench.prepared:
                    continue
                try:
                    prepare_draft(bench, draft)
                except ExecutionError as error:
                    skipped[method.label] = error.what
                    warn(f"{method.label} is left out: {error.what}")
                    continue
                found.append((bench, draft))
    if not found:
        raise ExecutionError("none of the methods can run on this model", field="methods", fix="see the warnings")
    return found, [f"{label}: {why}" for label, why in skipped.items()]


def _measure(wanted: Wanted, drafts: Sequence[tuple[Bench, Draft]]) -> list[MeasuredCosts]:
    from alrsim.execution.measuring.calibrate import calibrate_all

    jobs = [bench.prepared[job_key(draft)] for bench, draft in drafts]
    with stretch((1 if wanted.units == 1 else 2) * len(jobs) * (wanted.running.repeats + 1), "tasks") as step:
        return calibrate_all(
            jobs,
            executor=wanted.running.executor,
            limits=wanted.running.limits,
            units=wanted.units,
            repeats=wanted.running.repeats,
            progress=lambda count, _all: step(f"step {count}"),
        )


def _sought(draft: Draft) -> Sought:
    return Sought(draft.stages, draft.method.rule, draft.options)


def _tables(
    drafts: Sequence[tuple[Bench, Draft]], costs: Sequence[MeasuredCosts], repeats: int
) -> tuple[TableSection, ...]:
    """One table per rule, options and formats; rows that two task graphs share are kept once."""
    rows: dict[tuple[str, str, str], dict[tuple[Any, ...], Row]] = {}
    heads: dict[tuple[str, str, str], Sought] = {}
    for (_, draft), found in zip(drafts, costs, strict=True):
        sought = _sought(draft)
        head = table_of(sought, (), repeats)
        key = (head.rule, head.options, head.formats)
        heads.setdefault(key, sought)
        for row in rows_of(sought, draft.tasks, found):
            rows.setdefault(key, {}).setdefault((row.stage, row.kind, row.clean, row.samples, row.copies), row)
    return tuple(table_of(sought, rows[key].values(), repeats) for key, sought in heads.items())


@dataclass(frozen=True, slots=True)
class Modelled:
    """One kind of task: what the roofline says of it, and what it took.

    Attributes:
        body: ns of the roofline without launches.
        launches: Operators.
        launch_ns: What the roofline takes for one.
        taken: ns, measured alone.
    """

    body: float
    launches: int
    launch_ns: int
    taken: float


def _modelled(draft: Draft, costs: MeasuredCosts) -> list[Modelled]:
    unit = draft.work.machine.units[0]
    found = []
    for key, task in {cost_key(task): task for task in draft.tasks.tasks}.items():
        launches, overhead = launches_of(task), unit.launch_overhead_ns
        body = max(0, roofline(task, unit, draft.options.precision) - launches * overhead)
        if costs.isolated[key]:
            found.append(Modelled(body, launches, overhead, costs.isolated[key]))
    return found


def roofline_section(found: Sequence[Modelled], *, kernels: bool = True) -> RooflineSection | None:
    """From the roofline to measured times; ``None`` where fewer than four kinds of tasks say anything.

    Args:
        kernels: Whether these tasks say anything of kernels; else the roofline's own are taken as they are.
    """
    if len(found) < 4:
        return None
    if kernels:
        start, launch, slope = fit_sum([(1.0, one.launches, one.body) for one in found], [one.taken for one in found])
    else:
        slope = 1.0
        start, launch = fit_sum(
            [(1.0, one.launches) for one in found], [max(1.0, one.taken - one.body) for one in found]
        )
    bare = [abs((one.body + one.launches * one.launch_ns) / one.taken - 1) for one in found]
    errors = [abs((start + launch * one.launches + slope * one.body) / one.taken - 1) for one in found]
    return RooflineSection(
        start_ns=round(start),
        launch_ns=round(launch),
        slope=float(f"{slope:.6g}"),
        error=round(median(errors), 4),
        plain_error=round(median(bare), 4),
    )


def _finish(
    wanted: Wanted,
    kernels: tuple[KernelSection, ...],
    fit: HostFit,
    costs: MeasuredCosts | None,
    tables: tuple[TableSection, ...],
    fitted: RooflineSection | None,
) -> tuple[Profile, str]:
    """The profile and its text, which was read back; without costs it has no calibration section yet."""
    where = wanted.name
    text = profile_text(_document(wanted, kernels, fit, costs, tables, fitted), where)
    return profile_of(text, where), text


def _document(
    wanted: Wanted,
    kernels: tuple[KernelSection, ...],
    fit: HostFit,
    costs: MeasuredCosts | None,
    tables: tuple[TableSection, ...],
    fitted: RooflineSection | None,
) -> dict[str, Any]:
    from alrsim.execution.measuring.host_kernels import describe_device
    from alrsim.execution.workers.thread_workers import core_count

    device = describe_device(wanted.device)
    document: dict[str, Any] = {
        "name": sub(r"[^a-z0-9.-]+", "-", wanted.name.lower()).strip("-.") or "calibrated",
        "device": device.name,
        "kind": "accelerator" if wanted.device == "cuda" else "host",
        "units": wanted.units,
    }
    if wanted.device != "cuda":
        document["shared_cores"] = core_count()
    document["notes"] = ["A unit is one core." if wanted.device != "cuda" else "Units are streams of one device."]
    if costs is not None:
        document["calibration"] = _section(wanted, device, kernels, costs, tables, fitted)
    document["unit"] = _unit(fit, device)
    document["links"] = _links(wanted, () if costs is None else costs.links)
    return document


def _section(
    wanted: Wanted,
    device: "DeviceFacts",
    kernels: tuple[KernelSection, ...],
    costs: MeasuredCosts,
    tables: tuple[TableSection, ...],
    fitted: RooflineSection | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "program": f"alrsim {__version__}",
        "device": device.name,
        "torch": device.torch,
        "executor": costs.executor,
        "units": costs.units,
        "cores": costs.cores,
        "repeats": costs.repeats,
        "overhead_ns": costs.dispatch_overhead_ns,
        "host": {"cpu_share": costs.host.cpu_share, "drift": costs.host.drift},
    }
    if fitted is not None:
        found["roofline"] = _plain(fitted)
    found["links"] = [_plain(_link(link)) for link in costs.links]
    found["kernels"] = [_plain(kernel) for kernel in kernels]
    found["tables"] = [_plain(table) for table in tables]
    return found


def _plain(section: Section) -> dict[str, Any]:
    plain: dict[str, Any] = section.model_dump(mode="json", exclude_none=True)
    return plain


def _link(link: LinkFit) -> LinkSection:
    return LinkSection(
        source=link.source,
        target=link.target,
        send_ns=link.send_ns,
        latency_ns=link.latency_ns,
        bandwidth_gb_per_s=None if link.bandwidth is None else float(f"{link.bandwidth / 1e9:.6g}"),
        error=round(link.error, 4),
        points=link.points,
    )


def _figure(value: float, device: "DeviceFacts", note: str) -> dict[str, Any]:
    return {
        "value": float(f"{value:.6g}"),
        "source": f"alrsim calibrate, {device.name}, torch {device.torch}",
        "confidence": "measured",
        "note": note,
    }


def _unit(fit: HostFit, device: "DeviceFacts") -> dict[str, Any]:
    unit: dict[str, Any] = {
        "peak_tflops_dense": {
            precision.value: {**_figure(peak / 1e12, device, "best rate of a product"), "dense": True}
            for precision, peak in fit.peaks.items()
        },
        "elementwise_tflops": _figure(fit.elementwise_flops / 1e12, device, "sum of two tensors, best size"),
        "efficiency": {
            precision.value: {
                "points": [list(point) for point in points],
                "source": f"alrsim calibrate, {device.name}, torch {device.torch}",
                "confidence": "measured",
                "note": "closest ascending curve to matrix products and convolutions",
            }
            for precision, points in fit.efficiency.items()
        },
        "memory_bandwidth_gb_per_s": _figure(fit.memory_bandwidth / 1e9, device, "copy, read and write counted"),
        "launch_overhead_us": _figure(fit.launch_ns / 1e3, device, "one eager torch operator"),
    }
    if device.memory is not None:
        unit["memory_gb"] = _figure(device.memory / 1e9, device, "of the device")
    return unit


def _links(wanted: Wanted, links: Sequence[LinkFit]) -> dict[str, Any]:
    from alrsim.execution.measuring.host_kernels import describe_device

    device = describe_device(wanted.device)
    if wanted.units == 1 and wanted.device == "cuda":
        return {"topology": "none"}
    latency = median([link.send_ns + link.latency_ns for link in links] or [0])
    found: dict[str, Any] = {"topology": "all_to_all"}
    speeds = [link.bandwidth for link in links if link.bandwidth is not None]
    if speeds:
        found["bandwidth_gb_per_s_per_direction"] = _figure(median(speeds) / 1e9, device, "fit over message sizes")
    else:
        found["no_copy"] = True
    note = f"executor {wanted.running.executor}: besides the bytes" if links else "not measured: one unit"
    found["latency_us"] = _figure(latency / 1e3, device, note)
    return found
