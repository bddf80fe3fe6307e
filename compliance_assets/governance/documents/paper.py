"""What a document is made of: points of lines, where every line is read from evidence or is a marked gap. Pure values.

A line carries its source: the ledger index, the digest of the signed statement there (its evidence id) and the digest of the artefact
that was read. A gap names who is asked for which point and is counted; nothing here can say something without one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from compliance_assets.trust.canonical import Digest, digest_of

FRAME = ("Made from evidence alone: every line names the ledger entry it was read from, every gap is marked. It shows evidence and gaps "
         "and claims no conformity.")
ASKED = "Who is asked for a gap is a convention of published guides, not law; SME stands for subject-matter expert."
DEMONSTRATION = "A demonstration: people and keys were made by the program."
"""What stands around the points; nothing else does."""

Fill = Literal["evidence", "partly", "people"]
"""Who can fill a point: the pipeline alone, the pipeline in part, people only."""


@dataclass(frozen=True)
class Source:
    """Where a line was read. `entry`: ledger index; `statement`: digest of the signed statement; `artefact`: digest of the bytes read."""

    entry: int
    statement: str
    artefact: str

    def as_json(self) -> dict[str, Any]:
        return {"ledger_index": self.entry, "evidence_id": self.statement, "digest": self.artefact}


@dataclass(frozen=True)
class Line:
    """One thing said, from one source."""

    what: str
    said: str
    source: Source

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "said": self.said, **self.source.as_json()}


@dataclass(frozen=True)
class Gap:
    """What is not on record. `asked`: who is asked for it (a role by convention), or empty where only a run can fill it."""

    what: str
    asked: str
    point: str

    @property
    def said(self) -> str:
        where = f"point {self.point}" if self.point[:1].isdigit() else self.point
        return f"[HUMAN INPUT REQUIRED: {self.asked}, {where}]" if self.asked else f"[NOT ON RECORD: {where}]"

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "said": self.said, "gap": True, "asked": self.asked}


@dataclass(frozen=True)
class Grid:
    """A table of numbers, all from one source."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    source: Source

    def as_json(self) -> dict[str, Any]:
        return {"caption": self.caption, "head": list(self.head), "rows": [list(row) for row in self.rows], **self.source.as_json()}


@dataclass(frozen=True)
class Words:
    """A human part as it stands: the words of the person who signed them, and why they may be out of date."""

    part: str
    text: str
    person: str
    role: str
    version: int
    signed: str
    stale: tuple[str, ...]
    source: Source

    def as_json(self) -> dict[str, Any]:
        return {"part": self.part, "text": self.text, "person": self.person, "owner": self.role, "version": self.version,
                "signed": self.signed, "stale": list(self.stale), **self.source.as_json()}


@dataclass(frozen=True)
class Point:
    """One numbered point: what it asks for (a paraphrase), what evidence says, what people said, what is missing."""

    number: str
    asks: str
    fill: Fill
    lines: tuple[Line, ...] = ()
    grids: tuple[Grid, ...] = ()
    words: tuple[Words, ...] = ()
    gaps: tuple[Gap, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*(line.source for line in self.lines), *(grid.source for grid in self.grids), *(words.source for words in self.words))

    @property
    def state(self) -> str:
        """`filled`, `partly filled` or `empty`; stale is said beside it, and never hides a gap."""
        there = bool(self.lines or self.grids or self.words)
        return "empty" if not there else "partly filled" if self.gaps else "filled"

    def as_json(self) -> dict[str, Any]:
        return {"point": self.number, "asks": self.asks, "fill": self.fill, "state": self.state, "stale": list(self.stale),
                "lines": [one.as_json() for one in self.lines], "tables": [one.as_json() for one in self.grids],
                "human": [one.as_json() for one in self.words], "gaps": [one.as_json() for one in self.gaps]}


@dataclass(frozen=True)
class Paper:
    """A whole document about one candidate. `entries`, `root`: the ledger head it was made from.

    `declared_in`: the entry that put the declaration on record; None where no entry did.
    """

    kind: str
    title: str
    basis: str
    system: str
    candidate: int
    demonstration: bool
    entries: int
    root: str
    points: tuple[Point, ...]
    declared_in: int | None = None

    asked, demonstration_said = ASKED, DEMONSTRATION

    @property
    def frame(self) -> str:
        """How it is to be read: what a provider declares is not what a pipeline measured."""
        declared = "" if self.declared_in is None else (
            f" What is read from #{self.declared_in} was declared by the provider; what is read from other entries was recorded by the "
            "pipeline or signed by the person who is named.")
        return FRAME + declared

    @property
    def filled(self) -> int:
        return sum(point.state == "filled" for point in self.points)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(gap for point in self.points for gap in point.gaps)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that the document was read from, once each, in ledger order."""
        found = {source for point in self.points for source in point.sources}
        return tuple(sorted(found, key=lambda source: (source.entry, source.artefact)))

    @property
    def stale(self) -> int:
        return sum(bool(point.stale) or any(words.stale for words in point.words) for point in self.points)

    @property
    def digest(self) -> Digest:
        """Of everything the document says: the same evidence makes the same document."""
        return digest_of(self.content())

    def content(self) -> dict[str, Any]:
        """Everything the document says, and the head that it was made from."""
        return {"document": self.kind, "title": self.title, "basis": self.basis, "system": self.system, "candidate": self.candidate,
                "demonstration": self.demonstration, "declared_in": self.declared_in, "ledger": {"size": self.entries, "root": self.root},
                "points": [point.as_json() for point in self.points]}

    def as_json(self) -> dict[str, Any]:
        return {**self.content(), "digest": self.digest, "points_filled": self.filled, "points_total": len(self.points),
                "gaps": len(self.gaps), "stale": self.stale, "conformity": "not claimed"}

    def as_text(self) -> str:
        """For a terminal: everything that is said, each line with its entry."""
        said = [self.title, f"System {self.system}, candidate #{self.candidate}; {self.filled} of {len(self.points)} points filled, "
                f"{len(self.gaps)} gaps, {self.stale} stale. Document digest {self.digest}.",
                f"{self.frame} Order: {self.basis}.", self.asked]
        if self.demonstration:
            said += [self.demonstration_said]
        for point in self.points:
            said += ["", f"{point.number}  {point.asks}  ({point.state})", *(f"  stale: {why}" for why in point.stale),
                     *(f"  {gap.said} {gap.what}" for gap in point.gaps),
                     *(f"  {one.person} as {one.role}, version {one.version} [#{one.source.entry}]: "
                       + "".join(sign for sign in one.text if sign.isprintable() or sign == "\n")
                       + "".join(f"\n    stale: {why}" for why in one.stale) for one in point.words),
                     *(f"  {line.what}: {line.said} [#{line.source.entry}]" for line in point.lines)]
            for grid in point.grids:
                said += [f"  {grid.caption} [#{grid.source.entry}]",
                         *(f"    {' · '.join(cell for cell in row if cell)}" for row in grid.rows)]
        return "\n".join(said)
