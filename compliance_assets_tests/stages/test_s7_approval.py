"""Stage 7: people decide with their own keys over exactly these digests; nobody and nothing else can."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compliance_assets.errors import Misused, OutOfTurn, UntrustedEvidence, Waiting
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import Signer, decide_release, revoke_decision
from compliance_assets.governance.review import review_document
from compliance_assets.pipeline import advance, open_river
from compliance_assets.stages import s7_approval
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, pae
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.signatures import person_signature, sign_envelope
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, ssh_sign
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, decide, run_to, signer, someone, step


def edited(path: Path, river: object, **changes: object) -> None:
    """Rewrite a decision in the inbox and sign it again with the same person's key: what a hostile approver could do."""
    envelope = Envelope.from_bytes(path.read_bytes())
    statement = Statement.read(envelope.payload)
    payload = Statement(statement.subjects, statement.body.model_copy(update=changes)).payload()
    key = Path(river.home.keys / "people" / statement.body.person)  # type: ignore[attr-defined]
    armored = ssh_sign(pae(PAYLOAD_TYPE, payload), key, APPROVAL_NAMESPACE)
    path.write_bytes(Envelope(payload, PAYLOAD_TYPE, (person_signature(statement.body.person, armored),)).to_bytes())


def test_a_release_waits_for_people_and_that_is_no_verdict(in_review: Path) -> None:
    river = open_river(in_review)
    before = river.archive.ledger.size
    with pytest.raises(Waiting, match=r"Waiting for 1 × technical_owner; 1 × governance_lead"):
        step(river, "approval")
    assert river.archive.ledger.size == before


def test_two_people_in_their_roles_approve(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    with pytest.raises(Waiting, match="1 × governance_lead"):
        step(river, "approval")
    decide(river, GOVERNANCE)
    outcome = step(river, "approval")
    assert outcome
    assert set(outcome.value.approvers) == {(OWNER, "technical_owner"), (GOVERNANCE, "governance_lead")}  # type: ignore[attr-defined]
    assert outcome.value.demonstration is True  # type: ignore[attr-defined]


def test_reports_about_another_model_and_an_environment_that_is_not_there_are_refused(in_review: Path) -> None:
    river = open_river(in_review)
    values: dict[str, Any] = {name: river.value(name, digest) for name in ("staged_model", "evaluation_report", "integration_report")
                              if (digest := river.head(SYSTEM, name)) is not None}
    for name, changed in (("staged_model", {"evaluation": "ab" * 32}), ("integration_report", {"staged": "ab" * 32})):
        with pytest.raises(OutOfTurn, match="about another model than the staged one"):
            s7_approval.produce(SimpleNamespace(), **{**values, name: values[name].model_copy(update=changed)})  # type: ignore[arg-type]
    nowhere = SimpleNamespace(definition=river.definition(SYSTEM), organisation=SimpleNamespace(environments={}))
    with pytest.raises(Waiting, match="There is no environment 'production'"):
        s7_approval.count(nowhere, **values)  # type: ignore[arg-type]


def test_one_person_who_signs_twice_is_one_person(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, OWNER)
    with pytest.raises(Waiting, match="1 × governance_lead"):
        step(river, "approval")


def test_a_rejection_ends_it_for_this_model(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE, "reject", "The youngest applicants are approved least; this needs another model.")
    outcome = step(river, "approval")
    assert not outcome
    assert any("rejected_by" in sentence for sentence in outcome.failures)
    decide(river, GOVERNANCE)
    again = step(river, "approval", run="once-more")
    assert not again, "a rejected artefact must not come back unchanged"


def test_a_deferral_keeps_it_waiting(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE, "defer", "The drift figures of March are missing from the pack.", until="2099-01-01")
    with pytest.raises(Waiting, match="deferred until 2099-01-01"):
        step(river, "approval")


def test_whoever_launched_a_stage_cannot_approve_it(project: Path) -> None:
    river = open_river(project)
    assert advance(river, SYSTEM, "dataset", None, someone("by-the-owner", launcher=OWNER))
    run_to(river, "integration_testing")
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    with pytest.raises(Waiting, match=rf"1 × technical_owner; {OWNER}'s decision does not count \(they launched a run of this release"):
        step(river, "approval")


def test_a_person_nobody_knows_is_refused(in_review: Path) -> None:
    river = open_river(in_review)
    with pytest.raises(UntrustedEvidence, match="knows nobody called"):
        decide_release(river, SYSTEM, Signer("stranger", "technical_owner", river.home.keys / "people" / OWNER), "approve", REASON,
                       opened_seconds=1)


def test_a_role_that_is_not_theirs_is_refused(in_review: Path) -> None:
    river = open_river(in_review)
    with pytest.raises(UntrustedEvidence, match="a role that organisation.yaml does not give them"):
        decide_release(river, SYSTEM, signer(river, OWNER, "governance_lead"), "approve", REASON, opened_seconds=1)


def test_a_signature_with_another_persons_key_is_refused(in_review: Path) -> None:
    river = open_river(in_review)
    with pytest.raises(UntrustedEvidence):
        decide_release(river, SYSTEM, Signer(OWNER, "technical_owner", river.home.keys / "people" / GOVERNANCE), "approve", REASON,
                       opened_seconds=1)


def test_the_pipelines_own_key_approves_nothing(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    payload = Envelope.from_bytes(path.read_bytes()).payload
    path.write_bytes(sign_envelope(payload, [SigningKey.load(river.home.key_path("pipeline"))]).to_bytes())
    with pytest.raises(Waiting, match="1 × technical_owner"):
        step(river, "approval")
    assert (river.home.inbox / "refused" / path.name).is_file()
    assert (river.home.inbox / "refused" / f"{path.name}.reason.txt").read_text().strip()


def test_an_edited_decision_is_set_aside_with_the_reason(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(Waiting):
        step(river, "approval")
    assert len(list((river.home.inbox / "refused").glob("*.json"))) == 1


def test_an_approval_for_another_environment_does_not_count(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    scope = Statement.read(Envelope.from_bytes(path.read_bytes()).payload).body.scope
    edited(path, river, scope=scope.model_copy(update={"environment": "elsewhere"}))
    with pytest.raises(Waiting, match="it is for elsewhere"):
        step(river, "approval")


def test_an_approval_of_other_digests_does_not_count(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    statement = Statement.read(Envelope.from_bytes(path.read_bytes()).payload)
    other = tuple((name, type(digest)("ab" * 32) if name == "evaluation-report" else digest) for name, digest in statement.subjects)
    payload = Statement(other, statement.body).payload()
    armored = ssh_sign(pae(PAYLOAD_TYPE, payload), river.home.keys / "people" / OWNER, APPROVAL_NAMESPACE)
    path.write_bytes(Envelope(payload, PAYLOAD_TYPE, (person_signature(OWNER, armored),)).to_bytes())
    with pytest.raises(Waiting, match="bound to another evaluation-report"):
        step(river, "approval")


def test_an_approval_expires(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    river.now = lambda real=river.now: real() + timedelta(days=30)
    with pytest.raises(Waiting, match="it expired at"):
        step(river, "approval")


def test_an_approval_cannot_claim_a_longer_validity_than_declared(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    edited(path, river, expires="2099-01-01T00:00:00Z")
    with pytest.raises(Waiting, match="longer validity"):
        step(river, "approval")


def test_an_approval_dated_into_the_future_does_not_count(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    edited(path, river, issued="2098-12-31T00:00:00Z", expires="2099-01-01T00:00:00Z")
    with pytest.raises(Waiting, match="dated into the future"):
        step(river, "approval")


def test_a_revoked_approval_does_not_count(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    with pytest.raises(Waiting):
        step(river, "approval")
    statement = next(record for record in river.archive.entries() if record.statement.kind == "decision"
                     and record.body.scope.purpose == "release").digest
    revoke_decision(river, SYSTEM, statement, signer(river, OWNER), "The report I read was not the one I was sent.")
    with pytest.raises(Waiting, match="it has been revoked"):
        step(river, "approval")


def test_nobody_revokes_somebody_elses_decision(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    with pytest.raises(Waiting):
        step(river, "approval")
    statement = next(record for record in river.archive.entries() if record.statement.kind == "decision"
                     and record.body.scope.purpose == "release").digest
    with pytest.raises(Misused, match=f"is {OWNER}'s decision"):
        revoke_decision(river, SYSTEM, statement, signer(river, GOVERNANCE), "I do not like that they approved it.")


@pytest.mark.parametrize("reason", ["", "LGTM", "ok", "All criteria met", "   approved   "])
def test_a_reason_in_ones_own_words_is_part_of_a_decision(in_review: Path, reason: str) -> None:
    river = open_river(in_review)
    with pytest.raises(Misused, match="A reason"):
        decide(river, OWNER, reason=reason)


def test_environment_variables_approve_nothing(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEPLOY_APPROVAL", "AUTO_APPROVE", "COMPLIANCE_APPROVE", "APPROVED_BY"):
        monkeypatch.setenv(name, "y")
    with pytest.raises(Waiting):
        step(open_river(in_review), "approval")


def test_what_was_shown_is_kept_and_is_the_same_for_everybody(in_review: Path) -> None:
    river = open_river(in_review)
    document = review_document(river, SYSTEM)
    path = decide(river, OWNER)
    body = Statement.read(Envelope.from_bytes(path.read_bytes()).payload).body
    assert json.loads(river.archive.artefacts.get_bytes(type(river.definition(SYSTEM).digest)(body.shown))) == document
    assert body.ledger.size == river.archive.ledger.size


def test_the_same_decision_arriving_twice_is_one(in_review: Path) -> None:
    river = open_river(in_review)
    path = decide(river, OWNER)
    content = path.read_bytes()
    with pytest.raises(Waiting):
        step(river, "approval")
    size = river.archive.ledger.size
    path.write_bytes(content)
    with pytest.raises(Waiting):
        step(river, "approval")
    assert river.archive.ledger.size == size
