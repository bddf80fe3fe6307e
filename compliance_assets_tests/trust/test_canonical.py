"""The same thing has the same bytes and the same name, and what has no certain bytes is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import pickle
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.canonical import (
    LARGEST_INTEGER,
    Digest,
    canonical_json,
    decimal_string,
    digest_of,
    folder_digest,
    parse_canonical,
    parse_rfc3339,
    rfc3339,
    sha256_bytes,
    sha256_file,
)

keys = st.text(st.characters(max_codepoint=127), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_every_value_reads_back_from_its_canonical_bytes(value: object) -> None:
    assert parse_canonical(canonical_json(value)) == value


@given(values)
def test_it_is_the_text_of_rfc_8785(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(st.binary(max_size=40))
def test_any_bytes_either_are_canonical_or_are_refused(noise: bytes) -> None:
    try:
        value = parse_canonical(noise)
    except UntrustedEvidence:
        return
    assert canonical_json(value) == noise


@given(values, st.data())
def test_one_changed_byte_never_reads_as_the_same_value(value: object, data: st.DataObject) -> None:
    text = bytearray(canonical_json(value))
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UntrustedEvidence):
        assert canonical_json(parse_canonical(bytes(text))) == bytes(text) != canonical_json(value)


@pytest.mark.parametrize("value", [
    0.5, 1.0, math.nan, [math.inf], {"a": 1.0}, 2**53, -(2**53), {"é": 1}, {1: 2}, "\ud800", b"bytes", {1, 2},
    datetime(2026, 1, 1, tzinfo=UTC), pytest.param(object(), id="an object"),
], ids=repr)
def test_what_other_readers_could_read_differently_is_not_written(value: object) -> None:
    with pytest.raises(UntrustedEvidence):
        canonical_json(value)


@pytest.mark.parametrize("text", [
    b'{"a":1,"a":1}', b'{"a":1,"a":2}', b"1.0", b"1e3", b"NaN", b"Infinity", b"-0", b"01", b" 1", b"1 ", b"1\n2", b"",
    b'{"b":1,"a":2}', b'"\\u0041"', b'"\\ud800"', b"\xff", b"[1,]", b"9007199254740992", b"9" * 5000,
    "\ufeff1".encode(), "1".encode("utf-16"), b"[" * 100_000, b"[" * 70 + b"]" * 70, '{"é":1}'.encode(), b"true false",
], ids=lambda text: repr(text[:20]))
def test_json_that_is_not_the_canonical_json_is_not_read(text: bytes) -> None:
    with pytest.raises(UntrustedEvidence):
        parse_canonical(text)


def test_tuples_are_lists_and_a_digest_is_text() -> None:
    digest = sha256_bytes(b"")
    assert canonical_json({"d": digest, "t": (1, 2)}) == b'{"d":"%b","t":[1,2]}' % digest.encode()
    assert digest_of({}) == hashlib.sha256(b"{}").hexdigest()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_decimal_string_reads_back_as_the_same_number(x: float) -> None:
    assert float(decimal_string(x)) == x


def test_decimal_strings_are_short_and_know_no_negative_zero() -> None:
    assert [decimal_string(x) for x in (0.8127, 1, -0.0, 0.1 + 0.2)] == ["0.8127", "1.0", "0.0", "0.30000000000000004"]


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, True])
def test_what_is_not_a_finite_number_has_no_decimal_string(x: float) -> None:
    with pytest.raises(UntrustedEvidence):
        decimal_string(x)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_reads_back_from_its_text(moment: datetime) -> None:
    assert parse_rfc3339(rfc3339(moment)) == moment


def test_moments_are_written_in_utc() -> None:
    moment = datetime(2026, 11, 25, 8, 5, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(moment) == "2026-11-25T07:05:00.000000Z"
    with pytest.raises(UntrustedEvidence):
        rfc3339(datetime(2026, 11, 25))


@pytest.mark.parametrize("text", ["2026-11-25", "2026-11-25T07:05:00", "2026-11-25T07:05:00+00:00",
                                  "2026-02-30T00:00:00Z", "2026-11-25 07:05:00Z", "2026-11-25T07:05:00Z\n",
                                  "٢026-11-25T07:05:00Z", ""])
def test_a_time_that_is_not_certainly_utc_is_refused(text: str) -> None:
    with pytest.raises(UntrustedEvidence):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["", "e3b0", "E" * 64, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "٠" * 64])
def test_only_64_lowercase_hex_digits_are_a_digest(text: str) -> None:
    with pytest.raises(UntrustedEvidence) as refused:
        Digest.parse(text)
    assert refused.value.rule == "digest"


def test_a_digest_survives_json_and_pickle_and_shows_its_first_twelve_digits() -> None:
    digest = sha256_bytes(b"abc")
    again = pickle.loads(pickle.dumps(digest))
    assert type(again) is Digest and again == digest == json.loads(json.dumps(digest))
    assert digest.short == "ba7816bf8f01"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder: three files, one of them below."""
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "weights.bin").write_bytes(bytes(range(256)) * 5000)
    (model / "Config.json").write_text("{}")
    (model / "sub" / "a b.txt").write_text("x")
    return model


def test_a_file_has_the_digest_of_its_bytes(folder: Path) -> None:
    assert sha256_file(folder / "weights.bin") == sha256_bytes(bytes(range(256)) * 5000)
    with pytest.raises(UntrustedEvidence):
        sha256_file(folder / "missing")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")
def test_coreutils_gives_a_folder_the_same_digest(folder: Path) -> None:
    line = "find . -type f | sed 's,^./,,' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum"
    said = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert folder_digest(folder) == said.split()[0]


def test_renaming_a_file_changes_the_folder(folder: Path) -> None:
    before = folder_digest(folder)
    (folder / "Config.json").rename(folder / "config.json")
    assert folder_digest(folder) != before


def test_a_link_in_a_folder_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("weights.bin")
    with pytest.raises(UntrustedEvidence):
        folder_digest(folder)


def test_an_empty_or_missing_folder_or_a_line_break_in_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a\nb").write_text("")
    for name in ("empty", "missing", "broken"):
        with pytest.raises(UntrustedEvidence):
            folder_digest(tmp_path / name)
