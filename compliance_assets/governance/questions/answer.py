"""What an answer is made of: facts that name their evidence, and gaps that say what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
class Gap:
    """Something that was asked and cannot be answered: what is missing."""

    missing: str


Part = Fact | Gap


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
    facts: tuple[Fact, ...]
    missing: tuple[str, ...]

    @property
    def state(self) -> str:
        """`answered`, `partly` (something is missing too) or `unknown`."""
        return "unknown" if not self.facts else "partly" if self.missing else "answered"

    def as_json(self) -> dict[str, Any]:
        return {"question": self.question.number, "asks": self.question.asks, "system": self.system, "as_of": self.as_of,
                "version": self.version, "state": self.state, "facts": [fact.as_json() for fact in self.facts],
                "unknown": list(self.missing)}


def fact(what: str, said: object, record: Record, digest: str = "") -> Fact:
    """A fact read from a record."""
    return Fact(what, str(said), record.index, str(record.digest), str(digest))
