"""The log of decisions: nothing is lost, a crash tears only a last line, and what is personal can be deleted."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance_assets.errors import ServingError, UntrustedEvidence
from compliance_assets.serving.inference_log import (
    Decision,
    InferenceLog,
    decisions_of_request,
    input_of,
    new_decision_ids,
    read_inputs,
    read_log,
    row_digest,
    row_digests,
)
from compliance_assets.trust.canonical import Digest, canonical_json, sha256_bytes

A_DECISION = Decision(id="a", time="2026-11-25T07:00:00.000000Z", request_id="r", row=0, model="m", release="rel",
                      environment="production", server="blue", role="answering", input="i", features="f", score="0.1",
                      decision="favourable", microseconds=5, monitoring={"sex": "female"})


def decisions(count: int) -> list[tuple[Decision, dict[str, int]]]:
    return [(dataclasses.replace(A_DECISION, id=f"d{i}", row=i), {"age": i}) for i in range(count)]


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "blue")
    log.append(decisions(3))
    log.append([(dataclasses.replace(A_DECISION, id="x", model="other", role="shadow"), {"age": 9})])
    log.close()
    assert [d.id for d in read_log(tmp_path)] == ["d0", "d1", "d2", "x"]
    assert [d.id for d in read_log(tmp_path, model="other", role="shadow")] == ["x"]
    assert dict(read_inputs(tmp_path))["d2"] == {"age": 2}


def test_inputs_can_be_deleted_and_the_decisions_stay(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "blue")
    log.append(decisions(2))
    log.close()
    for path in tmp_path.glob("inputs-*"):
        path.unlink()
    assert len(list(read_log(tmp_path))) == 2
    assert list(read_inputs(tmp_path)) == []


def test_a_decision_is_found_with_its_whole_request_and_its_input(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path / "blue", "blue")
    log.append(reversed(decisions(3)))
    log.append([(dataclasses.replace(A_DECISION, id="later", request_id="r2"), {"age": 9})])
    log.close()
    InferenceLog(tmp_path / "green", "green").append([(dataclasses.replace(A_DECISION, id="mirrored", role="shadow"), {"age": 0})])
    found = decisions_of_request(tmp_path, "d1")
    assert [one.id for one in found] == ["d0", "d1", "d2"]
    assert input_of(tmp_path, found[1]) == {"age": 1}
    assert [one.id for one in decisions_of_request(tmp_path, "mirrored")] == ["mirrored"]
    assert decisions_of_request(tmp_path, "d") == decisions_of_request(tmp_path, "") == ()
    for path in (tmp_path / "blue").glob("inputs-*"):
        path.unlink()
    assert input_of(tmp_path, found[1]) is None


def test_a_torn_last_line_is_passed_over_and_a_new_process_writes_another_file(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "blue")
    log.append(decisions(2))
    log.close()
    (path,) = tmp_path.glob("decisions-*")
    path.write_bytes(path.read_bytes()[:-10])
    assert [d.id for d in read_log(tmp_path)] == ["d0"]
    again = InferenceLog(tmp_path, "blue")
    again.append([(dataclasses.replace(A_DECISION, id="after"), {})])
    again.close()
    assert {d.id for d in read_log(tmp_path)} == {"d0", "after"}


@pytest.mark.parametrize("broken", [b"{torn\n", b"[]\n", b'{"id": "a"}\n'])
def test_a_broken_line_elsewhere_is_refused(tmp_path: Path, broken: bytes) -> None:
    log = InferenceLog(tmp_path, "blue")
    log.append(decisions(1))
    log.close()
    (path,) = tmp_path.glob("decisions-*")
    path.write_bytes(broken + path.read_bytes())
    with pytest.raises(UntrustedEvidence):
        list(read_log(tmp_path))


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "blue")

    def write(name: int) -> None:
        for i in range(20):
            log.append([(dataclasses.replace(A_DECISION, id=f"{name}-{i}"), {"n": i})])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len({d.id for d in read_log(tmp_path)}) == 120


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="cannot be written"):
        InferenceLog(tmp_path / "file" / "log", "blue")


def test_only_decisions_since_a_moment_are_read(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "blue")
    log.append([(A_DECISION, {}), (dataclasses.replace(A_DECISION, id="late", time="2026-11-25T09:00:00.000000Z"), {})])
    log.close()
    assert [d.id for d in read_log(tmp_path, since="2026-11-25T08:00:00.000000Z")] == ["late"]


_ROWS = st.dictionaries(st.text("abc", min_size=1, max_size=3),
                        st.none() | st.booleans() | st.integers() | st.text("xyz")
                        | st.floats(allow_nan=False, allow_infinity=False))


_ANY_ROW = st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats(), max_size=5)


@given(_ANY_ROW)
@example({})
@example({"\ue000": 1, "\U00010000": 2})
@example({'quo"te': 'a\\"\n\x00\x7fé', "b": float("nan"), "c": -0.0})
def test_a_rows_digest_is_that_of_its_canonical_json(row: dict[str, object]) -> None:
    """Written out by hand for speed; the general way says the same of every row, or refuses the same."""
    plain = {name: [type(value).__name__, repr(value)] if type(value) in (int, float) else value for name, value in row.items()}
    try:
        expected = sha256_bytes(canonical_json(plain))
    except UntrustedEvidence:
        with pytest.raises(UntrustedEvidence):
            row_digest(row)
        return
    assert row_digest(row) == expected == Digest(str(expected))


_COLUMNS = st.sampled_from([st.floats(), st.integers(), st.text(max_size=4), st.none() | st.integers(), st.booleans()])


@given(st.data())
def test_digests_of_many_rows_are_those_of_each_row(data: st.DataObject) -> None:
    columns = data.draw(st.dictionaries(st.text(max_size=3), _COLUMNS, max_size=4))
    rows = data.draw(st.lists(st.fixed_dictionaries(columns) | _ANY_ROW if data.draw(st.booleans()) else st.fixed_dictionaries(columns), max_size=4))
    try:
        expected = [row_digest(row) for row in rows]
    except UntrustedEvidence:
        with pytest.raises(UntrustedEvidence):
            row_digests(rows)
        return
    assert row_digests(rows) == expected


_WORDS = st.text(max_size=8)


@given(st.builds(Decision, *[_WORDS] * 3, st.integers(0, 999), *[_WORDS] * 9, st.integers(0), st.dictionaries(_WORDS, _WORDS, max_size=3)))
def test_a_line_is_the_json_of_its_decision_with_sorted_keys(decision: Decision) -> None:
    assert decision.line() == json.dumps(decision.__dict__, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def test_every_decision_has_128_bits_of_its_own() -> None:
    names = new_decision_ids(1000)
    assert len(set(names)) == 1000
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert new_decision_ids(0) == []


def test_a_slow_disk_is_flushed_by_two_threads_and_a_quick_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[str, int]] = []
    seconds = [0.003] * 2 + [0.0] * 4

    def fdatasync(file: int) -> None:
        clock[0] += seconds[len(flushed)]
        flushed.append((threading.current_thread().name[:5], file))

    clock = [0.0]
    monkeypatch.setattr("compliance_assets.serving.inference_log.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("compliance_assets.serving.inference_log.os.fdatasync", fdatasync)
    log = InferenceLog(tmp_path, "blue")
    for _ in range(3):
        log.append(decisions(1))
    assert len({file for _, file in flushed}) == 2 and len(flushed) == 6, "both files, each time"
    assert [sum(name == "flush" for name, _ in flushed[start:start + 2]) for start in (0, 2, 4)] == [0, 1, 0]


@given(_ROWS)
def test_a_rows_digest_does_not_depend_on_the_order_of_its_keys(row: dict[str, object]) -> None:
    assert row_digest(row) == row_digest(dict(reversed(row.items())))


def test_a_rows_digest_tells_kinds_apart() -> None:
    assert len({row_digest({"a": value}) for value in (1, 1.0, True, "1", None)}) == 5
