"""Delimited text, read so that nothing is guessed: every value stays the text it was until the contract says its type.

Several files are read in their declared order as one table. Line ends may be LF, CRLF or CR alone (some spreadsheet
exports). A row with more or fewer values than there are columns is a refusal with its line, because a reader that fills or
cuts such rows moves values under wrong names. The parser is Python's own `csv` (RFC 4180 quoting), one pass for shape and
values, so that no second reader can disagree with the first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import CsvFile, CsvSource
from compliance_assets.sources.snapshot import Snapshot, located, require_distinct, require_rows, verified_bytes
from compliance_assets.trust.canonical import Digest, digest_of

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 1 << 16


def fetch_csv(source: CsvSource, *, folder: Path, root: Path) -> Snapshot:
    """All files of `source` as one frame of text columns; null where a value is in `null_values`.

    SourceError: missing file, other bytes than declared, not UTF-8, ragged rows, repeated names, files whose columns
    differ, no rows.
    """
    import polars as pl

    frames: list[pl.DataFrame] = []
    for file in source.files:
        content = verified_bytes(located(file.path, folder, root), file.sha256, file.path)
        frame = _parse(content, file, source)
        if frames and frame.columns != frames[0].columns:
            raise SourceError(f"{file.path} has other columns than {source.files[0].path}.", rule="one table",
                              value=", ".join(frame.columns), remedy="Declare only files of one layout together.")
        frames.append(frame)
    names = ", ".join(file.path for file in source.files)
    frame = require_rows(pl.concat(frames), names)
    return Snapshot(frame, csv_digest(source), f"csv {names}: {frame.height} rows, {frame.width} columns")


def csv_digest(source: CsvSource) -> Digest:
    """The digest that the declaration pins: the file's own sha256, or that of the ordered list of several."""
    if len(source.files) == 1:
        return Digest(source.files[0].sha256)
    return digest_of({"files": [{"path": file.path, "sha256": file.sha256} for file in source.files]})


def _parse(content: bytes, file: CsvFile, source: CsvSource) -> pl.DataFrame:
    import polars as pl

    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline=None)  # newline=None: CR, LF and CRLF all end a line
    except UnicodeDecodeError as error:
        raise SourceError(f"{file.path} is not UTF-8 text (byte {error.start}).", rule="source parses", value=file.path,
                          remedy="Export it as UTF-8.") from error
    for _ in range(file.skip_lines):
        next(lines, None)
    rows = _rows(lines, file, source)
    if source.columns is not None:
        columns = source.columns
    else:
        header = next(rows, None)
        columns = tuple(name.strip() for name in header[1]) if header is not None else ()
    require_distinct(columns, file.path)
    schema = dict.fromkeys(columns, pl.String)
    nulls = frozenset(source.null_values)
    parts: list[pl.DataFrame] = []
    while chunk := list(islice(rows, _ROWS_AT_ONCE)):
        for line, row in chunk:
            if len(row) != len(columns):
                raise SourceError(f"{file.path}, line {line}: {len(row)} values for {len(columns)} columns.",
                                  rule="rows are not ragged", value=str(len(row)),
                                  remedy="Check the separator, the quoting and skip_lines.")
        parts.append(pl.DataFrame(dict(zip(columns, zip(*(row for _, row in chunk), strict=True), strict=True)),
                                  schema=schema))
    frame = pl.concat(parts) if parts else pl.DataFrame(schema=schema)
    if source.strip:
        frame = frame.with_columns(pl.all().str.strip_chars())
    if nulls:
        frame = frame.with_columns(pl.when(pl.all().is_in(sorted(nulls))).then(None).otherwise(pl.all()).name.keep())
    return frame


def _rows(lines: io.StringIO, file: CsvFile, source: CsvSource) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of every row that is not blank."""
    blanks = source.separator == " "
    text: Iterator[str] = (line.strip(" \n") + "\n" for line in lines) if blanks else iter(lines)
    reader = csv.reader(text, delimiter=source.separator, strict=True, skipinitialspace=blanks or source.strip)
    try:
        for row in reader:
            if row and row != [""]:
                yield reader.line_num + file.skip_lines, row
    except csv.Error as error:
        raise SourceError(f"{file.path}, line {reader.line_num + file.skip_lines}: {error}.", rule="source parses",
                          value=file.path, remedy="Check the quoting and the separator.") from error
