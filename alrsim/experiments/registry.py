"""Every claim by its id."""

from collections.abc import Mapping, Sequence

from alrsim.errors import OptionError
from alrsim.experiments.alr import ALR_CLAIMS
from alrsim.experiments.claim import Claim
from alrsim.experiments.ulr import ULR_CLAIMS

CLAIMS: Mapping[str, Claim] = {claim.id: claim for claim in (*ALR_CLAIMS, *ULR_CLAIMS)}


def pick_claims(text: str | None) -> list[Claim]:
    """All claims, or those of a comma-separated list of ids, or of their beginnings (``alr.tab4``), in registry order.

    Raises:
        OptionError: an entry that fits no claim, or an empty list.
    """
    if text is None:
        return list(CLAIMS.values())
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise OptionError("names no claim", field="claims", fix="alrsim reproduce --list shows them")
    chosen: set[str] = set()
    for part in wanted:
        hits = [name for name in CLAIMS if name == part] or [name for name in CLAIMS if name.startswith(part)]
        if not hits:
            raise OptionError(f"there is no claim {part!r}", field="claims", fix=_hint(part))
        chosen.update(hits)
    return [claim for name, claim in CLAIMS.items() if name in chosen]


def _hint(part: str) -> str:
    from difflib import get_close_matches

    near: Sequence[str] = get_close_matches(part, CLAIMS, 3, 0.5)
    return f"did you mean {' or '.join(near)}? " * bool(near) + "alrsim reproduce --list shows all"
