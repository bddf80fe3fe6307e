"""Where a ledger's rows lie: what the rules of `ledger` need of SQLite or Postgres, and nothing more.

A store knows rows and transactions and no rule: it neither hashes nor signs. What it gives back is not trusted; the rules
check every row against the tree that was signed. One file or one database holds one ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compliance_assets.trust.canonical import Digest

Subjects = tuple[tuple[Digest, str], ...]
"""(digest, role) of everything that an entry is about."""

Row = tuple[str, str, str, int]
"""A row of the look-up table: bucket, digest, role, index of the entry."""

LARGEST_BODY = 65_535
"""C2SP tlog-tiles gives an entry two bytes of length. Anything bigger goes to the artefact store, by digest."""

WAIT_SECONDS = 30.0
"""How long a writer waits for another before it is told that the ledger is busy."""

POSTGRES = ("postgresql://", "postgres://")


@dataclass(frozen=True)
class NewEntry:
    """What is to be recorded. `dedup` names the execution: the same one is recorded once. `system` may be empty."""

    kind: str
    dedup: str
    system: str
    body: bytes
    subjects: Subjects = ()


@dataclass(frozen=True)
class Entry:
    """What was recorded, as entry `index` of the ledger."""

    index: int
    kind: str
    dedup: str
    system: str
    body: bytes
    leaf: bytes


@dataclass(frozen=True)
class Signed:
    """A signed state: the tree's checkpoint of `size` entries, and the note that seals the look-up table at that size."""

    size: int
    note: str
    lookup: str


class Rows(Protocol):
    """The rows of one ledger within one transaction: a snapshot to read, or the only writer."""

    def count(self) -> int: ...
    def entries(self, start: int, end: int | None = None) -> Iterator[Entry]: ...
    def bodies(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]: ...
    def soon(self, start: int, of: int) -> None:
        """Entries from `start` on, of this many, are read next: a hint, so that a disk reads while others compute."""

    def listed(self, indices: Sequence[int]) -> Iterator[Entry]: ...
    def recorded(self, dedup: str) -> Entry | None: ...
    def leaf(self, index: int) -> bytes | None: ...
    def node(self, level: int, index: int) -> bytes | None: ...
    def nodes(self, level: int, start: int, end: int) -> list[bytes]: ...
    def count_nodes(self) -> int: ...
    def signed(self, size: int) -> Signed | None: ...
    def newest(self) -> Signed | None: ...
    def all_signed(self) -> Iterator[Signed]: ...
    def bucket(self, name: str) -> list[Row]: ...
    def lookup(self) -> Iterator[Row]: ...
    def seal(self, path: str) -> bytes | None: ...
    def count_seals(self) -> int: ...
    def check_shape(self) -> None: ...

    def add_entry(self, entry: Entry) -> None: ...
    def add_nodes(self, nodes: Iterable[tuple[int, int, bytes]]) -> None: ...
    def add_lookup(self, rows: Iterable[Row]) -> None: ...
    def put_seals(self, seals: Iterable[tuple[str, bytes]]) -> None: ...
    def add_signed(self, signed: Signed) -> None: ...


class Store(Protocol):
    """One ledger's place. `where` names it in messages."""

    where: str

    def reading(self) -> AbstractContextManager[Rows]:
        """One snapshot; nested calls in a thread share it."""

    def writing(self) -> AbstractContextManager[Rows]:
        """The only writer: all that is added is on disk together when the block ends, or none of it is."""

    def close(self) -> None:
        """Close this thread's connection. The next call opens another."""

    def relook(self, size: int, rows: Iterable[Row], seals: Iterable[tuple[str, bytes]]) -> None:
        """Replace the look-up table, which is derived, by these rows. Nothing else can be replaced.

        `Busy` if the ledger does not have `size` entries any more.
        """


def is_postgres(place: Path | str) -> bool:
    """Whether `place` is the address of a Postgres database rather than a file."""
    return isinstance(place, str) and place.startswith(POSTGRES)


def store_at(place: Path | str, *, writer: bool) -> Store:
    """The store at a file or at a Postgres address (`postgresql://…`); a reader's store cannot write."""
    if is_postgres(place):
        from compliance_assets.evidence.ledger_postgres import PostgresStore

        return PostgresStore(str(place), writer=writer)
    from compliance_assets.evidence.ledger_sqlite import SqliteStore

    return SqliteStore(Path(place), writer=writer)


def create_store(place: Path | str, first: Signed) -> None:
    """Make the tables of a new ledger whose first signed state, of no entries, is `first`. Never overwrites."""
    if is_postgres(place):
        from compliance_assets.evidence.ledger_postgres import create

        create(str(place), first)
    else:
        from compliance_assets.evidence.ledger_sqlite import create as create_file

        create_file(Path(place), first)
