"""A ledger's rows in Postgres, for several machines: append-only by role and by trigger, one writer at a time.

The address is libpq's, with one word more: `postgresql://host/database?ledger=NAME`, where NAME (default `ledger`) is the schema.
A session takes on the role `NAME_writer` or `NAME_reader` as soon as it is open, whatever its login may do besides. Appends are
serialised by an advisory lock that ends with the transaction; the checkpoint is in the same transaction. Passwords belong into
libpq's password file, not into the address.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from compliance_assets.errors import Busy, ComplianceError, HomeUnusable, LedgerCorrupt, Misused
from compliance_assets.evidence import ledger_store, postgres_shape
from compliance_assets.evidence.ledger_store import Entry, Row, Signed

if TYPE_CHECKING:
    import psycopg

_LOCK = 0x43414C47  # "CALG"
_ENTRY = "SELECT idx, kind, dedup, system, body, leaf FROM entry "
_AT_ONCE = 2000


def read_address(place: str) -> tuple[str, str, str]:
    """(what libpq is given, the schema, how it is named in messages: without a password)."""
    parts = urlsplit(place)
    query = parse_qsl(parts.query)
    names = [value for key, value in query if key == "ledger"] or ["ledger"]
    if len(names) != 1 or re.fullmatch(r"[a-z][a-z0-9_]{0,40}", names[0]) is None:
        raise Misused("The ledger's name in Postgres is not lower-case letters, digits and underscores.", rule="ledger address",
                      value=", ".join(names)[:60], remedy="Write postgresql://host/database?ledger=name.")
    rest = urlencode([(key, value) for key, value in query if key != "ledger"])
    shown = urlunsplit(("postgresql", parts.netloc.rpartition("@")[2], parts.path, "", "")) + f" ({names[0]})"
    return urlunsplit(("postgresql", parts.netloc, parts.path, rest, "")), names[0], shown


class PostgresRows:
    """The rows of an open transaction."""

    def __init__(self, database: psycopg.Connection[Any], store: PostgresStore) -> None:
        self._database = database
        self._store = store

    def _all(self, sql: str, *values: object) -> list[Any]:
        found: list[Any] = self._database.execute(sql, values, binary=True).fetchall()
        return found

    def _one(self, sql: str, *values: object) -> Any:
        found = self._all(sql, *values)
        return found[0][0] if found else None

    def _streamed(self, sql: str, *values: object) -> Iterator[Any]:
        # A cursor of the server's: a million rows never lie in memory at once.
        with self._database.cursor(f"c{id(object())}_{threading.get_ident()}") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(sql, values, binary=True)
            yield from cursor

    def count(self) -> int:
        return int(self._one("SELECT coalesce(max(idx) + 1, 0) FROM entry"))

    def entries(self, start: int, end: int | None = None) -> Iterator[Entry]:
        until = "" if end is None else f" AND idx < {end:d}"
        return (Entry(*row) for row in self._streamed(f"{_ENTRY}WHERE idx >= %s{until} ORDER BY idx", start))

    def bodies(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        yield from self._all("SELECT idx, body, leaf FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx", start, end)

    def soon(self, start: int, of: int) -> None:
        """The server reads ahead by itself."""

    def listed(self, indices: Sequence[int]) -> Iterator[Entry]:
        for start in range(0, len(indices), _AT_ONCE):
            for row in self._all(_ENTRY + "WHERE idx = ANY(%s::bigint[]) ORDER BY idx", list(indices[start:start + _AT_ONCE])):
                yield Entry(*row)

    def recorded(self, dedup: str) -> Entry | None:
        found = self._all(_ENTRY + "WHERE dedup = %s", dedup)
        return Entry(*found[0]) if found else None

    def leaf(self, index: int) -> bytes | None:
        found: bytes | None = self._one("SELECT leaf FROM entry WHERE idx = %s", index)
        return found

    def node(self, level: int, index: int) -> bytes | None:
        found: bytes | None = self._one("SELECT hash FROM node WHERE level = %s AND idx = %s", level, index)
        return found

    def nodes(self, level: int, start: int, end: int) -> list[bytes]:
        return [row[0] for row in self._all("SELECT hash FROM node WHERE level = %s AND idx >= %s AND idx < %s ORDER BY idx",
                                            level, start, end)]

    def count_nodes(self) -> int:
        return int(self._one("SELECT count(*) FROM node"))

    def signed(self, size: int) -> Signed | None:
        found = self._all("SELECT size, note, lookup FROM checkpoint WHERE size = %s", size)
        return Signed(*found[0]) if found else None

    def newest(self) -> Signed | None:
        found = self._all("SELECT size, note, lookup FROM checkpoint ORDER BY size DESC LIMIT 1")
        return Signed(*found[0]) if found else None

    def all_signed(self) -> Iterator[Signed]:
        return (Signed(*row) for row in self._streamed("SELECT size, note, lookup FROM checkpoint ORDER BY size"))

    def bucket(self, name: str) -> list[Row]:
        return self._all("SELECT bucket, digest, role, idx FROM subject WHERE bucket = %s", name)

    def lookup(self) -> Iterator[Row]:
        return self._streamed("SELECT bucket, digest, role, idx FROM subject ORDER BY bucket, digest, role, idx")

    def seal(self, path: str) -> bytes | None:
        found: bytes | None = self._one("SELECT hashes FROM seal WHERE path = %s", path)
        return found

    def count_seals(self) -> int:
        return int(self._one("SELECT count(*) FROM seal"))

    def check_shape(self) -> None:
        self._store.check_shape(self._database)

    def _many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._database.cursor() as cursor:
            cursor.executemany(sql, rows)

    def add_entry(self, entry: Entry) -> None:
        self._database.execute("INSERT INTO entry (idx, kind, dedup, system, body, leaf) VALUES (%s, %s, %s, %s, %s, %s)",
                               (entry.index, entry.kind, entry.dedup, entry.system, entry.body, entry.leaf))

    def add_nodes(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        self._many("INSERT INTO node VALUES (%s, %s, %s)", nodes)

    def add_lookup(self, rows: Iterable[Row]) -> None:
        self._many("INSERT INTO subject VALUES (%s, %s, %s, %s)", rows)

    def put_seals(self, seals: Iterable[tuple[str, bytes]]) -> None:
        self._many("INSERT INTO seal VALUES (%s, %s) ON CONFLICT (path) DO UPDATE SET hashes = excluded.hashes", seals)

    def add_signed(self, signed: Signed) -> None:
        self._database.execute("INSERT INTO checkpoint VALUES (%s, %s, %s)", (signed.size, signed.note, signed.lookup))


class _Session:
    """A thread's session. It ends with the thread, and never in a process that did not open it: both would speak on one socket."""

    def __init__(self, database: psycopg.Connection[Any]) -> None:
        self.database = database
        self.process = os.getpid()

    def close(self) -> None:
        if self.process == os.getpid():
            self.database.close()
        else:
            _INHERITED.append(self.database)

    __del__ = close


_INHERITED: list[Any] = []


class PostgresStore:
    """One ledger in one database. Each thread of each process has a session of its own."""

    def __init__(self, place: str, *, writer: bool) -> None:
        self._address, self.name, self.where = read_address(place)
        self._writer = writer
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())

    def close(self) -> None:
        opened: _Session | None = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is not None:
            opened.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[PostgresRows]:
        with _refusals(self.where), self._transaction("ISOLATION LEVEL REPEATABLE READ READ ONLY") as database:
            yield PostgresRows(database, self)

    @contextlib.contextmanager
    def writing(self) -> Iterator[PostgresRows]:
        # READ COMMITTED: what is read after the lock was got is what the writer before left.
        with _refusals(self.where), self._transaction("ISOLATION LEVEL READ COMMITTED READ WRITE") as database:
            database.execute(f"SET LOCAL lock_timeout = {round(ledger_store.WAIT_SECONDS * 1000)}")
            database.execute("SET LOCAL synchronous_commit = on")
            database.execute("SELECT pg_advisory_xact_lock(%s, to_regnamespace(%s)::oid::int)", (_LOCK, self.name))
            yield PostgresRows(database, self)

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[psycopg.Connection[Any]]:
        import psycopg

        database = self.connection()
        if database.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:  # a reader called from within a reader
            yield database
            return
        database.execute(f"BEGIN {mode}")
        try:
            yield database
            database.execute("COMMIT")
        finally:
            if database.closed or database.broken:
                self._local.opened = None
            elif database.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                database.execute("ROLLBACK")

    def connection(self) -> psycopg.Connection[Any]:
        """This thread's session in this process, in the writer's or the reader's role."""
        opened: _Session | None = getattr(self._local, "opened", None)
        if opened is not None and opened.process == os.getpid() and not opened.database.closed:
            return opened.database
        database = connect(self._address)
        try:
            exists = database.execute("SELECT to_regnamespace(%s) IS NOT NULL", (self.name,)).fetchone()
            if exists is None or not exists[0]:
                raise HomeUnusable(f"There is no ledger at {self.where}.", rule="ledger address", value=self.where,
                                   remedy="Check the address, or create the ledger with `compliance init --ledger`.")
            database.execute(f"SET ROLE {self.name}_{'writer' if self._writer else 'reader'}")
            # pg_temp last, so that no temporary table can stand in for one of these.
            database.execute(f"SET search_path = {self.name}, pg_catalog, pg_temp")
            fsync = database.execute("SHOW fsync").fetchone()
            if self._writer and fsync != ("on",):
                raise HomeUnusable(f"The server of {self.where} runs with fsync off: what it acknowledges can be lost.", rule="fsync",
                                   value="off", remedy="Set fsync = on in postgresql.conf and restart the server.")
            self.check_shape(database)
        except BaseException:
            database.close()
            raise
        self._local.opened = _Session(database)
        return database

    def check_shape(self, database: psycopg.Connection[Any]) -> None:
        """Refuse a ledger whose tables, triggers or roles are not those it was made with."""
        changed = postgres_shape.problem(database, self.name)
        if changed:
            raise LedgerCorrupt(f"The ledger {self.where} cannot be trusted: its tables or triggers are not those it was made with"
                                f" ({changed}).", rule="ledger schema", value=self.where,
                                remedy="Keep it as evidence and restore the newest copy that verifies.")

    def relook(self, size: int, rows: Iterable[Row], seals: Iterable[tuple[str, bytes]]) -> None:
        with _refusals(self.where), contextlib.closing(connect(self._address)) as database, database.transaction():
            database.execute(f"SET LOCAL search_path = {self.name}, pg_catalog, pg_temp")
            database.execute("SELECT pg_advisory_xact_lock(%s, to_regnamespace(%s)::oid::int)", (_LOCK, self.name))
            inside = PostgresRows(database, self)
            if inside.count() != size:
                raise Busy(f"The ledger {self.where} grew meanwhile.", rule="ledger size", value=str(size), remedy="Do it again.")
            for statement in postgres_shape.lookup_locks(self.name, locked=False):
                database.execute(statement)
            database.execute("DELETE FROM subject")
            database.execute("DELETE FROM seal")
            inside.add_lookup(rows)
            inside.put_seals(seals)
            for statement in postgres_shape.lookup_locks(self.name, locked=True):
                database.execute(statement)


def create(place: str, first: Signed) -> None:
    """A new ledger with `first` in it; the login in the address becomes its owner. Never overwrites."""
    import psycopg

    address, name, where = read_address(place)
    try:
        with _refusals(where), contextlib.closing(connect(address)) as database, database.transaction():
            for statement in postgres_shape.statements(name):
                database.execute(statement)
            database.execute(f"INSERT INTO {name}.checkpoint VALUES (%s, %s, %s)", (first.size, first.note, first.lookup))
    except ComplianceError as error:
        if isinstance(error.__cause__, psycopg.errors.DuplicateSchema | psycopg.errors.DuplicateObject):
            raise HomeUnusable(f"There is a ledger at {where} already.", rule="ledger address", value=where,
                               remedy="Open it, or choose another name: a ledger is never overwritten.") from error
        raise


def connect(address: str) -> psycopg.Connection[Any]:
    """A session at libpq's `address`, without a transaction of its own."""
    try:
        import psycopg
    except ImportError as error:
        raise HomeUnusable("A ledger in Postgres needs the package psycopg.", rule="postgres extra", value=str(error.name),
                           remedy="pip install 'compliance-assets[postgres]'") from error
    return psycopg.connect(address, autocommit=True, connect_timeout=10, application_name="compliance-ledger")


@contextlib.contextmanager
def _refusals(where: str) -> Iterator[None]:
    """What Postgres says, in this package's words."""
    try:
        import psycopg
    except ImportError:
        yield  # `connect` says it
        return
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise Busy(f"Another process has been writing to {where} for {ledger_store.WAIT_SECONDS:.0f} seconds.", rule="ledger lock",
                   value=where, remedy="Wait for the other run, then try again.") from error
    except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted,
            psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise LedgerCorrupt(f"The ledger {where} cannot be trusted: {_said(error)}.", rule="ledger rows", value=error.sqlstate or "",
                            remedy="Keep it as evidence and restore the newest copy that verifies.") from error
    except psycopg.errors.DiskFull as error:
        raise HomeUnusable(f"There is no room left where {where} lies ({_said(error)}); nothing was appended.", rule="ledger room",
                           value=error.sqlstate or "", remedy="Make room on the server's disk, then do the same again.") from error
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.FeatureNotSupported) as error:
        # The second is what a standby says to a transaction that would write.
        raise HomeUnusable(f"The ledger {where} can only be read ({_said(error)}); nothing was appended.", rule="ledger is writable",
                           value=error.sqlstate or "", remedy="Give the address of the primary server.") from error
    except psycopg.Error as error:
        raise HomeUnusable(f"The ledger {where} cannot be used: {_said(error)}.", rule="ledger address", value=error.sqlstate or where,
                           remedy="Check that the server runs, has room, and lets this login in.") from error


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("ERROR:").strip().rstrip(".")
