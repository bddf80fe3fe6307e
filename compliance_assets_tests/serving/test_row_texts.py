"""A row among a thousand is written as it is alone: its digest is that of its canonical JSON, the log holds what was sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.serving.row_texts import RowTexts, as_sent, row_digest
from compliance_assets.trust.canonical import Digest, canonical_json, sha256_bytes

_PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats()


@given(st.dictionaries(st.text(max_size=4), _PLAIN, max_size=5))
@example({})
@example({"\ue000": 1, "\U00010000": 2})
@example({'quo"te': 'a\\"\n\x00\x7fé', "b": float("nan"), "c": -0.0})
def test_a_rows_digest_is_that_of_its_canonical_json(row: dict[str, object]) -> None:
    plain = {name: [type(value).__name__, repr(value)] if type(value) in (int, float) else value for name, value in row.items()}
    try:
        expected = sha256_bytes(canonical_json(plain))
    except UntrustedEvidence:
        with pytest.raises(UntrustedEvidence):
            row_digest(row)
        return
    assert row_digest(row) == expected == Digest(str(expected))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), _PLAIN))
def test_a_rows_digest_does_not_depend_on_the_order_of_its_keys(row: dict[str, object]) -> None:
    assert row_digest(row) == row_digest(dict(reversed(row.items())))


def test_a_rows_digest_tells_kinds_apart() -> None:
    assert len({row_digest({"a": value}) for value in (1, 1.0, True, "1", None)}) == 5


_COLUMNS = st.sampled_from([st.floats(), st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(max_size=4), st.booleans(),
                            st.none() | st.integers(), st.none() | st.floats(), st.text(max_size=2) | st.booleans(), _PLAIN,
                            _PLAIN | st.lists(st.integers(), max_size=2)])
_NAMES = st.text(max_size=3) | st.text("ab%s{}\"\\\x7f", max_size=3)


_ROWS = st.dictionaries(_NAMES, _COLUMNS, min_size=1, max_size=4).flatmap(lambda columns: st.lists(st.fixed_dictionaries(columns), max_size=4))


@given(_ROWS)
@example([{"100 %s": 1e300, "b\x7f": None, "a": "\x7fé"}, {"100 %s": 1e300, "b\x7f": float("inf"), "a": "\\"}])
@example([{"a": "\ud800"}])
def test_many_rows_are_written_as_each_alone(rows: list[dict[str, object]]) -> None:
    rows = [{name: row[name] for name in rows[0]} for row in rows]
    texts = RowTexts({name: [row[name] for row in rows] for name in (rows[0] if rows else {})})
    assert texts.sent() == [as_sent(row) for row in rows] == [json.dumps(row, separators=(",", ":")) for row in rows]
    try:
        expected = [row_digest(row) for row in rows]
    except UntrustedEvidence:
        with pytest.raises(UntrustedEvidence):
            texts.digests()
        return
    assert texts.digests() == expected
