"""The log of decisions: nothing is lost, a crash tears only a last line, and what is personal can be deleted."""

from __future__ import annotations

import dataclasses
import errno
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import ServingError, UntrustedEvidence
from compliance_assets.serving.inference_log import (
    Answered,
    Decision,
    InferenceLog,
    decisions_of_request,
    input_of,
    new_decision_ids,
    now_text,
    read_inputs,
    read_log,
)
from compliance_assets.serving.row_texts import RowTexts

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
    # Decided just before midnight, written just after.
    at = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}T23:59:59.990000Z"
    log.append((dataclasses.replace(decision, time=at), row) for decision, row in reversed(decisions(3)))
    log.append([(dataclasses.replace(A_DECISION, id="later", request_id="r2", time=now_text()), {"age": 9})])
    log.close()
    InferenceLog(tmp_path / "green", "green").append([(dataclasses.replace(A_DECISION, id="mirrored", role="shadow"), {"age": 0})])
    found = decisions_of_request(tmp_path, "d1")
    assert [one.id for one in found] == ["d0", "d1", "d2"]
    assert input_of(tmp_path, found[1]) == {"age": 1}
    assert input_of(tmp_path, decisions_of_request(tmp_path, "later")[0]) == {"age": 9}
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


_WORDS = st.text(max_size=8)


@given(st.builds(Decision, *[_WORDS] * 3, st.integers(0, 999), *[_WORDS] * 9, st.integers(0), st.dictionaries(_WORDS, _WORDS, max_size=3)))
def test_a_line_is_the_json_of_its_decision_with_sorted_keys(decision: Decision) -> None:
    assert decision.line() == json.dumps(decision.__dict__, separators=(",", ":"), sort_keys=True).encode() + b"\n"


_ROW = st.builds(lambda age, share, word, known: {"age": age, "share": share, 'a "word"': word, "known": known},
                 st.integers(), st.floats() | st.none(), _WORDS, st.booleans())


@given(st.builds(Decision, *[_WORDS] * 3, st.integers(0, 999), *[_WORDS] * 9, st.integers(0)),
       st.lists(st.tuples(*[_WORDS] * 5, st.dictionaries(_WORDS, _WORDS, max_size=3), _ROW), max_size=5))
def test_an_answers_lines_are_those_of_its_decisions(tmp_path_factory: pytest.TempPathFactory, shared: Decision,
                                                     given_rows: list[tuple[str, str, str, str, str, dict[str, str], dict[str, object]]]) -> None:
    ids, inputs, features, scores, decided, groups, rows = zip(*given_rows, strict=True) if given_rows else ((),) * 7
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    answered = Answered(
        time=shared.time, request_id=shared.request_id, model=shared.model, release=shared.release, environment=shared.environment,
        server=shared.server, role=shared.role, microseconds=shared.microseconds, ids=ids, inputs=inputs, features=features, scores=scores,
        decisions=decided, monitoring=groups, sent=RowTexts(columns).sent())
    pairs = [(dataclasses.replace(shared, id=id, row=place, input=seen, features=made, score=score, decision=decision, monitoring=group), row)
             for place, (id, seen, made, score, decision, group, row) in enumerate(given_rows)]
    folder = tmp_path_factory.mktemp("logs")
    for name, write in (("alone", lambda log: log.append(pairs)), ("together", lambda log: log.append_answer(answered))):
        log = InferenceLog(folder / name, "blue")
        write(log)
        log.close()
    for kind in ("decisions", "inputs"):
        (alone,), (together,) = (list((folder / name).glob(f"{kind}-*")) for name in ("alone", "together"))
        assert together.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("column", ["ids", "inputs", "features", "scores", "decisions", "monitoring", "sent"])
def test_an_answer_whose_columns_differ_in_length_cannot_be_made(column: str) -> None:
    whole: dict[str, Any] = {"ids": ("a", "b"), "inputs": ("i",) * 2, "features": ("f",) * 2, "scores": ("0.1",) * 2,
                             "decisions": ("favourable",) * 2, "monitoring": ({}, {}), "sent": ("{}", "{}")}
    Answered("t", "r", "m", "rel", "production", "blue", "answering", 5, **whole)
    with pytest.raises(ValueError, match="differ in length"):
        Answered("t", "r", "m", "rel", "production", "blue", "answering", 5, **{**whole, column: whole[column][:1]})


def test_every_decision_has_128_bits_of_its_own() -> None:
    names = new_decision_ids(1000)
    assert len(set(names)) == 1000
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert new_decision_ids(0) == []


def test_an_answer_is_given_when_both_files_are_on_the_disk_whichever_is_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, int]] = []
    late = {"flush": 0.0, "MainT": 0.0}

    def fdatasync(file: int) -> None:
        thread = threading.current_thread().name[:5]
        time.sleep(late[thread])
        kept.append((thread, file))

    monkeypatch.setattr("compliance_assets.serving.inference_log.os.fdatasync", fdatasync)
    log = InferenceLog(tmp_path, "blue")
    for slow in ("flush", "MainT"):
        late |= {"flush": 0.0, "MainT": 0.0, slow: 0.05}
        kept.clear()
        log.append(decisions(1))
        assert [thread for thread, _ in kept][-1] == slow, "the later one was waited for"
        assert len({file for _, file in kept}) == 2, "the inputs and the decisions"


@pytest.mark.parametrize("thread", ["flush", "MainT"])
def test_an_answer_of_which_one_file_does_not_reach_the_disk_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: str) -> None:
    def fdatasync(_: int) -> None:
        if threading.current_thread().name[:5] == thread:
            raise OSError(errno.EIO, "Input/output error")

    log = InferenceLog(tmp_path, "blue")
    monkeypatch.setattr("compliance_assets.serving.inference_log.os.fdatasync", fdatasync)
    with pytest.raises(ServingError, match="cannot be written"):
        log.append(decisions(1))
