"""Sealed days read like open ones; a crash while sealing loses and doubles nothing; inputs go on their own, and in time everything."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.serving import sealing
from compliance_assets.serving.inference_log import InferenceLog, decisions_of_request, input_of, read_inputs, read_log
from compliance_assets.serving.log_files import manifest_of
from compliance_assets_tests.serving.test_inference_log import A_DECISION

DAY, NEXT = "2026-11-25", datetime(2026, 11, 26, 8, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three decisions of one day, in the journals of two processes of one server."""
    for process, ids in (("a", ("d0", "d1")), ("b", ("d2",))):
        written = InferenceLog(tmp_path / process, "blue")
        written.append([(dataclasses.replace(A_DECISION, id=id), {"age": 40, "name": "é"}) for id in ids])
        written.close()
        for path in (tmp_path / process).iterdir():
            (tmp_path / "log" / "blue").mkdir(parents=True, exist_ok=True)
            kind, rest = path.name.split("-", 1)
            path.rename(tmp_path / "log" / "blue" / f"{kind}-{DAY}{rest[10:]}")
    return tmp_path / "log"


def contents(log: Path) -> tuple[object, ...]:
    return sorted(read_log(log), key=lambda one: one.id), sorted(read_inputs(log))


def test_a_sealed_day_reads_like_the_open_one_and_its_journals_are_gone(log: Path) -> None:
    before = contents(log)
    assert sealing.seal(log, 6, NEXT) == (f"blue/{DAY}",)
    assert contents(log) == before and not list(log.rglob("*.jsonl"))
    (found,) = [one for one in decisions_of_request(log, "d1") if one.id == "d1"]
    assert input_of(log, found) == {"age": 40, "name": "é"}
    assert json.loads(manifest_of(log / "blue", DAY).read_bytes())["keep_until"] == "2027-05-25"
    assert sealing.seal(log, 6, NEXT) == (), "sealing again does nothing"


def test_a_day_that_is_not_over_for_an_hour_stays_open(log: Path) -> None:
    assert sealing.seal(log, 6, datetime(2026, 11, 26, 0, 59, tzinfo=UTC)) == ()
    assert sealing.seal(log, 6, datetime(2026, 11, 26, 1, 1, tzinfo=UTC)) != ()


@pytest.mark.parametrize("left", ["journals", "parquet without a manifest"])
def test_a_crash_while_sealing_doubles_and_loses_nothing(log: Path, tmp_path: Path, left: str) -> None:
    before = contents(log)
    shutil.copytree(log, tmp_path / "open")
    sealing.seal(log, 6, NEXT)
    for path in (tmp_path / "open").rglob("*.jsonl"):
        shutil.copy(path, log / "blue")
    if left != "journals":
        manifest_of(log / "blue", DAY).unlink()
    assert contents(log) == before
    sealing.seal(log, 6, NEXT)
    assert contents(log) == before and not list(log.rglob("*.jsonl"))


def test_an_edited_sealed_file_is_refused(log: Path) -> None:
    sealing.seal(log, 6, NEXT)
    (path,) = log.rglob("decisions-*.parquet")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UntrustedEvidence, match="not what was logged"):
        list(read_log(log))


def test_inputs_go_on_their_own_and_everything_when_its_time_is_over(log: Path) -> None:
    sealing.seal(log, 6, NEXT)
    assert sealing.expire(log, NEXT) == ()
    assert sealing.expire(log, NEXT, inputs_before="2026-11-26") == (f"blue/inputs-{DAY}.parquet",)
    assert len(list(read_log(log))) == 3 and not list(read_inputs(log))
    assert sealing.expire(log, datetime(2027, 5, 25, tzinfo=UTC)) == ()
    assert sealing.expire(log, datetime(2027, 5, 26, tzinfo=UTC)) == (f"blue/decisions-{DAY}.parquet",)
    kept = json.loads(manifest_of(log / "blue", DAY).read_bytes())
    assert all(entry["deleted"] and entry["rows"] == 3 for entry in kept["files"].values()), "that there was something stays on record"


@given(st.dates(), st.integers(6, 240))
def test_what_is_kept_for_months_is_kept_for_whole_months(day: object, months: int) -> None:
    text = str(day)
    if int(text[:4]) + months // 12 + 1 > 9999:
        return
    until = sealing.keep_until(text, months)
    assert until > text and (int(until[:4]) - int(text[:4])) * 12 + int(until[5:7]) - int(text[5:7]) == months
