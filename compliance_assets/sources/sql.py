"""A query against a database, pinned by what its result means rather than by bytes on a disk.

A database has no file to hash, so the result is named by its logical digest (`cds1`). Row order is part of it: a query
without ORDER BY may answer differently tomorrow and is refused. A URL with a password is refused as well, because a
declaration is versioned and read by many; drivers find credentials in their own places (`~/.pgpass`, a service file).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import SqlSource
from compliance_assets.sources.snapshot import Snapshot, located, require_digest, require_distinct, require_rows
from compliance_assets.trust.canonical import dataset_digest

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
_SECRET = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)


def fetch_sql(source: SqlSource, *, folder: Path, root: Path) -> Snapshot:
    """The result of `source.query`, in its order, if its logical digest is the declared one.

    SourceError: password in the URL, no ORDER BY, missing SQLite file, a database that refuses, repeated column names,
    no rows, another result than declared.
    """
    import polars as pl
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    if _ORDERED.search(source.query) is None:
        raise SourceError("The query has no ORDER BY, so its result has no fixed order.", rule="ordered query",
                          value=source.query, remedy="Order it by the key.")
    url = _address(source.url, folder, root)
    shown = url.set(query={}).render_as_string(hide_password=True)
    try:
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                result = connection.execute(text(source.query))
                columns = tuple(result.keys())
                require_distinct(columns, "the query")
                rows = [tuple(row) for row in result]
        finally:
            engine.dispose()
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        raise SourceError(f"The database did not answer the query: {str(error).splitlines()[0]}", rule="source answers",
                          value=Path(shown).name, remedy="Check the URL, its driver, the query and the access rights.") from error
    try:
        frame = pl.DataFrame(rows, schema=list(columns), orient="row", infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise SourceError(f"A column of the query mixes types: {str(error).splitlines()[0]}", rule="source parses",
                          value=source.query, remedy="CAST the columns in the query.") from error
    require_rows(frame, "the query")
    found = dataset_digest(frame)
    require_digest(found, source.dataset_digest, "The result of the query")
    return Snapshot(frame, found, f"sql {url.get_backend_name()} query: {frame.height} rows, {frame.width} columns")


def _address(text: str, folder: Path, root: Path) -> URL:
    """The URL, without secrets; a relative SQLite path is looked up like any declared file and opened read-only."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError as error:
        raise SourceError("The database URL cannot be read.", rule="source URL", value="(not shown)",
                          remedy="Write it like postgresql+psycopg://user@host/database.") from error
    secret = sorted(key for key in url.query if _SECRET.search(key))
    if url.password is not None or secret:
        raise SourceError("The database URL holds a password; declarations are versioned and read by many.",
                          rule="no secrets in declarations", value=url.render_as_string(hide_password=True) if not secret
                          else ", ".join(secret), remedy="Leave it out; give it to the driver (~/.pgpass, a service file).")
    if url.get_backend_name() == "sqlite":
        if not url.database:
            raise SourceError("An SQLite database in memory is empty.", rule="source file exists", value=text,
                              remedy="Name its file: sqlite:///data/book.db.")
        path = located(url.database, folder, root).resolve()
        # Opening read-only: a source is never changed by being read, and a missing file is never created.
        url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
    return url
