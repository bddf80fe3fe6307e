"""A ledger's rows in one SQLite file, append-only by trigger and by authorizer.

Write-ahead log, synchronous=FULL: what was acknowledged is on disk. The only thing that can be replaced are the nodes that seal
the look-up table; they are derived, and signed elsewhere (`lookup`). Needs a local disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compliance_assets.errors import Busy, ComplianceError, HomeUnusable, LedgerCorrupt
from compliance_assets.evidence import ledger_store
from compliance_assets.evidence.artefacts import fsync_folder
from compliance_assets.evidence.ledger_store import Entry, Row, Signed

_APPLICATION_ID = 0x43414C47  # "CALG"

_LOOKUP = (
    "CREATE TABLE subject (bucket TEXT NOT NULL CHECK (length(bucket) = 5), digest TEXT NOT NULL CHECK (length(digest) = 64),"
    " role TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (bucket, digest, role, idx)) STRICT, WITHOUT ROWID",
    "CREATE TABLE seal (path TEXT PRIMARY KEY, hashes BLOB NOT NULL CHECK (length(hashes) = 512)) STRICT, WITHOUT ROWID",
    *(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN"
      f" SELECT RAISE(ABORT, 'the ledger is append-only'); END"
      for table, verb in (("subject", "update"), ("subject", "delete"), ("seal", "delete"))),
    "CREATE TRIGGER subject_new BEFORE INSERT ON subject"
    " WHEN EXISTS (SELECT 1 FROM subject WHERE bucket = NEW.bucket AND digest = NEW.digest AND role = NEW.role AND idx = NEW.idx)"
    " OR NEW.idx > (SELECT max(idx) FROM entry) OR NEW.idx < (SELECT max(size) FROM checkpoint)"
    " BEGIN SELECT RAISE(ABORT, 'a subject belongs to a new entry'); END",
)
_SCHEMA = (
    "CREATE TABLE entry (idx INTEGER PRIMARY KEY CHECK (idx >= 0), kind TEXT NOT NULL, dedup TEXT NOT NULL UNIQUE,"
    " system TEXT NOT NULL, body BLOB NOT NULL CHECK (length(body) BETWEEN 1 AND 65535),"
    " leaf BLOB NOT NULL CHECK (length(leaf) = 32)) STRICT",
    "CREATE TABLE node (level INTEGER NOT NULL CHECK (level > 0), idx INTEGER NOT NULL CHECK (idx >= 0),"
    " hash BLOB NOT NULL CHECK (length(hash) = 32), PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY CHECK (size >= 0), note TEXT NOT NULL, lookup TEXT NOT NULL) STRICT",
    *(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN"
      f" SELECT RAISE(ABORT, 'the ledger is append-only'); END"
      for table in ("entry", "node", "checkpoint") for verb in ("update", "delete")),
    # REPLACE INTO deletes without DELETE triggers unless recursive_triggers is on: these close that on any connection.
    "CREATE TRIGGER entry_next BEFORE INSERT ON entry"
    " WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM entry)"
    " OR EXISTS (SELECT 1 FROM entry WHERE dedup = NEW.dedup)"
    " BEGIN SELECT RAISE(ABORT, 'an entry must be the next one, and new'); END",
    "CREATE TRIGGER node_new BEFORE INSERT ON node"
    " WHEN EXISTS (SELECT 1 FROM node WHERE level = NEW.level AND idx = NEW.idx)"
    " OR ((NEW.idx + 1) << NEW.level) <= (SELECT max(size) FROM checkpoint)"
    " BEGIN SELECT RAISE(ABORT, 'a node must be new'); END",
    "CREATE TRIGGER checkpoint_grows BEFORE INSERT ON checkpoint"
    " WHEN NEW.size <= (SELECT coalesce(max(size), -1) FROM checkpoint)"
    " OR NEW.size <> (SELECT coalesce(max(idx) + 1, 0) FROM entry)"
    " BEGIN SELECT RAISE(ABORT, 'a checkpoint must grow with the entries'); END",
    *_LOOKUP,
)

_ENTRY = "SELECT idx, kind, dedup, system, body, leaf FROM entry "
_AT_ONCE = 500  # SQLite takes 999 parameters at least

_READING = frozenset({sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_TRANSACTION})
_WRITING = _READING | {sqlite3.SQLITE_INSERT}

# What SQLite says of a file that was damaged or edited; all else it says is about the disk or permissions.
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CONSTRAINT", "SQLITE_ERROR", "SQLITE_MISMATCH")

_AHEAD = 1 << 27
_NEVER_CLOSED: dict[tuple[int, int], int] = {}
"""Descriptors of large ledger files, one for each: closing one would end this process's locks on it (sqlite.org/howtocorrupt, 2.2)."""

# A connection must not be used, nor even closed, in a process that did not open it (sqlite.org/howtocorrupt, 2.6).
_INHERITED: list[sqlite3.Connection] = []


class SqliteRows:
    """The rows of an open transaction."""

    def __init__(self, database: sqlite3.Connection, store: SqliteStore) -> None:
        self._database = database
        self._store = store
        self._told = 0

    def _one(self, sql: str, *values: object) -> Any:
        row = self._database.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def count(self) -> int:
        return int(self._one("SELECT coalesce(max(idx) + 1, 0) FROM entry"))

    def entries(self, start: int, end: int | None = None) -> Iterator[Entry]:
        until = "" if end is None else f" AND idx < {end:d}"
        return (Entry(*row) for row in self._database.execute(f"{_ENTRY}WHERE idx >= ?{until} ORDER BY idx", (start,)))

    def bodies(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        return iter(self._database.execute("SELECT idx, body, leaf FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end)))

    def soon(self, start: int, of: int) -> None:
        told = self._told if start else 0
        self._told = self._store.read_ahead(start, of, told)

    def listed(self, indices: Sequence[int]) -> Iterator[Entry]:
        for start in range(0, len(indices), _AT_ONCE):
            some = indices[start:start + _AT_ONCE]
            for row in self._database.execute(f"{_ENTRY}WHERE idx IN ({','.join('?' * len(some))}) ORDER BY idx", some).fetchall():
                yield Entry(*row)

    def recorded(self, dedup: str) -> Entry | None:
        row = self._database.execute(_ENTRY + "WHERE dedup = ?", (dedup,)).fetchone()
        return None if row is None else Entry(*row)

    def leaf(self, index: int) -> bytes | None:
        found: bytes | None = self._one("SELECT leaf FROM entry WHERE idx = ?", index)
        return found

    def node(self, level: int, index: int) -> bytes | None:
        found: bytes | None = self._one("SELECT hash FROM node WHERE level = ? AND idx = ?", level, index)
        return found

    def nodes(self, level: int, start: int, end: int) -> list[bytes]:
        return [row[0] for row in self._database.execute(
            "SELECT hash FROM node WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx", (level, start, end))]

    def count_nodes(self) -> int:
        return int(self._one("SELECT count(*) FROM node"))

    def signed(self, size: int) -> Signed | None:
        row = self._database.execute("SELECT size, note, lookup FROM checkpoint WHERE size = ?", (size,)).fetchone()
        return None if row is None else Signed(*row)

    def newest(self) -> Signed | None:
        row = self._database.execute("SELECT size, note, lookup FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else Signed(*row)

    def all_signed(self) -> Iterator[Signed]:
        return (Signed(*row) for row in self._database.execute("SELECT size, note, lookup FROM checkpoint ORDER BY size"))

    def bucket(self, name: str) -> list[Row]:
        return self._database.execute("SELECT bucket, digest, role, idx FROM subject WHERE bucket = ?", (name,)).fetchall()

    def lookup(self) -> Iterator[Row]:
        return iter(self._database.execute("SELECT bucket, digest, role, idx FROM subject ORDER BY bucket, digest, role, idx"))

    def seal(self, path: str) -> bytes | None:
        found: bytes | None = self._one("SELECT hashes FROM seal WHERE path = ?", path)
        return found

    def count_seals(self) -> int:
        return int(self._one("SELECT count(*) FROM seal"))

    def check_shape(self) -> None:
        self._store.check_shape(self._database)

    def add_entry(self, entry: Entry) -> None:
        self._database.execute("INSERT INTO entry (idx, kind, dedup, system, body, leaf) VALUES (?, ?, ?, ?, ?, ?)",
                               (entry.index, entry.kind, entry.dedup, entry.system, entry.body, entry.leaf))

    def add_nodes(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        self._database.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)

    def add_lookup(self, rows: Iterable[Row]) -> None:
        self._database.executemany("INSERT INTO subject VALUES (?, ?, ?, ?)", rows)

    def put_seals(self, seals: Iterable[tuple[str, bytes]]) -> None:
        self._database.executemany(
            "INSERT INTO seal VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET hashes = excluded.hashes", seals)

    def add_signed(self, signed: Signed) -> None:
        self._database.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (signed.size, signed.note, signed.lookup))


class SqliteStore:
    """One ledger file. Each thread of each process has a connection of its own."""

    def __init__(self, path: Path, *, writer: bool) -> None:
        self.path = path
        self.where = str(path)
        self._writer = writer
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    def close(self) -> None:
        opened = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqliteRows]:
        with _refusals(self.path), self._transaction("DEFERRED") as database:
            yield SqliteRows(database, self)

    @contextlib.contextmanager
    def writing(self) -> Iterator[SqliteRows]:
        with _refusals(self.path), self._transaction("IMMEDIATE") as database:
            yield SqliteRows(database, self)

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        database = self.connection()
        if database.in_transaction:  # a reader called from within a reader: same snapshot
            yield database
            return
        database.execute(f"BEGIN {mode}")
        try:
            yield database
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    def connection(self) -> sqlite3.Connection:
        """This thread's connection in this process."""
        opened: tuple[int, sqlite3.Connection] | None = getattr(self._local, "opened", None)
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        if opened is not None:
            _INHERITED.append(opened[1])
        if not self.path.is_file():
            raise HomeUnusable(f"There is no ledger at {self.path}.", rule="ledger file", value=str(self.path),
                               remedy="Check the path, or create the ledger with `compliance init`.")
        database = self._connect("rw" if self._writer else "ro")
        try:
            allowed = _WRITING if self._writer else _READING
            writer = self._writer

            def authorized(action: int, table: str | None, *_: object) -> int:
                replaced = writer and action == sqlite3.SQLITE_UPDATE and table == "seal"
                return sqlite3.SQLITE_OK if action in allowed or replaced else sqlite3.SQLITE_DENY

            self.check_shape(database)
            database.set_authorizer(authorized)
        except (sqlite3.Error, ComplianceError):
            database.close()
            raise
        self._local.opened = (os.getpid(), database)
        return database

    def read_ahead(self, start: int, of: int, told: int) -> int:
        """Ask the system to read what lies behind entry `start` of `of`, from byte `told` on; up to which byte it was asked by now."""
        if not hasattr(os, "posix_fadvise"):
            return told
        found = os.stat(self.path)
        until = min(found.st_size * start // of + _AHEAD if of else 0, found.st_size)
        if found.st_size < _AHEAD or until <= told:
            return told
        key = found.st_dev, found.st_ino
        if key not in _NEVER_CLOSED:
            _NEVER_CLOSED[key] = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(_NEVER_CLOSED[key], told, until - told, os.POSIX_FADV_WILLNEED)
        return until

    def _connect(self, mode: str) -> sqlite3.Connection:
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=ledger_store.WAIT_SECONDS,
                                   isolation_level=None, cached_statements=64)
        try:
            # An editor could have left triggers or views behind: nothing runs before the schema was compared.
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA recursive_triggers = ON")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise self._corrupt("the file is not a ledger", "ledger file")
        except (sqlite3.Error, ComplianceError):
            database.close()
            raise
        return database

    def check_shape(self, database: sqlite3.Connection) -> None:
        """Refuse a file whose tables or triggers are not those it was made with."""
        found = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if found != set(_SCHEMA):
            raise self._corrupt("its tables or triggers are not those it was made with", "ledger schema")

    def _corrupt(self, why: str, rule: str) -> LedgerCorrupt:
        return LedgerCorrupt(f"The ledger {self.path} cannot be trusted: {why}.", rule=rule, value=str(self.path),
                             remedy="Keep this file as evidence and restore the newest copy that verifies.")

    def relook(self, size: int, rows: Iterable[Row], seals: Iterable[tuple[str, bytes]]) -> None:
        with _refusals(self.path), contextlib.closing(self._connect("rw")) as database:
            self.check_shape(database)
            database.execute("BEGIN IMMEDIATE")
            try:
                inside = SqliteRows(database, self)
                if inside.count() != size:
                    raise Busy(f"The ledger {self.path} grew meanwhile.", rule="ledger size", value=str(size), remedy="Do it again.")
                for table in ("subject", "seal"):
                    database.execute(f"DROP TABLE {table}")  # with its triggers
                for statement in _LOOKUP[:2]:
                    database.execute(statement)
                inside.add_lookup(rows)
                inside.put_seals(seals)
                for statement in _LOOKUP[2:]:
                    database.execute(statement)
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")


def create(path: Path, first: Signed) -> None:
    """A new file with `first` in it. Never overwrites."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with _refusals(path):
        try:
            connection = sqlite3.connect(draft, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (first.size, first.note, first.lookup))
                connection.execute("COMMIT")
            finally:
                connection.close()
            os.link(draft, path)  # all of it appears under its name at once, or not at all
            fsync_folder(path.parent)
        except FileExistsError:
            raise HomeUnusable(f"There is a ledger at {path} already.", rule="ledger file", value=str(path),
                               remedy="Open it, or choose another place: a ledger is never overwritten.") from None
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What SQLite and the system say, in this package's words."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "SQLITE_MISUSE")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise Busy(f"Another process has been writing to {path} for {ledger_store.WAIT_SECONDS:.0f} seconds.",
                       rule="ledger lock", value=str(path), remedy="Wait for the other run, then try again.") from error
        if name.startswith(_DAMAGED):
            raise LedgerCorrupt(f"The ledger {path} cannot be trusted: {error}.", rule="ledger file", value=name,
                                remedy="Keep it as evidence and restore the newest copy that verifies.") from error
        raise HomeUnusable(f"The ledger {path} cannot be used: {error}.", rule="ledger file", value=name,
                           remedy="Check that the disk has room and that you may write the folder; else use a copy.",
                           ) from error
    except OSError as error:
        raise HomeUnusable(f"The ledger {path} cannot be used: {error.strerror}.", rule="ledger file", value=str(path),
                           remedy="Check that the folder exists and that you may write it.") from error
