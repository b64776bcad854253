"""Which kernel to use: the fastest by measurement, remembered per host.

A measurement is taken once per host, shape and kind of codes, on random data; the policy that picks from the costs is a
pure function. The file is a cache: it may be deleted, cut off or read-only without harm.
"""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from alrsim.errors import FileError, OptionError
from alrsim.estimators.kernels.product import PRODUCTS, product
from alrsim.estimators.kernels.shapes import LinearShape, Shape
from alrsim.estimators.kernels.state import InputKind, NoiseKind
from alrsim.files import read_json
from alrsim.writing import cache_folder, make_folder, write_atomically

FORMAT = "alrsim.kernel-costs/1"
MARGIN = 1.05
"""A kernel later in the registry must be this much faster: noise in the clock does not change the choice."""

_MOST_NUMBERS = 1 << 22
_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """What is multiplied: the choice may differ for every case.

    Attributes:
        copies: Noise draws in one product.
        samples: Samples per copy.
        threads: That one product may use.
    """

    shape: Shape
    copies: int
    samples: int
    inputs: InputKind
    noise: NoiseKind
    threads: int = 1

    @property
    def name(self) -> str:
        """The case as one line of text, the key of the cache."""
        numbers = ",".join(f"{key}={_plain(value)}" for key, value in asdict(self.shape).items())
        kind = "linear" if isinstance(self.shape, LinearShape) else "conv"
        return f"{kind} {numbers} copies={self.copies} samples={self.samples} {self.inputs}x{self.noise}"


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def pick(costs: Mapping[str, float], exact_first: Sequence[str] = tuple(PRODUCTS), margin: float = MARGIN) -> str:
    """The policy: the fastest; of those within ``margin`` of it, the first in the order of preference.

    Raises:
        OptionError: nothing to pick from.
    """
    known = {name: seconds for name, seconds in costs.items() if name in exact_first and seconds > 0}
    if not known:
        raise OptionError("no kernel can multiply these codes", field="kernel", fix="use other codes")
    limit = min(known.values()) * margin
    return next(name for name in exact_first if known.get(name, float("inf")) <= limit)


def candidates(case: Case) -> list[str]:
    """Kernels that may be chosen: all that take the codes, but not the paper's baseline."""
    return [name for name, kernel in PRODUCTS.items() if name != "paper" and kernel.takes(case.inputs, case.noise)]


def choose(
    case: Case, *, force: str | None = None, folder: Path | None = None, among: Sequence[str] | None = None
) -> str:
    """The kernel for a case: forced by name, remembered, or measured now.

    Args:
        folder: Of the cache; default :func:`alrsim.writing.cache_folder`.
        among: Kernels to choose from, such as those of one storage format; default :func:`candidates`.

    Raises:
        OptionError: the forced kernel does not exist or cannot multiply these codes.
    """
    if force is not None:
        return product(force, case.inputs, case.noise).name
    path = (folder or cache_folder()) / "kernels.json"
    host, names = host_key(case.threads), candidates(case)
    known = _read(path).get(host, {}).get(case.name, {})
    if set(known) != set(names):
        known = measure(case, names)
        _remember(path, host, case.name, known)
    return pick(known, tuple(PRODUCTS) if among is None else among)


def measure(case: Case, names: Sequence[str]) -> dict[str, float]:
    """Seconds of one product with each kernel: the fastest of a few, on random codes.

    A case with many copies is measured on fewer: cost is proportional to them.
    """
    shape = case.shape
    ins, outs = _sizes(shape)
    each = case.samples * max(torch.Size(ins).numel(), torch.Size(outs).numel())
    copies = max(1, min(case.copies, _MOST_NUMBERS // each))
    generator = torch.Generator().manual_seed(0)
    rows = copies * case.samples
    x = _random(case.inputs, (rows, *ins), generator)
    e = _random("bipolar" if case.noise == "sign" else "real", (rows, *outs), generator)
    weights = torch.randn(copies, case.samples, generator=generator)
    found = {}
    for name in names:
        kernel = PRODUCTS[name]
        left, right = kernel.keep_input(x, shape, case.inputs), kernel.keep_noise(e, shape, case.noise)
        kernel.multiply(left, right, weights, shape, case.threads)
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            kernel.multiply(left, right, weights, shape, case.threads)
            times.append(time.perf_counter() - start)
        found[name] = min(times) * case.copies / copies
    return found


def _sizes(shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(shape, LinearShape):
        return (shape.positions, shape.inputs), (shape.positions, shape.outputs)
    return (shape.inputs, *shape.size), (shape.outputs, *shape.out_size)


def _random(kind: InputKind, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if kind == "real":
        return torch.randn(size, generator=generator)
    low, high = {"int8": (-127, 128), "ternary": (-1, 2), "bipolar": (0, 2), "binary": (0, 2)}[kind]
    whole = torch.randint(low, high, size, generator=generator)
    return (2 * whole - 1 if kind == "bipolar" else whole).to(torch.float32)


def host_key(threads: int) -> str:
    """What a cost depends on besides the case: processor, versions, threads."""
    return f"{_processor()} | torch {version('torch')} | numba {version('numba')} | threads {threads}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    names = [facts.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    return " ".join(filter(None, names)) or platform.machine()


def _read(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The remembered costs; a file that is missing, cut off or of another format holds none."""
    try:
        document = read_json(path)
    except FileError:
        return {}
    hosts = document.get("hosts") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(hosts, dict):
        return {}
    return {
        host: {case: costs for case, costs in cases.items() if _are_costs(costs)}
        for host, cases in hosts.items()
        if isinstance(cases, dict)
    }


def _are_costs(costs: Any) -> bool:
    return isinstance(costs, dict) and all(isinstance(one, float | int) and one > 0 for one in costs.values())


def _remember(path: Path, host: str, case: str, costs: Mapping[str, float]) -> None:
    """Add to the file as it is now, in one step; a folder that cannot be written is no reason to stop."""
    hosts = _read(path)
    hosts.setdefault(host, {})[case] = dict(costs)
    text = json.dumps({"format": FORMAT, "hosts": hosts}, indent=1) + "\n"
    try:
        make_folder(path.parent)
        write_atomically(path, text.encode())
    except FileError:
        return
