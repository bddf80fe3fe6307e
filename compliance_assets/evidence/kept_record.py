"""A verified record as a list keeps it: what every list asks, in little memory; the whole of it is read and proved again when asked for.

A stage record with its gates takes tens of kilobytes once it is parsed, and a list of all of them asks for a dozen words of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import Code, StageExecution, Statement
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.signatures import Envelope

WORDS = ("system", "stage", "outcome", "run", "launcher", "started", "finished", "output", "files", "inputs", "definition",
         "definition_in_force", "trust_policy", "log", "environment", "computed", "code")
"""Of a stage record: what is kept. Anything else is read from the ledger again."""


class Words:
    """Each text once: digests and names occur in many records."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) in (str, Code):
            return self._known.setdefault(value, value)
        if isinstance(value, Mapping):
            return {self(name): self(one) for name, one in value.items()}
        return value


class KeptStage:
    """The body of a stage record: its `WORDS`, and the rest on demand."""

    __slots__ = (*WORDS, "_whole")

    def __init__(self, body: StageExecution, words: Words, whole: Callable[[], Record]) -> None:
        for name in WORDS:
            setattr(self, name, words(getattr(body, name)))
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._whole().body, name)


class KeptRecord(Record):
    """A record of which the envelope, and of a stage record most of the body, lie in the ledger and are read again when asked for."""

    body: Any = None  # looked up a million times: an attribute, not a property
    _whole: Callable[[], Record]
    _digest: Digest
    _own: Statement | None
    _facts: tuple[Any, ...]

    def __init__(self, record: Record, words: Words, whole: Callable[[], Record], readers: Sequence[Callable[[Record], Any]]) -> None:
        stage = isinstance(record.body, StageExecution)
        self.__dict__.update(
            index=record.index, _whole=whole, _digest=record.digest, _facts=tuple(reader(record) for reader in readers) if stage else (),
            _own=None if stage else Statement(record.statement.subjects, record.body),
            body=KeptStage(record.body, words, whole) if stage else record.body)

    @property
    def statement(self) -> Statement:  # a field of a whole record, looked up here
        return self._own if self._own is not None else self._whole().statement

    @property
    def envelope(self) -> Envelope:
        return self._whole().envelope

    @property
    def digest(self) -> Digest:
        return self._digest

    def fact(self, place: int) -> Any:
        """What the reader at this place read from it."""
        return self._facts[place]
