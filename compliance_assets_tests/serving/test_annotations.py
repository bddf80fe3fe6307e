"""What people add to a decision stands beside it and never changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance_assets.errors import Misused, ServingError, UntrustedEvidence
from compliance_assets.serving import annotations
from compliance_assets.serving.inference_log import InferenceLog, read_log
from compliance_assets_tests.serving.test_inference_log import decisions

WHY = "The income was typed in with one zero too few."


@pytest.fixture
def log(tmp_path: Path) -> Path:
    written = InferenceLog(tmp_path / "log" / "blue", "blue")
    written.append(decisions(2))
    written.close()
    return tmp_path / "log"


def test_an_override_is_recorded_beside_the_decision_which_stays(log: Path) -> None:
    note = annotations.override(log, "d1", "unfavourable", "officer-7", WHY)
    assert (note.model_said, note.said, note.by, note.reason) == ("favourable", "unfavourable", "officer-7", WHY)
    assert list(annotations.read_annotations(log, "override")) == [note]
    assert [one.decision for one in read_log(log)] == ["favourable", "favourable"]


def test_an_outcome_is_another_kind_of_note(log: Path) -> None:
    annotations.override(log, "d0", "unfavourable", "officer-7", WHY)
    late = annotations.outcome(log, "d0", "favourable", "collections")
    assert list(annotations.read_annotations(log, "outcome")) == [late]


@pytest.mark.parametrize(("inference", "decision", "by", "reason", "error"), [
    ("d0", "favourable", "officer-7", WHY, Misused), ("d0", "unfavourable", "officer-7", "no", Misused),
    ("d0", "unfavourable", " ", WHY, Misused), ("d0", "perhaps", "officer-7", WHY, Misused),
    ("d9", "unfavourable", "officer-7", WHY, ServingError), ("", "unfavourable", "officer-7", WHY, ServingError)])
def test_what_is_no_override_is_refused(log: Path, inference: str, decision: str, by: str, reason: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        annotations.override(log, inference, decision, by, reason)
    assert not list(annotations.read_annotations(log))


def test_an_edited_note_is_refused_and_a_torn_one_passed_over(log: Path) -> None:
    annotations.outcome(log, "d0", "favourable", "collections")
    (path,) = log.glob("annotations-*")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert len(list(annotations.read_annotations(log))) == 1
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(UntrustedEvidence):
        list(annotations.read_annotations(log))
