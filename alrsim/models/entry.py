"""What the registry of the zoo knows about a model.

An option of a model says what is allowed, and what is said when it is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

Value = int | str


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a whole number, or one of a few words.

    Attributes:
        default: Decides the type too.
        help: One line for people.
        minimum: Smallest number allowed.
        multiple: Numbers must be a multiple of this.
        choices: The words allowed, for an option that is a word.
    """

    default: Value
    help: str
    minimum: int = 1
    multiple: int = 1
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One architecture.

    Attributes:
        name: As typed on the command line.
        build: Makes the model from its options as keyword arguments, all of them. Draws the initial parameters from
            torch's global generator; use :func:`alrsim.models.build`, which seeds it and puts it back.
        options: By name.
        description: One line for people.
        source: Where the architecture comes from, and what is our own choice.
    """

    name: str
    build: Callable[..., TorchModel]
    options: Mapping[str, Option]
    description: str
    source: str


SEED = Option(0, "seed of the initial parameters and of the example input", minimum=0)


def image_options(*, width: int, classes: int, channels: int, size: int, multiple: int) -> Mapping[str, Option]:
    """The options that every convolutional network of the zoo has."""
    return {
        "width": Option(width, "channels of the first convolution; the others follow"),
        "classes": Option(classes, "number of logits", minimum=2),
        "in_channels": Option(channels, "channels of the image"),
        "image_size": Option(size, f"height and width, a multiple of {multiple}", minimum=multiple, multiple=multiple),
        "norm": Option("none", "normalisation after each convolution", choices=("none", "group", "batch")),
        "seed": SEED,
    }


def resolve(model: str, known: Mapping[str, Option], given: Mapping[str, object]) -> dict[str, Value]:
    """Every option with its value; ``given`` may hold numbers as text, as a command line does.

    Raises:
        OptionError: an option that does not exist (lists those that do) or a value that is not allowed.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise OptionError(
            f"model {model} has no option {unknown[0]!r}",
            where="--option",
            fix="options: " + ", ".join(f"{name}={option.default}" for name, option in known.items()),
        )
    return {name: _value(model, name, option, given.get(name, option.default)) for name, option in known.items()}


def _value(model: str, name: str, option: Option, value: object) -> Value:
    where = f"{model} {name}={value}"
    if option.choices:
        if value not in option.choices:
            raise OptionError("no such choice", where=where, fix=f"choose one of {', '.join(option.choices)}")
        return str(value)
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool):
        raise OptionError("is not a whole number", where=where, fix=f"for example {name}={option.default}")
    if number < option.minimum:
        raise OptionError("is too small", where=where, fix=f"use at least {option.minimum}")
    if number % option.multiple:
        raise OptionError(f"is not a multiple of {option.multiple}", where=where, fix=option.help)
    return number
