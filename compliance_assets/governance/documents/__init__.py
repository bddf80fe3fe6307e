"""Documents made from evidence: Annex IV, the twelve AISDP modules, instructions for use, a datasheet. Nobody writes defaults here.

Every line is read from a signed record, from a file it names by digest, or from the declaration as it was put into the ledger; what people
must say is a field with an owner, versioned and signed (`human_parts`); everything else is a marked gap. A document shows evidence and
gaps; it never says that requirements are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from compliance_assets.errors import Misused
from compliance_assets.governance.documents import aisdp, annex_iv, datasheet, instructions
from compliance_assets.governance.documents.gathered import Gathered, chosen
from compliance_assets.governance.documents.human_parts import Part, written
from compliance_assets.governance.documents.paper import Paper, Point
from compliance_assets.pipeline import River


@dataclass(frozen=True)
class Kind:
    """One kind of document: its title, what its order is based on, who makes its points, and which version of the template they follow."""

    title: str
    basis: str
    points: Callable[[Gathered, Mapping[str, Part]], tuple[Point, ...]]
    template: int
    """Goes up whenever a point is added, taken out, numbered anew or asks for something else; filed documents name it."""


KINDS: Mapping[str, Kind] = {
    "annex-iv": Kind(annex_iv.TITLE, annex_iv.BASIS, annex_iv.points, 2), "aisdp": Kind(aisdp.TITLE, aisdp.BASIS, aisdp.points, 1),
    "instructions": Kind(instructions.TITLE, instructions.BASIS, instructions.points, 2),
    "datasheet": Kind(datasheet.TITLE, datasheet.BASIS, datasheet.points, 1),
}


def document(river: River, kind: str, system: str, release: str = "") -> Paper:
    """The document about a release (default: the one in production, else the newest candidate). Misused for an unknown kind or release."""
    if kind not in KINDS:
        raise Misused(f"There is no document {kind!r}.", rule="document", value=kind, remedy=f"Documents: {', '.join(KINDS)}")
    return documents(river, system, release, [kind])[0]


def documents(river: River, system: str, release: str = "", kinds: Iterable[str] = KINDS) -> tuple[Paper, ...]:
    """As `document`, of several kinds: what is on record is read once for all of them."""
    gathered, head = Gathered(river, chosen(river, system, release)), river.archive.head()
    standing, declared_in = written(river, system)[0], gathered.proposal.index if gathered.proposal is not None else None
    return tuple(Paper(kind, KINDS[kind].title, KINDS[kind].basis, system, gathered.one.index, gathered.one.tip.body.demonstration,
                       head.size, head.root, KINDS[kind].points(gathered, standing), declared_in) for kind in kinds)
