"""A profile as the text of its file, with the checksum of its calibration."""

from collections.abc import Mapping
from typing import Any

import yaml

from alrsim.errors import ProfileError
from alrsim.hardware.calibration import checksum
from alrsim.hardware.profile import profile_of
from alrsim.hardware.strictyaml import Fault, parse_yaml


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Several lines of text as a block, as people write them."""


def _text(dumper: Any, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def profile_text(document: Mapping[str, Any], where: str) -> str:
    """The YAML text of a profile; keys keep their order. It has been read back, so that no wrong file is ever written.

    Args:
        document: Plain values; ``calibration`` gets its checksum here.
        where: Name of the file, for errors.

    Raises:
        ProfileError: these values are no profile.
    """
    values = dict(document)
    if "calibration" in values:
        plain = parse_yaml(_dump(values))
        if isinstance(plain, Fault):
            raise ProfileError(plain.message, where=where)
        values["calibration"] = {"checksum": checksum(plain.value["calibration"]), **values["calibration"]}
    text = _dump(values)
    profile_of(text, where)
    return text


def _dump(values: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None
    )
    return text
