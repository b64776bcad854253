"""Hardware profiles: find them, read them, refuse what is wrong with them.

A profile is a YAML file (:mod:`alrsim.hardware.specification` says what may be in it). Shipped ones are found
by name; any other by path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from alrsim.errors import FileError, ProfileError
from alrsim.files import read_text
from alrsim.hardware.build import machine_from
from alrsim.hardware.faults import faults_of
from alrsim.hardware.machine import Machine
from alrsim.hardware.specification import Kind, Profile, Specification
from alrsim.hardware.strictyaml import Document, Fault, parse_yaml
from alrsim.registry import Registry

__all__ = [
    "Profile",
    "ProfileInfo",
    "key_path",
    "load_machine",
    "load_profile",
    "machine_from",
    "machines",
    "place",
    "profile_folder",
    "profile_of",
    "read_profile",
    "shipped_names",
]


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """One line of ``alrsim hardware list``."""

    name: str
    device: str
    kind: Kind
    units: int
    path: str


def profile_folder(package: Traversable | None = None, checkout: Path | None = None) -> Traversable:
    """Where the shipped profiles are: inside an installed package, or beside it in a source checkout.

    Raises:
        FileError: in neither place.
    """
    package = resources.files("alrsim.hardware") if package is None else package
    checkout = Path(__file__).parents[2] if checkout is None else checkout
    for folder in (package / "profiles", checkout / "hardware_profiles"):
        if folder.is_dir():
            return folder
    raise FileError("the shipped hardware profiles are missing", where=str(package), fix="install alrsim again")


def shipped_names() -> tuple[str, ...]:
    """Names of the shipped profiles, sorted."""
    found = (entry.name for entry in profile_folder().iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(name.removesuffix(".yaml") for name in found))


def machines() -> tuple[ProfileInfo, ...]:
    """Every shipped profile, sorted by name.

    >>> [one.name for one in machines() if one.kind == "heterogeneous"]
    ['hetero-h100-l4-cpu']
    """
    profiles = (load_profile(name) for name in shipped_names())
    return tuple(ProfileInfo(p.name, p.spec.device, p.spec.kind, p.units, p.path) for p in profiles)


def load_machine(source: str | Path | Machine, units: int | None = None) -> Machine:
    """A machine: of a shipped profile by name, of any profile by path, or one that is there already.

    >>> load_machine("h100", units=4)
    Machine(h100: 4 x NVIDIA H100 SXM5 80 GB)

    Args:
        source: What :func:`load_profile` takes, or a machine.
        units: How many units; default: the profile's own number, or those of the machine. A machine that was made
            from a profile is made again with that number.

    Raises:
        ProfileError: as :func:`load_profile` and :func:`machine_from`, or another number of units than a machine
            without a profile has.
        FileError: a file that cannot be read.
    """
    if not isinstance(source, Machine):
        name = str(source)
        if name in MACHINES.plugged or (not _is_path(name) and name not in shipped_names() and name in MACHINES):
            return MACHINES[name](units)
        return machine_from(load_profile(source), units)
    if units is None or units == len(source.units):
        return source
    if source.profile is None:
        raise ProfileError(
            f"{units} units asked for, but the machine has {len(source.units)} and no profile to make more from",
            where=source.name,
            field="units",
            fix="leave `units` out, or make the machine with that number",
        )
    return machine_from(source.profile, units)


def load_profile(name_or_path: str | Path) -> Profile:
    """A shipped profile by name, or any profile by path (with ``/``, or ending in ``.yaml`` or ``.yml``).

    Raises:
        ProfileError: unknown name, or a file that is not a correct profile (first fault, file and key path).
        FileError: a file that cannot be read.
    """
    return profile_of(*_source(str(name_or_path)))


def profile_of(text: str, where: str, folder: Path | None = None) -> Profile:
    """The profile that a file's text is.

    Args:
        where: Name of the file, for errors.
        folder: See :func:`read_profile`.

    Raises:
        ProfileError: the first fault in full, and how many more there are.
    """
    faults, profile = read_profile(text, where, folder)
    if profile is None:
        more = f" (and {len(faults) - 1} more; `alrsim hardware validate` lists all)" if len(faults) > 1 else ""
        raise ProfileError(f"{faults[0].message}{more}", where=place(where, faults[0]), fix=faults[0].fix)
    return profile


MACHINES: Registry[Callable[[int | None], Machine]] = Registry("machine", {}, "alrsim.machines")
"""Machines that are made by functions; the shipped ones are profiles, which are files."""


def read_profile(text: str, where: str, folder: Path | None = None) -> tuple[tuple[Fault, ...], Profile | None]:
    """All faults of a profile's text, or the profile.

    Args:
        folder: Where else to look for the profiles of a heterogeneous one.
    """
    document, spec, found = _read_specification(text)
    if spec is None:
        return found, None
    faults: list[Fault] = []
    parts: list[Profile] = []
    for position, group in enumerate(spec.groups):
        part = _part(group.profile, group.units, folder)
        if isinstance(part, str):
            path = ("groups", position, "profile")
            faults.append(Fault(part, path, document.line_of(path)))
        else:
            parts.append(part)
    return tuple(faults), None if faults else Profile(spec, where, tuple(parts))


def _read_specification(text: str) -> tuple[Document, Specification | None, tuple[Fault, ...]]:
    document = parse_yaml(text)
    if isinstance(document, Fault):
        return Document(None, {}), None, (document,)
    if not isinstance(document.value, dict):
        fault = Fault("must be a section of keys such as name, device, unit and links", line=1)
        return document, None, (fault,)
    try:
        return document, Specification.model_validate(document.value), ()
    except ValidationError as error:
        return document, None, faults_of(error, document)


def place(where: str, fault: Fault) -> str:
    """``file.yaml, line 3, unit.memory_gb``."""
    line = "" if fault.line is None else f", line {fault.line}"
    path = "" if not fault.path else ", " + key_path(fault.path)
    return f"{where}{line}{path}"


def key_path(path: tuple[str | int, ...]) -> str:
    """``('groups', 0, 'name')`` -> ``'groups[0].name'``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _part(name: str, units: int, folder: Path | None) -> Profile | str:
    """The profile of a group (beside the file that names it, else shipped), or why not."""
    beside = None if folder is None else folder / (name if _is_path(name) else f"{name}.yaml")
    try:
        text, where, _ = _source(str(beside) if beside is not None and beside.is_file() else name)
    except (ProfileError, FileError) as error:
        return f"cannot use {name!r}: {error.what}"
    _, spec, faults = _read_specification(text)
    if spec is None:
        return f"cannot use {name!r}: {place(where, faults[0])}: {faults[0].message}"
    if spec.kind == "heterogeneous":
        return f"{name!r} is heterogeneous itself; list its groups here instead"
    if spec.shared_cores is not None and units > spec.shared_cores:
        return f"{units} units of {name!r}, which has {spec.shared_cores} cores; a group cannot share cores"
    return Profile(spec, where)


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith((".yaml", ".yml"))


def _source(name: str) -> tuple[str, str, Path | None]:
    """Text, name for messages, and folder of a profile."""
    if _is_path(name):
        path = Path(name)
        return read_text(path), name, path.parent
    names = shipped_names()
    if name not in names:
        raise ProfileError(
            f"no hardware profile is called {name!r}",
            field="hardware",
            fix=f"{_close_names(name, names)}; or give the path of a .yaml file",
        )
    entry = profile_folder() / f"{name}.yaml"
    return entry.read_text(encoding="utf-8"), str(entry), None


def _close_names(name: str, names: tuple[str, ...]) -> str:
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    alike = [other for other in names if other.startswith(wanted)] if wanted else []
    alike += [other for other in get_close_matches(wanted, names, n=3, cutoff=0.5) if other not in alike]
    return f"did you mean {' or '.join(alike[:3])}?" if alike else f"profiles are {', '.join(names)}"
