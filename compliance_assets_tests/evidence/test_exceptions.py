"""An exception edits no verdict, counts only for exactly what people approved, and only for its time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import Misused, OutOfTurn, UntrustedEvidence
from compliance_assets.evidence import exceptions, inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.decisions import unseparated
from compliance_assets.evidence.dossier import Chain, Excuse
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import revoke_decision
from compliance_assets.governance.documents import document
from compliance_assets.governance.excepting import Asked, ask_for_exception, decide_exception
from compliance_assets.governance.export import export
from compliance_assets.governance.monitoring import in_production
from compliance_assets.governance.review import review_document
from compliance_assets.governance.verification import verify
from compliance_assets.orchestration.watching import _no_longer_covered
from compliance_assets.pipeline import River, advance, open_river
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.stages.s8_deployment import _exceptions
from compliance_assets.trust.canonical import Digest, canonical_json, parse_rfc3339, rfc3339
from compliance_assets_tests.evidence.forging import Forger, simulated_rollout
from compliance_assets_tests.project import (
    ENGINEER,
    GOVERNANCE,
    OWNER,
    PEOPLE,
    REASON,
    SYSTEM,
    approve_definition,
    copied,
    decide,
    founded,
    run_to,
    signer,
    someone,
    step,
)
from compliance_assets_tests.web.visitor import Visitor

ALLOWED = {"covers": ["INCONCLUSIVE", "INSUFFICIENT_DATA", "FAIL"], "longest": "14d",
           "approved_by": [{"role": "technical_owner", "people": 1}, {"role": "governance_lead", "people": 1}]}
MEASURE = "Every refusal is looked at again by a second loan officer."
LATER = timedelta(days=3)


@pytest.fixture(scope="module")
def failed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose fairness gate failed; its definition lets people except that."""
    root = tmp_path_factory.mktemp("excepting") / "world"
    river = founded(root, **{"evaluation.fairness.bounds.0.at_least": 0.99, "evaluation.undecided": "exception", "approval.exceptions": ALLOWED})
    approve_definition(river)
    outcomes = run_to(river, "model_evaluation")
    assert not outcomes[-1] and "fairness" in " ".join(outcomes[-1].failures)
    return root


@pytest.fixture(scope="module")
def granted_world(failed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with an exception that two people approved."""
    root = copied(failed_world, tmp_path_factory.mktemp("granted") / "world")
    river = open_river(root)
    approved(river, ask(river))
    return root


@pytest.fixture(scope="module")
def staged_world(granted_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, evaluated again and registered under the exception."""
    root = copied(granted_world, tmp_path_factory.mktemp("staged") / "world")
    river = open_river(root)
    assert step(river, "model_evaluation", run="again")
    assert step(river, "model_registration")
    return root


@pytest.fixture
def failed(failed_world: Path, tmp_path: Path) -> River:
    return open_river(copied(failed_world, tmp_path / "world"))


@pytest.fixture
def granted(granted_world: Path, tmp_path: Path) -> River:
    return open_river(copied(granted_world, tmp_path / "world"))


def asked(river: River, **changed: Any) -> Asked:
    said = {"gate": "fairness", "severity": "medium", "reason": "The bound was tightened before the new book was collected.",
            "compensating": (MEASURE,), "remediation": "Retrained on the new book by the end of next week.",
            "root_cause": "Four hundred rows are too few for this bound.", "until": river.now() + LATER}
    return Asked(**{**said, **changed})


def ask(river: River, **changed: Any) -> Record:
    return ask_for_exception(river, SYSTEM, asked(river, **changed), "engineer")


def approved(river: River, exception: Record, *people: str) -> None:
    for person in people or (OWNER, GOVERNANCE):
        decide_exception(river, SYSTEM, str(exception.digest), signer(river, person), "approve", REASON, opened_seconds=2)
    assert not inbox.admit(river.archive)[1]


def evaluated(river: River) -> Record:
    return river.archive.made_by(SYSTEM, "model_evaluation")[-1]


def why(river: River, at: datetime | None = None) -> str:
    return "; ".join(exceptions.excuse_for(river.archive, evaluated(river), at or river.now()).because)


def forged(river: River, exception: Record, **changed: Any) -> Record:
    """The request as somebody with the pipeline's key could have written it."""
    return river.archive.append(Statement(exception.statement.subjects, exception.body.model_copy(update=changed)))


# ------------------------------------------------------------------------------------------------------------- it is honoured


def test_under_an_exception_the_gates_behind_are_judged_and_the_verdict_stays(granted_world: Path, tmp_path: Path) -> None:
    river = open_river(copied(granted_world, tmp_path / "world"))
    before = evaluated(river)
    assert {report.gate: report.verdict for report in before.body.reports}["drift"] is Verdict.NOT_RUN
    outcome = step(river, "model_evaluation", run="again")
    assert outcome and not outcome.reused and set(outcome.excepted) == {"fairness"}
    verdicts = {report.gate: report.verdict for report in evaluated(river).body.reports}
    assert verdicts["fairness"] in (Verdict.FAIL, Verdict.INCONCLUSIVE) and Verdict.NOT_RUN not in verdicts.values()
    assert evaluated(river).body.outcome == "failed" and before == river.archive.made_by(SYSTEM, "model_evaluation")[0]
    assert step(river, "model_registration")
    again = step(river, "model_evaluation", run="once-more")
    assert again and again.reused and set(again.excepted) == {"fairness"}


@pytest.mark.slow
def test_a_release_under_an_exception_is_reviewed_approved_and_verified_with_it_in_sight(staged_world: Path, tmp_path: Path) -> None:
    river = open_river(copied(staged_world, tmp_path / "world"))
    assert run_to(river, "integration_testing")[-1]
    shown = review_document(river, SYSTEM)["exceptions"]
    assert [one["standing"] for one in shown] == ["in force"] and shown[0]["compensating"] == [MEASURE]
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    approval = step(river, "approval")
    assert approval and verify(river.archive)
    work: Any = type("Work", (), {"archive": river.archive, "now": river.now})
    assert _exceptions(work, approval.value)  # type: ignore[arg-type]
    late: Any = type("Work", (), {"archive": river.archive, "now": lambda: datetime.now(UTC) + LATER})
    finding = _exceptions(late, approval.value)  # type: ignore[arg-type]
    assert not finding and "it expired at" in str(finding.value)
    simulated_rollout(river, SYSTEM)
    slot = in_production(river, SYSTEM)
    assert slot is not None and not list(_no_longer_covered(river, SYSTEM, slot))
    (alert,) = _no_longer_covered(replace(river, now=late.now), SYSTEM, slot)
    assert alert["event"] == "exception_expired" and "it expired at" in str(alert["said"])
    exported = export(river.archive, SYSTEM, tmp_path / "bundle")
    found = vb.Bundle(tmp_path / "bundle")
    found.verify(f"{exported.size}:{exported.root}", exported.first_trust_policy)
    assert not found.problems
    assert found.counts["failed evaluations that went on under an exception"] == 1
    # Whoever asked for it does not approve the release that rests on it, in the pipeline nor in the auditor's eyes.
    own = river.archive.of_kind("exception", SYSTEM)[-1]
    own = replace(own, statement=replace(own.statement, body=own.body.model_copy(update={"requested_by": OWNER})))
    policy = river.definition(SYSTEM).system.approval
    assert unseparated(river.organisation.person(OWNER), policy, Chain({"evaluation_report": evaluated(river)}, (own,))) == ASKED
    assert unseparated(river.organisation.person(GOVERNANCE), policy, Chain({"evaluation_report": evaluated(river)}, (own,))) == ""
    forger = Forger(tmp_path / "bundle", river.home.keys)
    forger.people = True
    entry = next(e for e in forger.entries if forger.kind(e) == "exception")
    old = forger.kept[id(entry)]
    entry["predicate"]["requested_by"] = OWNER
    _follow(forger, entry, old)
    found = vb.Bundle(forger.write(tmp_path / "forged")[0])
    with pytest.MonkeyPatch.context() as patched:  # as if enough others had approved the exception
        patched.setattr(vb.Bundle, "_exception_unapproved", lambda *_: "")
        found.verify(None, None)
    assert [ASKED in problem for problem in found.problems] == [True], found.problems


ASKED = "they asked for an exception that it rests on"


# -------------------------------------------------------------------------------------------------------------- it is refused


def test_asking_alone_grants_nothing(failed: River) -> None:
    ask(failed)
    assert not step(failed, "model_evaluation", run="again")
    assert "it waits for 1 × technical_owner; 1 × governance_lead" in why(failed)


def test_one_of_two_people_is_not_enough(failed: River) -> None:
    approved(failed, ask(failed), OWNER)
    assert "it waits for 1 × governance_lead" in why(failed)


def test_whoever_asked_cannot_approve(failed: River) -> None:
    exception = ask_for_exception(failed, SYSTEM, asked(failed), OWNER)
    approved(failed, exception)
    assert f"{OWNER}'s word does not count (they asked for it)" in why(failed)


@pytest.mark.parametrize("named", [{"requested_by": OWNER}, {"launcher": OWNER}])
def test_whoever_is_named_as_having_asked_cannot_approve_in_whichever_place(named: dict[str, str], failed: River) -> None:
    exception = forged(failed, ask(failed), **named)
    approved(failed, exception)
    assert f"{OWNER}'s word does not count (they asked for it)" in exceptions.standing(failed.archive, exception, failed.now()).why


def test_a_failed_test_and_an_error_are_never_excepted_whatever_people_approved(failed: River) -> None:
    exception, was = ask(failed), evaluated(failed)
    tested = failed.archive.append(Statement(was.statement.subjects, was.body.model_copy(update={"stage": "integration_testing", "run": "tested"})))
    forgery = forged(failed, exception, stage="integration_testing", failed=str(tested.digest))
    for each in (exception, forgery):
        approved(failed, each)
    assert exceptions.standing(failed.archive, forgery, failed.now())
    assert "fairness" in exceptions.excuse_for(failed.archive, was, failed.now()).by
    broken = replace(was, statement=replace(was.statement, body=was.body.model_copy(update={"outcome": "error"})))
    for record in (tested, broken):
        assert exceptions.excuse_for(failed.archive, record, failed.now()) == Excuse({})
    assert exceptions.in_force(failed.archive, SYSTEM, "integration_testing", was.body.definition, was.body.inputs, failed.now()) == {}


def test_one_counts_neither_before_it_was_asked_for_nor_under_a_definition_that_is_not_on_record(granted: River) -> None:
    exception = granted.archive.of_kind("exception", SYSTEM)[-1]
    early = exceptions.standing(granted.archive, exception, parse_rfc3339(exception.body.at) - timedelta(seconds=1))
    assert not early and early.why.startswith("it was asked for only at")
    assert exceptions.excuse_for(granted.archive, evaluated(granted), granted.now(), exception.index) == Excuse({})
    stranger = forged(granted, exception, definition=OTHER)
    assert exceptions.standing(granted.archive, stranger, granted.now()).why == "its definition allows no exception"


MAKERS: dict[str, tuple[dict[str, Any], str]] = {
    "the launcher": ({"launcher": OWNER}, "they launched a run of this release"),
    "an author": ({"authors": (f"launcher:{OWNER}",)}, "they wrote what is approved"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_whoever_made_what_failed_cannot_approve(name: str, failed: River) -> None:
    changed, reason = MAKERS[name]
    was = evaluated(failed)
    code = was.body.code.model_copy(update={key: value for key, value in changed.items() if key == "authors"})
    other = {key: value for key, value in changed.items() if key != "authors"}
    failed.archive.append(Statement(was.statement.subjects, was.body.model_copy(update={"run": "another", "code": code, **other})))
    approved(failed, ask(failed))
    assert f"{OWNER}'s word does not count ({reason})" in why(failed)


def test_an_expired_one_is_refused_by_the_wall(staged_world: Path, tmp_path: Path) -> None:
    river = open_river(copied(staged_world, tmp_path / "world"))
    report = Digest.parse(evaluated(river).body.output)
    candidate = river.head(SYSTEM, "candidate_model")
    assert candidate is not None and river.head(SYSTEM, "evaluation_report") == report
    river.now = lambda: datetime.now(UTC) + LATER
    assert river.head(SYSTEM, "evaluation_report") is None
    with pytest.raises(OutOfTurn, match=r"whose gate failed: fairness.*No exception covers it: exception .*: it expired at"):
        advance(river, SYSTEM, "model_registration", {"candidate_model": candidate, "evaluation_report": report}, someone("late"))
    assert river.dossier(SYSTEM, datetime.now(UTC)).admit("staged_model", river.head(SYSTEM, "staged_model"), needed_by="a look back")  # type: ignore[arg-type]
    with pytest.raises(OutOfTurn, match="it expired at"):
        river.dossier(SYSTEM).admit("staged_model", river.head(SYSTEM, "staged_model"), needed_by="now")  # type: ignore[arg-type]


def test_a_revoked_one_is_refused(granted: River) -> None:
    exception = granted.archive.of_kind("exception", SYSTEM)[-1]
    own = next(one for one in granted.archive.decisions_on(exception.digest, "exception") if one.body.person == GOVERNANCE)
    revoke_decision(granted, SYSTEM, str(own.digest), signer(granted, GOVERNANCE), "The compensating measure was not carried out at all.")
    inbox.admit(granted.archive)
    assert f"it has been revoked by {GOVERNANCE}" in why(granted)
    assert not step(granted, "model_evaluation", run="again")


def test_a_rejected_one_is_refused(failed: River) -> None:
    exception = ask(failed)
    decide_exception(failed, SYSTEM, str(exception.digest), signer(failed, GOVERNANCE), "reject", REASON, opened_seconds=1)
    inbox.admit(failed.archive)
    approved(failed, exception)
    assert f"{GOVERNANCE} rejected it" in why(failed)


OTHER = "0" * 64
FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "another release": ({"inputs": {"candidate_model": OTHER, "features": OTHER}}, "it is for another release"),
    "another definition": ({"definition": OTHER}, "it was given under definition 000000000000"),
    "another gate": ({"gate": "performance"}, "it is for the gate performance"),
    "another version of the gate": ({"gate_version": 9}, "it is for version 9 of the gate"),
    "another stage": ({"stage": "integration_testing"}, "it is for the stage integration_testing"),
    "nothing that failed": ({"failed": OTHER}, "the failed execution that it names is not in the ledger before it"),
    "a finding that did not fail": ({"findings": None}, "it claims more than failed"),
    "longer than declared": ({"expires": rfc3339(datetime.now(UTC) + timedelta(days=15))}, "longer than the declared 14d"),
    "an error": ({"findings": "ERROR"}, "its definition allows none for ERROR"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_or_over_wide_one_is_refused_with_its_reason(name: str, failed: River) -> None:
    changed, reason = dict(FOREIGN[name][0]), FOREIGN[name][1]
    exception = ask(failed)
    findings = exception.body.findings
    if "findings" in changed:
        changed["findings"] = (*findings, {"id": "fairness.sex.invented", "verdict": changed["findings"] or "FAIL", "value": "0.1",
                                           "sentence": "invented"})
    forgery = forged(failed, exception, **changed)
    approved(failed, forgery)
    assert reason in why(failed)
    assert not step(failed, "model_evaluation", run="again")


def test_one_that_names_fewer_findings_than_failed_is_refused(failed: River) -> None:
    exception = ask(failed)
    if len(exception.body.findings) < 2:
        report = next(each for each in evaluated(failed).body.reports if each.gate == "fairness")
        more = GateReport("fairness", report.version, (*report.findings, Finding("fairness.sex.other", Verdict.FAIL, value="0.1")))
        assert exceptions.uncovered(exception, more) == "it does not name fairness.sex.other"
        return
    forgery = forged(failed, exception, findings=exception.body.findings[:1])
    approved(failed, forgery)
    assert "it does not name" in why(failed)


def test_one_exception_does_not_carry_a_second_gate_that_failed(granted: River) -> None:
    assert step(granted, "model_evaluation", run="again")  # the gates behind are judged now
    record = evaluated(granted)
    assert exceptions.excuse_for(granted.archive, record, granted.now())
    worse = GateReport("calibration", 1, (Finding("calibration.brier_reliability", Verdict.FAIL, value="0.4"),)).as_json()
    gates = tuple(worse if gate["gate"] == "calibration" else gate for gate in record.body.gates)
    body = type(record.body).model_validate({**record.body.model_dump(), "gates": gates})
    both = replace(record, statement=replace(record.statement, body=body))
    two = exceptions.excuse_for(granted.archive, both, granted.now())
    assert set(two.by) == {"fairness"} and not two


def test_an_error_is_never_covered_whatever_an_exception_names(granted: River) -> None:
    exception = granted.archive.of_kind("exception", SYSTEM)[-1]
    name = exception.body.findings[0]["id"]
    worse = GateReport("fairness", exception.body.gate_version, (Finding(name, Verdict.ERROR, note="nothing was measured"),))
    assert "which cannot be excepted" in exceptions.uncovered(exception, worse)
    moved = GateReport("fairness", exception.body.gate_version, (Finding(name, Verdict.FAIL, value="0.01"),))
    assert "when it was asked for, and is FAIL 0.01" in exceptions.uncovered(exception, moved)


def test_without_a_declaration_that_allows_it_nobody_can_ask(project: Path) -> None:
    with pytest.raises(OutOfTurn, match="allows no exception"):
        ask(open_river(project))


REFUSED_ASKING: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a gate that did not fail": ({"gate": "performance"}, OutOfTurn, "did not fail at performance"),
    "a gate that did not run": ({"gate": "drift"}, OutOfTurn, "did not fail at drift"),
    "too long": ({"until": datetime.now(UTC) + timedelta(days=15)}, OutOfTurn, "not within the declared 14d"),
    "already over": ({"until": datetime.now(UTC) - timedelta(days=1)}, OutOfTurn, "not within the declared 14d"),
    "no measure": ({"compensating": ()}, Misused, "needs compensating measures and the root cause"),
    "no root cause": ({"root_cause": " "}, Misused, "and the root cause"),
    "a template": ({"reason": "all criteria met"}, Misused, "in your own words"),
}


@pytest.mark.parametrize("name", REFUSED_ASKING)
def test_what_could_never_be_granted_is_not_even_recorded(name: str, failed_world: Path) -> None:
    river = open_river(failed_world)
    changed, error, said = REFUSED_ASKING[name]
    size = river.archive.ledger.size
    with pytest.raises(error, match=said):
        ask(river, **changed)
    assert river.archive.ledger.size == size


def test_a_stranger_cannot_ask(failed_world: Path) -> None:
    with pytest.raises(OutOfTurn, match="knows nobody who works as nobody"):
        ask_for_exception(open_river(failed_world), SYSTEM, asked(open_river(failed_world)), "nobody")


def test_a_request_that_the_pipeline_did_not_sign_is_nobodys(failed: River) -> None:
    from compliance_assets.trust.keys import SigningKey
    from compliance_assets.trust.signatures import sign_envelope

    exception = ask(failed)
    payload = Statement(exception.statement.subjects, exception.body.model_copy(update={"severity": "low"})).payload()
    stranger = failed.archive.append_envelope(sign_envelope(payload, [SigningKey.generate()]))
    with pytest.raises(UntrustedEvidence, match="No known key signed this statement"):
        failed.archive.authentic(failed.archive.ledger.entry(stranger.index))
    assert len(failed.archive.of_kind("exception", SYSTEM)) == 1


def test_the_page_of_the_candidate_shows_the_exception_beside_the_failed_verdict(staged_world: Path) -> None:
    river = open_river(staged_world, writer=False)
    tip = river.archive.made_by(SYSTEM, "model_registration")[-1]
    page = Visitor(staged_world).see(f"/systems/{SYSTEM}/candidates/{tip.index}")
    assert "excepted until" in page.text and MEASURE in page.text and f"{OWNER} as technical_owner" in page.text
    asked_for = Visitor(staged_world).see("/ledger").text
    assert "exception to fairness asked for" in asked_for and "approved an exception" in asked_for


def test_the_commands_ask_decide_list_and_take_back(failed: River, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from compliance_assets.cli import cli

    monkeypatch.setenv("LOGNAME", "engineer")
    root = ("--root", str(failed.root), "--json")

    def said(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, ["exception", *arguments, *root], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    until = (datetime.now(UTC) + LATER).date().isoformat()
    given = said("ask", SYSTEM, "--gate", "fairness", "--severity", "high", "--reason", REASON, "--measure", MEASURE,
                 "--remediation", "Retrained with more rows by the end of the week.", "--root-cause", "too few rows", "--until", until)
    who = [("--as", person, "--role", role, "--reason", REASON) for person, role in PEOPLE.items()]
    assert said("approve", SYSTEM, given["statement"][:12], *who[0])["exception"]["standing"] == "it waits for 1 × governance_lead"
    assert said("approve", SYSTEM, given["statement"], *who[1])["exception"]["standing"] == "in force"
    assert said("list", SYSTEM)[0]["compensating"] == [MEASURE]
    assert said("revoke", SYSTEM, given["statement"], *who[0])["standing"] == f"it has been revoked by {OWNER}"
    assert "failed: fairness" in CliRunner().invoke(cli, ["exception", "list", SYSTEM, "--root", str(failed.root)]).stdout


# ------------------------------------------------------------------------------------------------------ the auditor's verifier

ATTACKS: dict[str, Callable[[Forger, dict[str, Any]], None]] = {
    "it had expired": lambda forger, said: said.update(expires=said["at"]),
    "for another release": lambda forger, said: said["inputs"].update(candidate_model=OTHER),
    "not enough people": lambda forger, said: forger.entries.remove(forger.decisions("exception")[0]),
    "longer than declared": lambda forger, said: said.update(expires="2099-01-01T00:00:00Z"),
    "a finding that did not fail": lambda forger, said: said["findings"].append(
        {"id": "fairness.sex.invented", "verdict": "FAIL", "value": "0.1", "sentence": "invented"}),
    "nothing that failed": lambda forger, said: said.update(failed=OTHER),
    "fewer findings": lambda forger, said: said["findings"].pop(),
    "an execution that broke": lambda forger, said: [e["predicate"].update(outcome="error") for e in forger.entries
                                                      if forger.kind(e) == "stage" and e["predicate"]["stage"] == "model_evaluation"],
    "a definition that allows none": lambda forger, said: _disallowed(forger),
    "rejected by one of them": lambda forger, said: _also(forger, "reject"),
    "put off instead of approved": lambda forger, said: forger.decisions("exception")[0]["predicate"].update(decision="defer"),
    "taken back before it was used": lambda forger, said: _also(forger, "revoke"),
}
SAYS = {"it had expired": "had expired", "for another release": "is for another release", "not enough people": "not enough people of the declared",
        "longer than declared": "lasts longer than declared", "a finding that did not fail": "names what did not fail so",
        "nothing that failed": "rests on no failed execution", "fewer findings": "does not name every finding",
        "an execution that broke": "no exception can be given", "a definition that allows none": "under a definition that allows none",
        "rejected by one of them": f"{GOVERNANCE} rejected", "put off instead of approved": "not enough people of the declared",
        "taken back before it was used": "not enough people of the declared"}


def _disallowed(forger: Forger) -> None:
    definition = forger.stage("model_evaluation")["predicate"]["definition"]
    parts = forger.value(definition)
    parts["declaration"]["approval"]["exceptions"] = None
    forger.replaced_value(definition, parts)


def _also(forger: Forger, decision: str) -> None:
    """One of the two also says this, right after."""
    said = next(one for one in forger.decisions("exception") if one["predicate"]["person"] == GOVERNANCE)
    last = max(forger.entries.index(one) for one in forger.decisions("exception"))
    more = forger.copy(said, at=last + 1)
    more["predicate"].update(decision=decision, nonce="once more")
    if decision == "revoke":
        more["predicate"]["revokes"] = vb.sha256(canonical_json(said))


@pytest.fixture(scope="module")
def bundle(staged_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("excepted") / "bundle"
    export(open_river(staged_world).archive, SYSTEM, folder)
    return folder


def test_the_auditors_verifier_believes_an_honest_exception(bundle: Path) -> None:
    found = vb.Bundle(bundle)
    found.verify(None, None)
    assert not found.problems and found.counts["failed evaluations that went on under an exception"] == 1


@pytest.mark.parametrize("name", ATTACKS)
def test_the_auditors_verifier_refuses_an_exception_that_does_not_hold(name: str, bundle: Path, staged_world: Path, tmp_path: Path) -> None:
    forger = Forger(bundle, open_river(staged_world, writer=False).home.keys)
    forger.people = True
    entry = next(e for e in forger.entries if forger.kind(e) == "exception")
    old = forger.kept[id(entry)]
    ATTACKS[name](forger, entry["predicate"])
    _follow(forger, entry, old)
    folder, _, _ = forger.write(tmp_path / "forged")
    found = vb.Bundle(folder)
    found.verify(None, None)
    assert any(SAYS[name] in problem for problem in found.problems), found.problems


def _follow(forger: Forger, entry: dict[str, Any], old: bytes) -> None:
    """People sign the changed request: their decisions are about its new digest."""
    import base64
    import hashlib
    import json

    was = hashlib.sha256(base64.b64decode(json.loads(old)["payload"])).hexdigest()
    forger._renamed(was, hashlib.sha256(canonical_json(entry)).hexdigest())


def test_the_engineer_is_the_one_who_asked(granted_world: Path) -> None:
    assert open_river(granted_world).archive.of_kind("exception", SYSTEM)[-1].body.requested_by == ENGINEER


def test_documents_show_an_exception_beside_the_verdict_that_stays_failed(granted_world: Path) -> None:
    paper = document(open_river(granted_world, writer=False), "annex-iv", SYSTEM)
    said = {line.what: line.said for point in paper.points if point.number == "5" for line in point.lines}
    assert "It counts; approved by " in said["exception to gate fairness"] and GOVERNANCE in said["exception to gate fairness"]
    assert "refused at model evaluation" in said
