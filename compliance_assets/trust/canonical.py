"""The same thing always has the same bytes, and the same bytes always have the same name.

Three kinds of naming live here. A *value* is named through its canonical JSON (RFC 8785, narrowed: no floats, integers
within 2**53-1, ASCII keys), so that any JSON tool can check a record. A *file* is named by its sha256, a *folder* by
the in-toto `dirHash`, which covers names as well as contents. A *dataset* and a *fitted model* are named by what they
mean (`cds1`, `model_state`), because the same rows or the same trees can be written as different bytes.

What is recorded in a signed statement is text: `decimal_string` for numbers, `rfc3339` for moments.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from compliance_assets.errors import UntrustedEvidence

if TYPE_CHECKING:
    import polars

__all__ = [
    "LARGEST_INTEGER",
    "Digest",
    "canonical_json",
    "dataset_digest",
    "decimal_string",
    "digest_of",
    "folder_digest",
    "is_text_of",
    "parse_canonical",
    "parse_rfc3339",
    "rfc3339",
    "sha256_bytes",
    "sha256_file",
    "state_digest",
]

LARGEST_INTEGER = 2**53 - 1
"""Beyond this, readers that hold JSON numbers as doubles see another number (RFC 8785, appendix D)."""

DEEPEST_NESTING = 64
_READ_BYTES = 1 << 20
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


class Digest(str):
    """A sha256, as 64 lowercase hexadecimal digits. Anything else cannot become one."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or _HEX64.fullmatch(text) is None:
            raise UntrustedEvidence(
                f"{text!r:.90} is not a sha256 digest.", rule="digest", value=f"{text!r:.90}",
                remedy="Give all 64 lowercase hexadecimal digits.",
            )
        return super().__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that `text` spells. Refuses anything but 64 lowercase hexadecimal digits."""
        return cls(text)

    @property
    def short(self) -> str:
        """The first 12 digits: for people's eyes, never for looking anything up."""
        return self[:12]

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)


def _refuse(what: str, value: object = "") -> NoReturn:
    raise UntrustedEvidence(
        f"This cannot be canonical JSON: {what}.", rule="canonical JSON", value=f"{value!r:.80}",
        remedy="Write numbers as decimal strings, moments as RFC 3339 text, keys in ASCII.",
    )


def _check(value: object, depth: int = 0) -> None:
    # Every signature check and every read of a record waits for this: what a list or an object holds is looked at here, and only what
    # holds something in turn is called for.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not key.isascii():
                _refuse("a key is not ASCII text", key)
        items: Collection[object] = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        items, depth = (value,), depth - 1
    if depth >= DEEPEST_NESTING and items:
        _refuse(f"nested deeper than {DEEPEST_NESTING} levels")
    for item in items:
        kind = type(item)
        if kind is str:
            # RFC 8785 hashes UTF-8; a lone surrogate has none.
            if not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):  # type: ignore[attr-defined]  # it is text
                _refuse("a string holds half of a surrogate pair", item)
        elif kind is dict or kind is list or kind is tuple:
            _check(item, depth + 1)
        elif item is None or kind is bool:
            continue
        else:
            _check_other(item, depth)


def _check_other(value: object, depth: int) -> None:
    """An integer, or something derived from what may stand in JSON."""
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        _check(str(value), depth)
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            _refuse("an integer is beyond 2**53-1", f"{value:#x}")
    elif isinstance(value, list | tuple | dict):
        _check(value, depth + 1)
    else:
        _refuse(f"a {type(value).__name__} is not text, integer, truth value, list or object", value)


def canonical_json(value: object) -> bytes:
    """The one JSON text of `value` (RFC 8785).

    Takes dicts, lists, tuples, text, integers, truth values and None. Refuses floats (their text differs between
    languages), integers beyond 2**53-1, keys that are not ASCII, and nesting deeper than 64, with `UntrustedEvidence`.
    """
    _check(value)
    return _written(value)


def is_text_of(text: bytes, value: object) -> bool:
    """Whether `text`, which must be known to be canonical JSON, is that of `value`. What canonical JSON refuses has no such text."""
    return _written(value) == text


def _written(value: object) -> bytes:
    # Without floats and with ASCII keys this is RFC 8785's text to the byte (held against the package rfc8785 by a property test),
    # and several times as fast; every signature check and every read of a record waits for it.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("a key occurs twice", sorted(key for key, _ in pairs))
    return found


def _integer(digits: str) -> int:
    if len(digits) > 17:  # 2**53-1 has 16 digits, and a sign
        _refuse("an integer is beyond 2**53-1", digits)
    return int(digits)


def parse_canonical(text: bytes) -> Any:
    """The value whose canonical JSON is exactly `text`.

    Refuses, with `UntrustedEvidence`: duplicate keys, floats, anything after the value, deep nesting, text that is not
    UTF-8, and every text that is JSON but not *the* canonical JSON of its value.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer,
            parse_float=lambda digits: _refuse("a number is not an integer", digits),
            parse_constant=lambda name: _refuse("a number is not finite", name),
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        _refuse(f"it does not parse ({type(error).__name__})", text[:40])
    if canonical_json(value) != text:
        _refuse("the bytes are not the canonical ones", text[:40])
    return value


def decimal_string(x: float) -> str:
    """The shortest decimal text that reads back as the same number, `0.8127`. Refuses nan, infinities and bools."""
    if isinstance(x, bool) or not math.isfinite(x):
        _refuse("only finite numbers can be recorded", x)
    return repr(float(x) or 0.0)  # `or 0.0`: negative zero is zero


def rfc3339(moment: datetime) -> str:
    """A moment as UTC text with microseconds: `2026-11-25T07:05:00.000000Z`. Refuses a moment without a time zone."""
    if moment.utcoffset() is None:
        _refuse("a moment without a time zone is not a moment", moment)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")  # some C libraries drop year zeros


def parse_rfc3339(text: str) -> datetime:
    """The moment, in UTC. Takes RFC 3339 with `Z` and up to six digits of a second; refuses offsets and local times."""
    try:
        if _MOMENT.fullmatch(text) is None:
            raise ValueError(text)
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise UntrustedEvidence(
            f"{text!r:.60} is not a moment in UTC.", rule="RFC 3339", value=f"{text!r:.60}",
            remedy="Write it like 2026-11-25T07:05:00Z.",
        ) from None


def sha256_bytes(content: bytes) -> Digest:
    """The sha256 of bytes."""
    return str.__new__(Digest, hashlib.sha256(content).hexdigest())  # which cannot be anything else


def sha256_file(path: Path) -> Digest:
    """The sha256 of a file's bytes, read in pieces. An unreadable file raises `UntrustedEvidence`."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
    except OSError as error:
        raise UntrustedEvidence(f"{path} cannot be read: {error.strerror}.", rule="file digest", value=str(path),
                                remedy="Check that the file exists and that you may read it.") from error
    return Digest(digest.hexdigest())


def digest_of(value: object) -> Digest:
    """The sha256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value))


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below `folder` with its name as the hash covers it. A link could point elsewhere tomorrow: refused."""
    def unreadable(error: OSError) -> NoReturn:
        raise error

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        for name in (*folders, *names):
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise UntrustedEvidence(f"{path} is neither a file nor a folder.", rule="folder digest",
                                        value=str(path), remedy="Replace links and devices by real files.")
            relative = path.relative_to(folder).as_posix()
            if "\n" in relative or any("\ud800" <= letter <= "\udfff" for letter in relative):
                raise UntrustedEvidence(f"A file name in {folder} is not plain UTF-8 text.", rule="folder digest",
                                        value=repr(relative), remedy="Rename the file.")
            yield relative, path


def folder_digest(folder: Path) -> Digest:
    """in-toto `dirHash` of a folder: sha256 over the lines `<sha256>  <name>` of its files, sorted by name.

    The same number as Go's `dirhash` Hash1 and as `find . -type f | sort | xargs sha256sum | sha256sum` from within
    (names without `./`). Names are covered: renaming a file changes the digest. Refuses links and an empty folder.
    """
    try:
        files = sorted(_regular_files(folder), key=lambda named: named[0].encode())
    except OSError as error:
        raise UntrustedEvidence(f"{folder} cannot be read: {error.strerror}.", rule="folder digest", value=str(folder),
                                remedy="Check that the folder exists and that you may read it.") from error
    if not files:
        raise UntrustedEvidence(f"{folder} holds no file, so it names nothing.", rule="folder digest",
                                value=str(folder), remedy="Check the path.")
    return sha256_bytes("".join(f"{sha256_file(path)}  {name}\n" for name, path in files).encode())


def dataset_digest(frame: polars.DataFrame, key: str | None = None) -> Digest:
    """The logical digest `cds1` of a table: see `compliance_assets.trust.cds1`.

    Row order counts, unless `key` names a column whose values are all there and all different.
    """
    from compliance_assets.trust import cds1

    return cds1.dataset_digest(frame, key)


def state_digest(estimator: object) -> Digest:
    """The digest of what a fitted estimator has learned: see `compliance_assets.trust.model_state`."""
    from compliance_assets.trust import model_state

    return model_state.state_digest(estimator)


def exact_keys(value: object, keys: frozenset[str], what: str) -> Mapping[str, Any]:
    """`value` as an object that has exactly these keys; an unknown or a missing key refuses."""
    if not isinstance(value, dict) or value.keys() != keys:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise UntrustedEvidence(f"{what} must have exactly the keys {sorted(keys)}.", rule="exact keys",
                                value=f"{found}", remedy="Take the record from where it was first written.")
    return value
