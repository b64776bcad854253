"""Every claim by its id."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from alrsim.errors import OptionError
from alrsim.experiments.alr import ALR_CLAIMS
from alrsim.experiments.claim import Claim
from alrsim.experiments.ulr import ULR_CLAIMS

CLAIMS: Mapping[str, Claim] = {claim.id: claim for claim in (*ALR_CLAIMS, *ULR_CLAIMS)}


def parse_claims(given: str | Iterable[str], name: str = "claims") -> tuple[str, ...]:
    """Ids, or their beginnings (``alr.tab4``), comma-separated or listed: the ids that fit, in registry order.

    Raises:
        OptionError: an entry that fits no claim, or an empty list.
    """
    items = given.split(",") if isinstance(given, str) else given
    wanted = [part.strip() for part in items if part.strip()]
    if not wanted:
        raise OptionError("names no claim", field=name, fix="`list` shows them")
    chosen: set[str] = set()
    for part in wanted:
        hits = [one for one in CLAIMS if one == part] or [one for one in CLAIMS if one.startswith(part)]
        if not hits:
            near = get_close_matches(part, CLAIMS, 3, 0.5)
            fix = f"did you mean {' or '.join(near)}? " * bool(near) + "`list` shows all"
            raise OptionError(f"there is no claim {part!r}", field=name, fix=fix)
        chosen.update(hits)
    return tuple(one for one in CLAIMS if one in chosen)
