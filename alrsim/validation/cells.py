"""What is validated: cells of models, methods, micro-batches, copies and formats, and the grids that they make up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product

from alrsim.errors import OptionError
from alrsim.hardware.precision import Precision, PrecisionPlan

UNITS = 2
CALIBRATION_MICROBATCHES = 3
"""Micro-batches of the steps whose tasks are timed. No validated step has as many."""

FORMATS: Mapping[str, PrecisionPlan] = {
    "bf16": PrecisionPlan(saved=Precision.BF16, noise=Precision.BF16),
    "regenerated": PrecisionPlan(noise=Precision.REGENERATED),
    "sign1": PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1),
}
"""Formats of what LR keeps, other than the method's own, by the name that they have in a cell."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A zoo model at the size at which it is validated: tasks of a millisecond or more.

    Attributes:
        samples: In one micro-batch.
        options: Of the zoo, ``(name, value)``.
    """

    name: str
    samples: int
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One step to predict and to measure.

    Attributes:
        model: Key of :data:`MODELS`.
        method: ``rule:scheduler``, as on the command line.
        copies: ``None`` for BP, which has none.
        formats: Key of :data:`FORMATS`; empty: the method's own.
    """

    model: str
    microbatches: int
    method: str
    copies: int | None = None
    formats: str = ""
    units: int = UNITS

    @property
    def name(self) -> str:
        """``resnet5/m8/alr:lr-free/c4/sign1``; other than two units say so, ``resnet5/u4/m8/...``."""
        units = f"u{self.units}" if self.units != UNITS else ""
        copies = "" if self.copies is None else f"c{self.copies}"
        parts = (self.model, units, f"m{self.microbatches}", self.method, copies, self.formats)
        return "/".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that do the same job by other methods: what their order and ratios are judged in.

    Attributes:
        cells: The first is what the others are compared with.
    """

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """What a run of ``alrsim validate`` does.

    Attributes:
        cells: Model by model; inside a model in the order in which they take turns.
        repeats: Measured steps per cell.
        warmup: Steps before them.
    """

    name: str
    cells: tuple[Cell, ...]
    repeats: int
    warmup: int = 1


MODELS: Mapping[str, ModelSpec] = {
    one.name: one
    for one in (
        ModelSpec("mlp", 512, (("hidden", "512"), ("depth", "4"))),
        ModelSpec("resnet5", 48),
        ModelSpec("resnet9", 16, (("width", "16"), ("classes", "10"))),
        ModelSpec("vgg8", 24, (("width", "16"),)),
        ModelSpec("resnet12", 12, (("width", "8"), ("image_size", "32"), ("classes", "10"))),
    )
}

METHODS = ("bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed", "lr:lr-free", "alr:lr-free")


def _cells(models: Sequence[str], microbatches: Sequence[int]) -> tuple[Cell, ...]:
    return tuple(
        Cell(model, count, method, None if method.startswith("bp:") else 1)
        for model, count, method in product(models, microbatches, METHODS)
    )


def _variants(model: str, microbatches: int, *kinds: tuple[str, int, str]) -> tuple[Cell, ...]:
    return tuple(Cell(model, microbatches, method, copies, formats) for method, copies, formats in kinds)


_COPIES = (("lr:lr-fixed", 4, ""), ("lr:lr-free", 4, ""), ("alr:lr-free", 4, ""))
_FORMATS = (("lr:lr-free", 1, "bf16"), ("lr:lr-free", 1, "regenerated"), ("alr:lr-free", 1, "sign1"))

GRIDS: Mapping[str, Grid] = {
    "quick": Grid(
        "quick",
        (
            *_cells(("mlp", "resnet5"), (4, 8)),
            *_variants("resnet5", 4, *_COPIES),
            *_cells(("resnet9",), (4,)),
        ),
        repeats=5,
    ),
    "full": Grid(
        "full",
        tuple(
            cell
            for model in MODELS
            for cell in (
                *_cells((model,), (4, 8, 16)),
                *(_variants(model, 4, *_COPIES, *_FORMATS) if model in ("mlp", "resnet5", "resnet9") else ()),
            )
        ),
        repeats=9,
    ),
}
"""What ``alrsim validate`` measures, with and without ``--quick``."""


def with_units(grid: Grid, units: int | None) -> Grid:
    """The same grid on another number of units."""
    if units is None:
        return grid
    return replace(grid, cells=tuple(replace(cell, units=units) for cell in grid.cells))


def pick_cells(grid: Grid, patterns: str | None) -> tuple[Cell, ...]:
    """The cells whose names match one of the comma-separated shell patterns; all of them without any.

    Raises:
        OptionError: a pattern that matches none.
    """
    if patterns is None:
        return grid.cells
    words = [word.strip() for word in patterns.split(",") if word.strip()]
    for word in words:
        if not any(fnmatchcase(cell.name, word) for cell in grid.cells):
            raise OptionError(
                f"{word!r} matches no cell of the {grid.name} grid",
                where="--cells",
                fix=f"names look like {grid.cells[0].name} and {grid.cells[-1].name}; * stands for anything",
            )
    found = tuple(cell for cell in grid.cells if any(fnmatchcase(cell.name, word) for word in words))
    if not found:
        raise OptionError("names no cell", where="--cells", fix=f"for example {grid.cells[0].name}")
    return found


def groups_of(cells: Sequence[Cell]) -> tuple[Group, ...]:
    """Cells of one model, number of micro-batches and units, with equal copies and formats; BP has neither, so it
    stands in all of them. Groups of one cell are left out."""
    found = []
    for base in dict.fromkeys(replace(one, method="", copies=None, formats="") for one in cells):
        kinds: dict[Cell, list[Cell]] = {}
        for one in cells:
            if (one.model, one.microbatches, one.units) == (base.model, base.microbatches, base.units):
                kinds.setdefault(replace(one, method=""), []).append(one)
        exact = kinds.pop(base, [])
        for kind, same in (kinds or {base: list[Cell]()}).items():
            if len(exact) + len(same) > 1:
                found.append(Group(kind.name, (*exact, *same)))
    return tuple(found)
