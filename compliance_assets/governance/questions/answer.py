"""What an answer is made of: facts that name their evidence, and gaps that say what is missing."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from compliance_assets.evidence.archive import Record

if TYPE_CHECKING:
    from compliance_assets.governance.questions.seen import Seen


@dataclass(frozen=True)
class Fact:
    """One thing that a record says. `entry`: its ledger index; `evidence`: the statement's digest; `digest`: of the artefact meant."""

    what: str
    said: str
    entry: int
    evidence: str
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "said": self.said, "ledger_index": self.entry, "evidence": self.evidence, "digest": self.digest or None}


@dataclass(frozen=True)
class Each:
    """The same about each of many records, oldest first: their number is known at once, what they say is read where it is shown.

    `says` reads the record and nothing that could be lost, and says at least one thing of each.
    """

    records: Sequence[Record]
    says: Callable[[Record], Iterable[Fact]]

    def before(self, index: int) -> Iterator[Record]:
        """Those below this ledger index, newest first."""
        end = bisect_left(self.records, index, key=lambda record: record.index)
        return (self.records[place] for place in range(end - 1, -1, -1))


@dataclass(frozen=True)
class Gap:
    """Something that was asked and cannot be answered: what is missing."""

    missing: str


Part = Fact | Each | Gap


@dataclass(frozen=True)
class Question:
    """One of the 35. `about`: what `--about` names, where the question is about one thing among many; empty where it is not."""

    number: str
    asks: str
    family: str
    answers: Callable[[Seen], Iterator[Part]]
    about: str = ""


@dataclass(frozen=True)
class Answer:
    """A question answered for one system, as the records stood at a moment; `version` is the ledger entry of the version meant."""

    question: Question
    system: str
    as_of: str
    version: str
    parts: tuple[Fact | Each, ...]
    missing: tuple[str, ...]

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """All of them, in order."""
        return tuple(fact for part in self.parts
                     for fact in ([part] if isinstance(part, Fact) else (fact for record in part.records for fact in part.says(record))))

    @property
    def single(self) -> tuple[Fact, ...]:
        """The facts that stand for themselves."""
        return tuple(part for part in self.parts if isinstance(part, Fact))

    @property
    def many(self) -> int:
        """How many records there are of which the same is said."""
        return sum(len(part.records) for part in self.parts if isinstance(part, Each))

    def newest(self, before: int | None, most: int) -> tuple[tuple[Fact, ...], int | None]:
        """What is said of the newest of those records below a ledger index, newest first, and below which index it goes on, if it does.

        Of at most so many entries; what is said of one entry stays together.
        """
        parts = [part for part in self.parts if isinstance(part, Each) and part.records]
        until = max((part.records[-1].index + 1 for part in parts), default=0) if before is None else before
        said = heapq.merge(*(((-record.index, place, record) for record in part.before(until)) for place, part in enumerate(parts)))
        entries = [(-index, list(of_one)) for index, of_one in islice(groupby(said, key=lambda one: one[0]), most + 1)]
        shown = tuple(fact for _, of_one in entries[:most] for _, place, record in of_one for fact in parts[place].says(record))
        return shown, entries[most - 1][0] if len(entries) > most else None

    @property
    def state(self) -> str:
        """`answered`, `partly` (something is missing too) or `unknown`."""
        known = any(isinstance(part, Fact) or part.records for part in self.parts)
        return "unknown" if not known else "partly" if self.missing else "answered"

    def as_json(self) -> dict[str, Any]:
        return {"question": self.question.number, "asks": self.question.asks, "system": self.system, "as_of": self.as_of,
                "version": self.version, "state": self.state, "facts": [fact.as_json() for fact in self.facts],
                "unknown": list(self.missing)}


def fact(what: str, said: object, record: Record, digest: str = "") -> Fact:
    """A fact read from a record."""
    return Fact(what, str(said), record.index, str(record.digest), str(digest))
