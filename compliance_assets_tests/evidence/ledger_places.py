"""Where the tests keep ledgers: a file, or a private Postgres cluster on a Unix socket, each with somebody who may edit it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.evidence.ledger import Ledger, NewEntry, Subjects
from compliance_assets.trust.canonical import sha256_bytes
from compliance_assets.trust.keys import SigningKey

ORIGIN = "lender.example/ledger/credit"
KEY = SigningKey.from_seed(b"k" * 32)


# A body here reads "kind dedup system subject…"; real ones are signed envelopes, and opaque to the ledger all the same.

def columns_of(body: bytes) -> tuple[str, str, str]:
    kind, dedup, system, *_ = body.decode().split()
    return kind, dedup, system


def subjects_of(body: bytes) -> Subjects:
    return tuple((sha256_bytes(word.encode()), "output") for word in body.decode().split()[3:])


def new(number: int, kind: str = "stage", system: str = "credit") -> NewEntry:
    body = f"{kind} run-{number} {system} thing-{number} thing-{number % 3}".encode()
    return NewEntry(kind, f"run-{number}", system, body, subjects_of(body))

Place = Path | str

REFUSALS: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)
"""What a database says when it keeps its own rules."""
with contextlib.suppress(ImportError):
    import psycopg

    REFUSALS += (psycopg.IntegrityError,)
PROGRAMS = ("initdb", "pg_ctl", "postgres")


def _program(name: str) -> str | None:
    """The newest installed one: on the path, or where Debian keeps them."""
    found = shutil.which(name)
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]) if path.parts[4].isdigit() else 0)
    return found or (str(debian[-1]) if debian else None)


class Cluster:
    """A private Postgres server in a folder of its own; it listens on a Unix socket in there and nowhere else."""

    def __init__(self, *, small: bool = False) -> None:
        """`small`: write-ahead files of 1 MB instead of 16, for a disk of a few dozen."""
        # Not below pytest's folders: the server runs as another user than root, who may not enter them.
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
        self.user: str | None = "postgres" if os.getuid() == 0 else None
        if self.user is not None:
            shutil.chown(self.folder, self.user, self.user)
        self.data = self.folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions",
                  *(("--wal-segsize=1",) if small else ()))
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\nshared_buffers = 32MB\nmax_connections = 60\n"
                           "fsync = on\n" + ("max_wal_size = 4MB\nmin_wal_size = 2MB\n" if small else ""))
        self.start()
        self._made = 0

    def _run(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None
        done = subprocess.run((program, *arguments), capture_output=True, text=True, user=self.user, cwd=self.folder, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", str(self.folder / "log"), "-s", "start")

    def crash(self) -> None:
        """kill -9 to the server and all its processes at once, then start again: what a power cut leaves, save for the disk's cache."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(("ps", "-o", "pid=", "--ppid", str(postmaster)), capture_output=True, text=True).stdout.split()
        for pid in (postmaster, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Postgres starts only once no process of the old server holds its memory any more.
        for attempt in range(40):
            try:
                self.start()
                return
            except AssertionError:
                if attempt == 39:
                    raise
                time.sleep(0.25)

    def halt(self) -> None:
        """Stop in good order, to be started again."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "-s", "stop")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "-s", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self) -> str:
        """The address of a ledger that does not exist yet."""
        self._made += 1
        return f"postgresql://postgres@/postgres?host={self.folder}&ledger=t{self._made}"


@contextlib.contextmanager
def cluster(*, small: bool = False) -> Iterator[Cluster]:
    if any(_program(name) is None for name in PROGRAMS):
        pytest.skip("Postgres is not installed here (apt install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed here (pip install 'compliance-assets[postgres]')")
    made = Cluster(small=small)
    try:
        yield made
    finally:
        made.stop()


def in_postgres(place: Place) -> bool:
    return isinstance(place, str)


def raw(place: Place) -> Any:
    """A connection that knows nothing of our rules: to the file, or as the server's superuser in the ledger's schema."""
    if isinstance(place, Path):
        return sqlite3.connect(place, isolation_level=None)
    from compliance_assets.evidence.ledger_postgres import read_address

    address, name, _ = read_address(place)
    database = psycopg.connect(address, autocommit=True)
    database.execute(f"SET search_path = {name}")
    return database


def spoken(place: Place, statement: str) -> str:
    """A statement written for SQLite, as the place's own SQL."""
    if not in_postgres(place):
        return statement
    statement = re.sub(r"zeroblob\((\d+)\)", r"decode(repeat('00', \1), 'hex')", statement)
    statement = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", statement)
    return re.sub(r"\?\d?", "%s", statement)


def edited(place: Place, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Drop the triggers, edit, and put the triggers back: what an administrator of the disk or of the server can do."""
    database = raw(place)
    if in_postgres(place):
        name = database.execute("SELECT current_schema()").fetchone()[0]
        checks = database.execute("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
                                  " WHERE conrelid = 'entry'::regclass AND contype = 'c'").fetchall()
        tables = ("entry", "node", "checkpoint", "subject", "seal")
        triggers = database.execute("SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
                                    " WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal", (name,)).fetchall()
        for table in tables:
            database.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for check, _ in checks:
            database.execute(f"ALTER TABLE entry DROP CONSTRAINT {check}")
        for statement in statements:
            database.execute(spoken(place, statement), values if "?" in statement else ())
        for check, definition in checks:
            database.execute(f"ALTER TABLE entry ADD CONSTRAINT {check} {definition} NOT VALID")
        database.execute("UPDATE pg_constraint SET convalidated = true WHERE NOT convalidated")  # a superuser may
        for table, trigger in triggers:
            database.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
    else:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement, values if "?" in statement else ())
        for _, sql in triggers:
            database.execute(sql)
    database.close()


@contextlib.contextmanager
def held(place: Place) -> Iterator[None]:
    """Somebody else has begun to write and does not end."""
    holder = raw(place)
    if in_postgres(place):
        holder.execute("BEGIN")
        holder.execute("SELECT pg_advisory_xact_lock(%s, to_regnamespace(current_schema())::oid::int)", (0x43414C47,))
    else:
        holder.execute("BEGIN IMMEDIATE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


def reopened(path: Place) -> Ledger:
    return Ledger.open(path, KEY.public, subjects_of=subjects_of, columns_of=columns_of)


def filled(path: Place) -> Ledger:
    """Eleven entries: three appended alone, then a batch of five, then three alone."""
    made = Ledger.create(path, ORIGIN, KEY, subjects_of=subjects_of, columns_of=columns_of)
    for i in range(3):
        made.append([new(i)])
    made.append([new(i) for i in range(3, 8)])
    for i in range(8, 11):
        made.append([new(i, "approval" if i == 9 else "stage", "other" if i == 10 else "credit")])
    return made
