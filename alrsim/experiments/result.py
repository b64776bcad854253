"""The result of ``reproduce``: one row per claim, with what was measured and the verdict."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from alrsim.documents import Document, Live
from alrsim.experiments.claim import CITATIONS, Area, Budget, Claim, Mode, Paper
from alrsim.experiments.rules import VERDICTS, Measured, RuleKind, Verdict
from alrsim.experiments.run import Finished


@dataclass(frozen=True)
class Host:
    """Where it was measured."""

    device: str
    cores: int
    torch: str


@dataclass(frozen=True)
class ClaimRow:
    """A claim, see :class:`alrsim.experiments.claim.Claim`, and what became of it here.

    Attributes:
        kind: Of the rule of its verdict; ``rule``: the rule in words, empty where nothing here can measure the claim.
        verdict: ``None``, as the next two: the claim is only listed.
        decided: False where the interval holds both answers.
        seconds: That measuring took.
        why: The arithmetic of the verdict, and what measured numbers say about it.
        measured: ``None`` where nothing was measured.
    """

    id: str
    paper: Paper
    where: str
    area: Area
    text: str
    figure: float | None
    unit: str
    kind: RuleKind
    rule: str
    needs: tuple[str, ...]
    missing: str
    budget: Budget
    verdict: Verdict | None = None
    decided: bool | None = None
    seconds: float | None = None
    why: str = ""
    measured: Measured | None = None


@dataclass(frozen=True)
class ReproduceResult(Document):
    """Claims of the papers, measured on this host, or only listed.

    Attributes:
        mode: ``quick``: fewer seeds, steps and copies, smaller models.
        alrsim: The version that measured.
        host: ``None`` where nothing was to be measured.
        papers: What is cited, by its short name.
        counts: Claims by verdict.
        undecided: Verdicts that a finer measurement may change.
        written: Live: the files of the report.
    """

    kind: ClassVar[str] = "reproduce"
    version: ClassVar[int] = 2

    mode: Mode
    seed: int
    data_folder: str | None
    alrsim: str
    host: Host | None
    papers: Mapping[Paper, str]
    counts: Mapping[Verdict, int]
    undecided: int
    claims: tuple[ClaimRow, ...]
    written: Live = field(default=(), repr=False, compare=False)

    def __iter__(self) -> Iterator[ClaimRow]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    def __getitem__(self, name: str) -> ClaimRow:
        return {row.id: row for row in self.claims}[name]

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if count)
        return f"ReproduceResult({len(self)} claims{f': {counts}' * bool(counts)})"


def reproduce_result(
    rows: Sequence[ClaimRow], *, mode: Mode, seed: int, data_folder: str | None, alrsim: str, host: Host | None
) -> ReproduceResult:
    """The rows with their count of verdicts."""
    counts = Counter(row.verdict for row in rows)
    return ReproduceResult(
        mode,
        seed,
        data_folder,
        alrsim,
        host,
        papers=CITATIONS,
        counts={verdict: counts.get(verdict, 0) for verdict in VERDICTS},
        undecided=sum(row.decided is False for row in rows),
        claims=tuple(rows),
    )


def claim_row(claim: Claim, found: Finished | None = None) -> ClaimRow:
    """One claim, as it is listed (``None``) or as it was judged."""
    shared = ("id", "paper", "where", "area", "text", "figure", "unit", "needs", "missing", "budget")
    about = {name: getattr(claim, name) for name in shared}
    about |= {"kind": claim.rule.kind, "rule": claim.rule.describe(claim.figure) if claim.measure else ""}
    if found is None:
        return ClaimRow(**about)
    reason = found.measured.reason if found.measured is not None else ""
    return ClaimRow(
        **about,
        verdict=found.outcome.verdict,
        decided=found.outcome.decided,
        seconds=round(found.seconds, 3),
        why=f"{found.outcome.why}; {reason}" if reason else found.outcome.why,
        measured=found.measured,
    )
