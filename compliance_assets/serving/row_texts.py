"""How a row is written: as the text its digest is taken of, and as the log keeps it. A thousand may go into one answer.

Rows are written column by column: all values of a column become text in the same way, and a pattern, made once, puts each row
together. The texts are those that `row_digest` and `as_sent` make of a row alone; what no pattern fits is left to them.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring as _letters
from json.encoder import encode_basestring_ascii as _word
from typing import Any, NamedTuple

from compliance_assets.trust.canonical import Digest, canonical_json, sha256_bytes

as_sent = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""The JSON text of a value, as the log keeps what was sent."""


def row_digest(row: Mapping[str, Any]) -> Digest:
    """The digest of the canonical JSON of a row of plain values, its numbers as their type and shortest text."""
    return sha256_bytes(canonical_json({name: _marked(value) for name, value in row.items()}))


def _marked(value: Any) -> Any:
    if isinstance(value, float):
        return ["float", repr(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return ["int", str(value)]
    return value


class RowTexts:
    """The rows of a table that is given by its columns, all of the same length."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._columns = columns
        self._numbers = {name: _numbers(values) for name, values in columns.items()}

    def digests(self) -> list[Digest]:
        """`row_digest` of each row."""
        names = sorted(self._columns)
        columns = [self._in_digest(name) for name in names]
        # Sorted by letter is the canonical order of ASCII names only.
        if not names or None in columns or not "".join(names).isascii():
            return [row_digest(row) for row in self._rows()]
        pattern = _pattern(tuple((_letters(name), column.place) for name, column in zip(names, columns, strict=True) if column))
        try:
            return [sha256_bytes((pattern % row).encode()) for row in zip(*(column.texts for column in columns if column), strict=True)]
        except UnicodeEncodeError:  # half of a surrogate pair, which is refused in words
            return [row_digest(row) for row in self._rows()]

    def sent(self) -> list[str]:
        """`as_sent` of each row."""
        pattern = _pattern(tuple((_word(name), "%s") for name in self._columns))
        return [pattern % row for row in zip(*map(self._as_sent, self._columns), strict=True)]

    def _rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]

    def _in_digest(self, name: str) -> _Column | None:
        """None for a column that holds anything else than numbers, words, truths and gaps."""
        values, numbers = self._columns[name], self._numbers[name]
        if numbers is not None:
            return _Column(f'["{type(values[0]).__name__}","%s"]', numbers)
        return _Column("%s", [_IN_DIGEST[type(value)](value) for value in values]) if set(map(type, values)) <= _IN_DIGEST.keys() else None

    def _as_sent(self, name: str) -> Sequence[str]:
        return self._numbers[name] or [_SENT.get(type(value), as_sent)(value) for value in self._columns[name]]


class _Column(NamedTuple):
    place: str
    """What stands for it in the pattern of a row."""
    texts: Sequence[str]


def _numbers(values: Sequence[Any]) -> Sequence[str] | None:
    """The texts of a column of whole numbers only, or of finite ones only: the same in both ways of writing."""
    kinds = set(map(type, values))
    return list(map(repr, values)) if kinds == {int} or (kinds == {float} and math.isfinite(sum(values))) else None


@functools.lru_cache(maxsize=256)
def _pattern(columns: tuple[tuple[str, str], ...]) -> str:
    """An object with these keys, as they are written, and places."""
    return "{" + ",".join(key.replace("%", "%%") + f":{place}" for key, place in columns) + "}"


_NAMED: Mapping[type, Callable[[Any], str]] = {bool: {True: "true", False: "false"}.__getitem__, type(None): {None: "null"}.__getitem__}
_IN_DIGEST: Mapping[type, Callable[[Any], str]] = {float: '["float","{!r}"]'.format, int: '["int","{!r}"]'.format, str: _letters, **_NAMED}
_SENT: Mapping[type, Callable[[Any], str]] = {
    float: lambda value: repr(value) if math.isfinite(value) else as_sent(value), int: repr, str: _word, **_NAMED}
