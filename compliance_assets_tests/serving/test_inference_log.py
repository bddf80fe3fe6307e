"""The log of decisions: nothing is lost, a crash tears only a last line, and what is personal can be deleted."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import ServingError, UntrustedEvidence
from compliance_assets.serving.inference_log import (
    Decision,
    InferenceLog,
    decisions_of_request,
    input_of,
    read_inputs,
    read_log,
    row_digest,
)

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


@given(_ROWS)
def test_a_rows_digest_does_not_depend_on_the_order_of_its_keys(row: dict[str, object]) -> None:
    assert row_digest(row) == row_digest(dict(reversed(row.items())))


def test_a_rows_digest_tells_kinds_apart() -> None:
    assert len({row_digest({"a": value}) for value in (1, 1.0, True, "1", None)}) == 5
