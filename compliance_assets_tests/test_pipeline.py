"""The one way a stage runs: in order, once, recorded, and never around the wall."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from compliance_assets.errors import (
    ArtefactCorrupt,
    Busy,
    ClockError,
    HomeUnusable,
    Misused,
    OutOfTurn,
    SourceError,
    Superseded,
    UntrustedEvidence,
    Waiting,
)
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.records import Statement
from compliance_assets.pipeline import River, advance, open_river, published
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.signatures import sign_envelope
from compliance_assets_tests.project import SYSTEM, approve_definition, founded, run_to, someone, step


def edit(root: Path, old: str, new: str, name: str = "system.yaml") -> None:
    """Change one thing that people declared."""
    path = root / "systems" / SYSTEM / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_dataset_that_passed_lets_features_be_made(project: Path) -> None:
    river = open_river(project)
    outcomes = run_to(river, "feature_engineering")
    assert [bool(outcome) for outcome in outcomes] == [True, True]
    assert outcomes[1].stage.makes == "features"


def test_the_same_inputs_are_not_executed_again_and_a_record_says_so(project: Path) -> None:
    river = open_river(project)
    first = step(river, "dataset")
    again = step(river, "dataset", run="another-run")
    assert again.reused and not first.reused
    assert again.digest == first.digest and again.record_index == first.record_index
    last = river.archive.authentic(river.archive.ledger.tail(1)[0])
    assert last.statement.kind == "reuse" and last.body.original_statement == first.record_digest


def test_a_changed_bound_judges_the_same_bytes_again_without_computing_them(project: Path) -> None:
    first = step(open_river(project), "dataset")
    edit(project, "tolerance: 0.05", "tolerance: 0.06")
    again = step(open_river(project), "dataset", run="another-run")
    # The declaration of the data changed, so its bytes are computed anew; a bound of the evaluation changes none of them.
    assert again.digest == first.digest
    edit(project, "decision_threshold: 0.5", "decision_threshold: 0.51")
    judged = step(open_river(project), "dataset", run="a-third-run")
    assert judged.digest == first.digest and not judged.computed and not judged.reused


def test_a_failed_gate_is_recorded_and_nothing_downstream_exists(project: Path) -> None:
    edit(project, "prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]")
    river = open_river(project)
    outcome = step(river, "dataset")
    assert not outcome
    assert any("label" in sentence for sentence in outcome.failures)
    assert river.archive.made_by(SYSTEM, "data_preparation")[-1].body.outcome == "failed"
    assert river.head(SYSTEM, "dataset") is None
    with pytest.raises(OutOfTurn, match=r"needs dataset.*\n?.*does not exist yet|needs dataset, which does not exist yet"):
        step(river, "features")


def test_training_on_a_dataset_whose_gate_failed_names_rule_value_and_remedy(project: Path) -> None:
    edit(project, "prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]")
    river = open_river(project)
    outcome = step(river, "dataset")
    with pytest.raises(OutOfTurn) as refusal:
        advance(river, SYSTEM, "features", {"dataset": outcome.digest}, someone())
    said = str(refusal.value)
    assert "whose gate failed" in said and "label" in said and "0.98" in said
    assert "amend the declaration and have it approved" in refusal.value.remedy


def test_a_failure_is_sticky_the_same_key_is_not_judged_again(project: Path) -> None:
    edit(project, "prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]")
    river = open_river(project)
    first, again = step(river, "dataset"), step(river, "dataset", run="once-more")
    assert not again and again.reused and again.record_index == first.record_index


def test_nothing_is_consumed_twice_removed_from_the_definition_at_hand(project: Path) -> None:
    dataset = step(open_river(project), "dataset")
    edit(project, "decision_threshold: 0.5", "decision_threshold: 0.51")
    with pytest.raises(OutOfTurn, match="judged under definition"):
        advance(open_river(project), SYSTEM, "features", {"dataset": dataset.digest}, someone())


def test_a_version_that_passed_but_was_replaced_is_refused(project: Path) -> None:
    river = open_river(project)
    old = step(river, "dataset")
    edit(project, "rows: 2000", "rows: 2100")
    edited = open_river(project)
    new = step(edited, "dataset")
    edit(project, "rows: 2100", "rows: 2000")
    back = open_river(project)
    # Back at the old declaration the old dataset is the head again; forge the pointer to a newer one of another definition.
    with pytest.raises(OutOfTurn):
        advance(back, SYSTEM, "features", {"dataset": new.digest}, someone())
    assert back.head(SYSTEM, "dataset") == old.digest


def test_an_older_version_under_the_same_definition_is_superseded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.evidence.dossier import require_head

    with pytest.raises(Superseded, match="stands in its place"):
        require_head("dataset", Digest("a" * 64), Digest("b" * 64), "features", SYSTEM)


def test_an_artefact_swapped_on_disk_is_refused(project: Path) -> None:
    river = open_river(project)
    dataset = step(river, "dataset")
    path = river.archive.artefacts.open_path(dataset.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"2000", b"2001"))
    with pytest.raises(ArtefactCorrupt):
        advance(river, SYSTEM, "features", {"dataset": dataset.digest}, someone())


def test_acting_stages_wait_for_an_approved_definition(tmp_path: Path) -> None:
    river = founded(tmp_path)
    for stage in ("dataset", "features"):
        assert step(river, stage)
    assert river.archive.made_by(SYSTEM, "data_preparation")[-1].body.definition_in_force is False
    from compliance_assets.policy.river import rule_named

    assert rule_named("model_registration").kind == "act"
    with pytest.raises((Waiting, OutOfTurn)):
        advance(river, SYSTEM, "staged_model", {}, someone())


def test_a_definition_counts_once_everybody_who_must_approved_it(tmp_path: Path) -> None:
    river = founded(tmp_path)
    assert river.archive.definition_in_force(SYSTEM) is None
    approve_definition(river)
    assert river.archive.definition_in_force(SYSTEM) == river.definition(SYSTEM).digest


def test_a_second_run_at_the_same_time_is_told_to_wait(project: Path) -> None:
    river = open_river(project)
    with river.home.lock(f"run-{SYSTEM}"), pytest.raises(Busy, match="nothing was started"):
        step(river, "dataset")


def test_a_clock_set_back_is_refused(project: Path) -> None:
    river = open_river(project)
    step(river, "dataset")
    river.now = lambda real=river.now: real() - timedelta(hours=1)
    with pytest.raises(ClockError, match="Set the clock right"):
        step(river, "features")


def test_an_unwritable_home_is_refused_before_anything_starts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(project)
    before = river.archive.ledger.size

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", no_space)
    with pytest.raises(HomeUnusable, match="No space left"):
        step(river, "dataset")
    assert river.archive.ledger.size == before


def test_an_unknown_system_is_answered_with_the_known_ones(project: Path) -> None:
    with pytest.raises(Misused, match=SYSTEM):
        advance(open_river(project), "nobody", "dataset", {}, someone())


def test_a_run_without_a_home_is_refused(project: Path) -> None:
    import shutil

    shutil.rmtree(project / ".compliance")
    with pytest.raises(HomeUnusable, match="compliance init"):
        open_river(project)


def test_a_stage_that_cannot_compute_leaves_evidence_but_no_verdict(project: Path) -> None:
    # A simulator that gives no rows.
    path = project / "systems" / SYSTEM / "simulator.py"
    path.write_text(path.read_text() + "\n\n_whole = simulate\n\n\ndef simulate(*args, **kwargs):\n    return _whole(*args, **kwargs).head(0)\n")
    river = open_river(project)
    with pytest.raises(SourceError):
        step(river, "dataset")
    record = river.archive.made_by(SYSTEM, "data_preparation")[-1]
    assert record.body.outcome == "error" and record.body.gates == ()
    with pytest.raises(OutOfTurn):
        published(river, SYSTEM, "dataset", Digest(record.body.output))


def test_a_record_signed_by_an_untrusted_key_is_refused(project: Path) -> None:
    river = open_river(project)
    dataset = step(river, "dataset")
    genuine = river.archive.executions_of(dataset.digest)[-1]
    stranger = SigningKey.generate()
    forged = genuine.body.model_copy(update={"output": "ab" * 32, "run": "forged"})
    river.archive.append_envelope(sign_envelope(Statement((("dataset", Digest("ab" * 32)),), forged).payload(), [stranger]))
    with pytest.raises(UntrustedEvidence, match="No known key signed"):
        advance(river, SYSTEM, "features", {"dataset": Digest("ab" * 32)}, someone())


def test_the_pipeline_key_alone_cannot_say_that_a_gate_passed(project: Path) -> None:
    river = open_river(project)
    dataset = step(river, "dataset")
    genuine = river.archive.executions_of(dataset.digest)[-1]
    pipeline = SigningKey.load(river.home.key_path("pipeline"))
    forged = genuine.body.model_copy(update={"output": "cd" * 32, "run": "forged"})
    river.archive.append_envelope(sign_envelope(Statement((("dataset", Digest("cd" * 32)),), forged).payload(), [pipeline]))
    with pytest.raises(UntrustedEvidence, match="gate key"):
        advance(river, SYSTEM, "features", {"dataset": Digest("cd" * 32)}, someone())


def test_a_record_without_all_its_gates_is_refused(project: Path) -> None:
    river = open_river(project)
    dataset = step(river, "dataset")
    genuine = river.archive.executions_of(dataset.digest)[-1]
    fewer = genuine.body.model_copy(update={"gates": genuine.body.gates[:-1], "run": "fewer", "key": "ef" * 32, "output": "12" * 32})
    river.archive.append(Statement((("dataset", Digest("12" * 32)),), fewer))
    with pytest.raises(OutOfTurn, match="shift"):
        advance(river, SYSTEM, "features", {"dataset": Digest("12" * 32)}, someone())


def test_a_record_of_another_system_is_refused(project: Path) -> None:
    river = open_river(project)
    dataset = step(river, "dataset")
    genuine = river.archive.executions_of(dataset.digest)[-1]
    other = genuine.body.model_copy(update={"system": "another_lender", "run": "other", "key": "ab" * 32, "output": "34" * 32})
    river.archive.append(Statement((("dataset", Digest("34" * 32)),), other))
    with pytest.raises(OutOfTurn, match="another_lender"):
        advance(river, SYSTEM, "features", {"dataset": Digest("34" * 32)}, someone())


def test_a_changed_organisation_does_not_count_until_it_is_approved(project: Path) -> None:
    path = project / "organisation.yaml"
    path.write_text(path.read_text().replace("Small Lender", "Small Lender and Friends"))
    with pytest.raises(UntrustedEvidence, match="not the trust policy in force"):
        step(open_river(project), "dataset")


def test_what_a_stage_said_is_kept_as_structured_json(project: Path) -> None:
    river = open_river(project)
    outcome = step(river, "dataset")
    record = river.archive.executions_of(outcome.digest)[-1]
    lines = [json.loads(line) for line in river.archive.artefacts.get_bytes(Digest(record.body.log)).splitlines()]
    assert lines[0]["event"] == "stage_entered" and {line["stage"] for line in lines} == {"data_preparation"}
    day = next(river.home.logs.glob("*.jsonl")).read_text().splitlines()
    assert any(json.loads(line)["event"] == "stage_completed" for line in day)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", json.loads(line)["time"]) for line in day)


def test_every_verdict_of_a_record_follows_from_its_findings(project: Path) -> None:
    river = open_river(project)
    outcome = step(river, "dataset")
    reports = river.archive.executions_of(outcome.digest)[-1].body.reports
    assert [report.gate for report in reports] == list(outcome.stage.gate_names)
    undeclared = {"completeness", "currentness", "shift"}  # the small lender bounds none of them, and the record says so
    assert {report.gate for report in reports if report.verdict is Verdict.NOT_APPLICABLE} == undeclared
    assert all(report.verdict is Verdict.PASS for report in reports if report.gate not in undeclared)


def test_an_archive_refuses_a_ledger_of_other_people(project: Path, tmp_path: Path) -> None:
    river = open_river(project)
    stranger = founded(tmp_path / "stranger")
    with pytest.raises(UntrustedEvidence):
        Archive.open(river.home, stranger.organisation)


def test_a_bounded_shift_compares_with_the_dataset_of_the_approved_model_and_the_record_says_which(
        project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_to(open_river(project), "model_training")
    monkeypatch.setattr(River, "references", lambda self, system: {"production": str(first[2].digest), "baseline": str(first[2].digest)})
    assert river_references(project) == {}  # nothing is compared that nobody bounded
    edit(project, "  provenance:", "  shift:\n  - {metric: psi, against: production, columns: [age], at_most: 0.1, judged_on: point,\n"
         "     because: beyond this it is another population}\n  provenance:")
    again = step(open_river(project), "dataset", run="another-run")
    assert again and again.digest == first[0].digest
    shift = next(report for report in again.reports if report.gate == "shift")
    assert [(found.id, found.verdict) for found in shift.findings] == [("shift.production.psi", Verdict.PASS)]
    assert river_references(project) == {"production": str(first[0].digest)}
    assert open_river(project).archive.made_by(SYSTEM, "data_preparation")[-1].body.references == {"production": str(first[0].digest)}


def river_references(project: Path) -> dict[str, str]:
    return open_river(project).references_of(SYSTEM, rule_named("data_preparation"))
