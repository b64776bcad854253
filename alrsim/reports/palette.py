"""Colours that stay apart for colour-blind readers: the Okabe-Ito palette, one colour per kind of task."""

from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import Kind

Rgb = tuple[float, float, float]

KIND_COLOURS: dict[Kind, str] = {
    "F": "#0072B2",
    "L": "#F0E442",
    "B": "#D55E00",
    "I": "#E69F00",
    "W": "#009E73",
    "G": "#CC79A7",
    "C": "#56B4E9",
    "U": "#4D4D4D",
    "X": "#999999",
}

CATEGORY_COLOURS: dict[Category, str] = {
    Category.PARAM: "#0072B2",
    Category.GRAD: "#D55E00",
    Category.OPTIMIZER: "#4D4D4D",
    Category.ACTIVATION: "#56B4E9",
    Category.NOISE: "#CC79A7",
    Category.TEMP: "#F0E442",
}

INK = "#1A1A1A"
FAINT = "#6B6B6B"
IDLE = "#F1F1F1"
IDLE_EDGE = "#D9D9D9"

_LIGHTEST = 0.52


def to_rgb(colour: str) -> Rgb:
    """``'#0072B2'`` -> three floats in 0..1."""
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))  # type: ignore[return-value]


def shade(colour: str, microbatch: int, microbatches: int) -> Rgb:
    """The colour of a kind for one micro-batch: the first is full, later ones lighter and lighter."""
    mix = _LIGHTEST * max(0, microbatch) / max(1, microbatches - 1)
    red, green, blue = to_rgb(colour)
    return (red + (1 - red) * mix, green + (1 - green) * mix, blue + (1 - blue) * mix)


def ink_on(colour: Rgb) -> str:
    """Black or white, whichever is easier to read on the colour (relative luminance, WCAG 2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#FFFFFF" if luminance < 0.3 else INK
