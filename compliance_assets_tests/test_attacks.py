"""Ways that a stranger, a careless colleague or a bad moment might find around the gates; each was tried, and each is refused.

What these have in common is that no single rule is broken: a later failure beside an older pass, a change of mind after a
signature, a file that is half of two things, a second process at the same moment.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import ComplianceError, OutOfTurn, StageError, UntrustedEvidence, Waiting
from compliance_assets.evidence import inbox
from compliance_assets.evidence.authority import serving_authority
from compliance_assets.evidence.records import DeploymentStep, Head, Statement
from compliance_assets.pipeline import River, advance, open_river
from compliance_assets.policy.gates import conclude, fact
from compliance_assets.stages.stage import Draft, Work
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, pae
from compliance_assets.trust.signatures import person_signature
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, ssh_sign
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, decide, signer, someone, step

WHY = "The new name is the one in the commercial register."


def rewritten(path: Path, river: River, **changes: object) -> Path:
    """A decision of the inbox with other words, signed again by the same person: what a hostile approver could send."""
    statement = Statement.read(Envelope.from_bytes(path.read_bytes()).payload)
    payload = Statement(statement.subjects, statement.body.model_copy(update=changes)).payload()
    armored = ssh_sign(pae(PAYLOAD_TYPE, payload), river.home.keys / "people" / statement.body.person, APPROVAL_NAMESPACE)
    path.write_bytes(Envelope(payload, PAYLOAD_TYPE, (person_signature(statement.body.person, armored),)).to_bytes())
    return path


def admitted(river: River) -> tuple[int, list[str]]:
    """How many decisions the inbox gave to the ledger, and why the others were refused."""
    taken, refused = inbox.admit(river.archive)
    return len(taken), [why for _, why in refused]


# -------------------------------------------------------------------------------------------- a later failure, an older pass


def test_a_release_whose_latest_integration_test_failed_is_not_approved_on_an_older_pass(
        in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.stages import s6_integration_testing

    river = open_river(in_review)
    real = s6_integration_testing.STAGE
    slow = dataclasses.replace(real, holds=None, judge=lambda work, draft, **inputs: _with_failing_latency(real.judge(work, draft, **inputs)))
    monkeypatch.setattr("compliance_assets.pipeline.stage_for", _instead(slow))
    failed = step(river, "integration_report", run="tested-again")
    assert not failed
    monkeypatch.undo()
    for person in (OWNER, GOVERNANCE):
        with pytest.raises(OutOfTurn, match="latency"):
            decide(river, person)
    with pytest.raises(OutOfTurn, match="latency"):
        step(river, "approval")
    # Tested again, and passed: then it may be reviewed.
    again = step(river, "integration_report", run="tested-a-third-time")
    assert again and not again.reused
    decide(river, OWNER)


def _with_failing_latency(reports: Any) -> Any:
    for report in reports:
        yield report if report.gate != "latency" else conclude(
            "latency", report.version, [fact("latency.p95_ms", False, value="900", bound="50", comparator="<=")])


def _instead(stage: Any) -> Any:
    from compliance_assets.stages import stage_for

    return lambda rule: stage if rule.name == stage.rule.name else stage_for(rule)


def test_a_model_whose_latest_evaluation_failed_is_not_staged_on_an_older_pass(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.stages import s4_model_evaluation
    from compliance_assets_tests.project import run_to

    river = open_river(project)
    assert run_to(river, "model_evaluation")[-1]
    real = s4_model_evaluation.STAGE

    def unfair(work: Work, draft: Draft, **inputs: Any) -> Any:
        for report in real.judge(work, draft, **inputs):
            yield report if report.gate != "fairness" else conclude(
                "fairness", report.version, [fact("fairness.sex.selection_rate_ratio", False, value="0.5", bound="0.8", comparator=">=")])

    # Since then another model went to production, so this is another question; here its answer is a failure.
    monkeypatch.setattr(River, "references", lambda self, system: {"baseline": "ab" * 32})
    monkeypatch.setattr("compliance_assets.pipeline.stage_for", _instead(dataclasses.replace(real, judge=unfair, produce=_any_reference(real))))
    assert not step(river, "evaluation_report", run="again")
    monkeypatch.undo()
    with pytest.raises(OutOfTurn, match="fairness"):
        step(river, "staged_model", run="across-runs")


def _any_reference(stage: Any) -> Any:
    def produce(work: Work, **inputs: Any) -> Draft:
        draft = stage.produce(dataclasses.replace(work, references={}), **inputs)
        return Draft(draft.value.model_copy(update={"system": SYSTEM}), draft.observations)
    return produce


# ------------------------------------------------------------------------------------------------------- a change of mind


def test_whoever_defers_after_approving_no_longer_approves(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    assert admitted(river)[0] == 2
    decide(river, OWNER, "defer", "The drift figures of March turned out to be missing.", until="2099-01-01")
    with pytest.raises(Waiting, match="1 × technical_owner.*deferred until 2099-01-01"):
        step(river, "approval")


def test_one_person_does_not_fill_two_places_of_the_same_role() -> None:
    from compliance_assets.evidence.archive import quorum
    from compliance_assets.policy.system import RequiredApproval

    twice = (RequiredApproval(role="technical_owner", people=1), RequiredApproval(role="technical_owner", people=1))
    assert not quorum({OWNER: "technical_owner"}, twice)
    assert quorum({OWNER: "technical_owner", "owner-2": "technical_owner"}, twice)


def test_a_release_needs_as_many_people_of_a_role_as_all_its_requirements_name(in_review: Path) -> None:
    from compliance_assets.evidence.decisions import standing
    from compliance_assets.governance.review import open_review
    from compliance_assets.policy.system import RequiredApproval

    river = open_river(in_review)
    decide(river, OWNER)
    inbox.admit(river.archive)
    chain, subjects, _ = open_review(river, SYSTEM)
    declared = river.definition(SYSTEM).system
    policy = declared.approval.model_copy(update={"requires": (RequiredApproval(role="technical_owner", people=1),) * 2})
    name = declared.deployment.environment
    found = standing(river.archive.decisions_on(subjects["model"], "model"), subjects, policy, river.organisation,
                     river.organisation.environments[name], name, chain, river.now(), change="FIRST", overdue=lambda _: "")
    assert not found and found.missing == (("technical_owner", 1),)


def renamed(project: Path) -> River:
    """The project with another name in organisation.yaml, proposed and not approved by anybody."""
    from compliance_assets.governance.proposing import propose_organisation

    path = project / "organisation.yaml"
    path.write_text(path.read_text().replace("Small Lender", "Small Lender and Friends"))
    river = open_river(project)
    propose_organisation(river)
    return river


def test_a_new_trust_policy_counts_once_the_people_of_the_old_one_approved_it(project: Path) -> None:
    from compliance_assets.governance.deciding import decide_trust_policy

    river = renamed(project)
    for person in (OWNER, GOVERNANCE):
        with pytest.raises(UntrustedEvidence, match="not the trust policy in force"):
            step(river, "dataset")
        decide_trust_policy(river, signer(river, person), "approve", WHY, opened_seconds=1)
        assert admitted(river) == (1, [])
    assert [organisation.name for _, organisation in river.archive.reigns()] == ["Small Lender", "Small Lender and Friends"]
    assert step(river, "dataset")


def test_an_approval_of_a_trust_policy_that_was_taken_back_does_not_count(project: Path) -> None:
    from compliance_assets.governance.deciding import decide_trust_policy, revoke_decision

    river = renamed(project)
    statement, _ = decide_trust_policy(river, signer(river, OWNER), "approve", WHY, opened_seconds=1)
    assert admitted(river) == (1, [])
    revoke_decision(river, SYSTEM, statement.digest, signer(river, OWNER), "It was the wrong register after all.")
    assert admitted(river) == (1, [])
    decide_trust_policy(river, signer(river, GOVERNANCE), "approve", WHY, opened_seconds=1)
    assert admitted(river) == (1, [])
    assert len(river.archive.reigns()) == 1, "one of the two has taken the approval back"


def test_the_same_decisions_are_the_same_approval_so_that_a_rollout_can_go_on(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    first = step(river, "approval")
    again = step(river, "approval", run="after-the-step-held")
    assert first and again and again.digest == first.digest
    assert not again.reused, "people's decisions are counted again each time"


# ------------------------------------------------------------------------------------------------------------ the inbox


def test_a_decision_dated_into_the_future_stops_nobody_elses_work(in_review: Path) -> None:
    river = open_river(in_review)
    rewritten(decide(river, OWNER), river, issued="2098-12-31T00:00:00Z", expires="2099-01-01T00:00:00Z")
    inbox.admit(river.archive)
    decide(river, GOVERNANCE)
    with pytest.raises(Waiting, match="technical_owner"):
        step(river, "approval")
    with pytest.raises(Waiting, match="technical_owner"):
        step(open_river(in_review), "approval", run="the-day-after")


@pytest.mark.parametrize("changes", [
    {"expires": "whenever"}, {"expires": ""}, {"revokes": "that one"}, {"ledger": Head(size=-1, root="00" * 32)},
    {"ledger": Head(size=1, root="not hexadecimal")}, {"issued": "yesterday"}, {"rationale": "x" * 60_000},
], ids=["expires in words", "never expires", "revokes no digest", "a negative ledger", "a root in words", "issued in words", "long"])
def test_a_decision_that_makes_no_sense_blocks_nobody(in_review: Path, changes: dict[str, Any]) -> None:
    river = open_river(in_review)
    rewritten(decide(river, OWNER), river, **changes)
    decide(river, GOVERNANCE)
    for run in ("first", "second"):
        with pytest.raises(Waiting, match="1 × technical_owner"):
            step(open_river(in_review), "approval", run=run)
    assert not list(river.home.inbox.glob("*.json"))


def test_a_decision_in_another_envelope_blocks_nobody(in_review: Path) -> None:
    """The same statement with a second signature beside the first: the same record, in other bytes."""
    river = open_river(in_review)
    path = decide(river, OWNER)
    content = path.read_bytes()
    assert admitted(river) == (1, [])
    envelope = json.loads(content)
    envelope["signatures"].append(envelope["signatures"][0])
    path.write_text(json.dumps(envelope))
    taken, refused = admitted(river)
    assert taken == 0 and len(refused) == 1
    assert admitted(river) == (0, [])


def test_what_is_no_file_in_the_inbox_blocks_nobody(in_review: Path) -> None:
    import os

    river = open_river(in_review)
    (river.home.inbox / "folder.json").mkdir()
    os.mkfifo(river.home.inbox / "pipe.json")
    (river.home.inbox / "gone.json").symlink_to(river.home.inbox / "nowhere")
    decide(river, OWNER)
    taken, refused = admitted(river)
    assert taken == 1 and len(refused) == 3


def test_a_file_that_another_process_took_meanwhile_is_not_missed(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    real = inbox.waiting
    monkeypatch.setattr(inbox, "waiting", lambda folder: (folder / "taken-by-another.json", *real(folder)))
    assert admitted(river) == (1, [])


def test_two_processes_do_not_read_the_inbox_at_once(in_review: Path) -> None:
    import threading

    river = open_river(in_review)
    decide(river, OWNER)
    done = threading.Event()
    with river.home.lock("inbox"):
        threading.Thread(target=lambda: (inbox.admit(open_river(in_review).archive), done.set())).start()
        assert not done.wait(0.5)
    assert done.wait(10)


# --------------------------------------------------------------------------------------------------------- what answers


@pytest.fixture
def approved(in_review: Path) -> River:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    return river


def deployed(river: River, action: str, **changes: Any) -> int:
    """One deployment step of the approved release, as the deployer records it."""
    approval = river.head(SYSTEM, "approval")
    assert approval is not None
    value = river.value("approval", approval).model_dump()
    body: dict[str, Any] = {
        "system": SYSTEM, "environment": "production", "action": action, "release": "r", "staged": value["staged_model"],
        "model": value["model"], "approval": str(approval), "slot": "blue", "share": "1", "step": 2, "previous_model": "",
        "previous_approval": "", "run": action, "launcher": "engineer", "at": "2026-11-25T08:00:00Z", "definition": value["definition"],
        "trust_policy": river.organisation.digest, "composite_version": "", "demonstration": True}
    from compliance_assets.evidence.verification_summary import NAMED, issue
    from compliance_assets.trust.canonical import rfc3339

    if action == "intent" and NAMED not in changes.get("evidence", {}):
        verdict = issue(river.archive, river.archive.executions_of(approval)[-1], Digest(value["model"]), "production", (), river.now())
        changes["evidence"] = {**changes.get("evidence", {}), NAMED: verdict}
    return river.archive.append_deployment(DeploymentStep(**body | {"at": rfc3339(river.now())} | changes)).index


def test_a_version_that_was_rolled_back_may_not_be_loaded_again(approved: River) -> None:
    model = Digest(approved.value("approval", approved.head(SYSTEM, "approval") or Digest("0" * 64)).model_dump()["model"])
    approval = str(approved.head(SYSTEM, "approval"))
    for action in ("intent", "canary_started", "full_rollout"):
        deployed(approved, action)
    assert serving_authority(approved.archive, "production", model, "rollout")
    deployed(approved, "rolled_back", model="ab" * 32, approval="cd" * 32, previous_model=str(model), previous_approval=approval)
    with pytest.raises(OutOfTurn, match="rolled back"):
        serving_authority(approved.archive, "production", model, "rollout")


def _verdict(river: River, role: str = "gate", **changed: Any) -> dict[str, Any]:
    """What an intent would name as the gate's verdict: the true one with other words, signed with a machine's key."""
    from compliance_assets.evidence.verification_summary import NAMED, issue
    from compliance_assets.trust.canonical import canonical_json, parse_canonical
    from compliance_assets.trust.dsse import sign_envelope
    from compliance_assets.trust.keys import SigningKey

    approval = river.head(SYSTEM, "approval")
    assert approval is not None
    model = Digest(river.value("approval", approval).model_dump()["model"])
    true = issue(river.archive, river.archive.executions_of(approval)[-1], model, "production", (), river.now())
    statement = parse_canonical(Envelope.from_bytes(river.archive.artefacts.get_bytes(true)).payload)
    statement["predicate"].update({name: value for name, value in changed.items() if name not in statement})
    statement.update({name: value for name, value in changed.items() if name in statement})
    envelope = sign_envelope(canonical_json(statement), [SigningKey.load(river.home.key_path(role))])
    return {NAMED: river.archive.artefacts.put_bytes(envelope.to_bytes())}


def _sha(digest: str) -> dict[str, dict[str, str]]:
    return {"digest": {"sha256": digest}}


LIES: list[tuple[str, dict[str, Any], str]] = [
    ("no verdict", {"evidence": {"verification_summary": None}}, "names no verdict"),
    ("another environment", {"resourceUri": f"urn:compliance-assets:system:{SYSTEM}:environment:development"}, "another system, environment"),
    ("another system", {"resourceUri": "urn:compliance-assets:system:other:environment:production"}, "another system, environment"),
    ("another model", {"subject": [{"name": "model", **_sha("ab" * 32)}]}, "about something else"),
    ("a second model beside it", {"subject": [{"name": "model", **_sha("ab" * 32)}] * 2}, "about something else"),
    ("another kind of statement", {"predicateType": "https://slsa.dev/provenance/v1"}, "about something else"),
    ("a verdict that did not pass", {"verificationResult": "FAILED"}, "did not pass"),
    ("another approval", {"inputAttestations": [{"uri": "urn:compliance-assets:pre-deployment-approval", **_sha("ab" * 32)}]}, "or approval"),
    ("another definition", {"policy": {"uri": "urn:compliance-assets:definition", **_sha("ab" * 32)}}, "definition or approval"),
    ("more said than is known", {"note": "trust me"}, "did not pass"),
    ("a moment after the intent", {"timeVerified": "2099-01-01T00:00:00Z"}, "made after it|not the gate's"),
    ("no moment", {"timeVerified": 7}, "not of the form|is not a"),
    ("signed by the pipeline", {"role": "pipeline"}, "not the gate's"),
    ("signed by the deployer", {"role": "deployer"}, "not the gate's"),
]


def test_a_server_loads_nothing_without_the_gates_own_verdict_for_exactly_this(approved: River) -> None:
    from compliance_assets.errors import ComplianceError as Refusal

    model = Digest(approved.value("approval", approved.head(SYSTEM, "approval") or Digest("0" * 64)).model_dump()["model"])
    for name, lie, why in LIES:
        deployed(approved, "intent", run=name, evidence=lie.get("evidence") or _verdict(approved, **lie))
        with pytest.raises(Refusal, match=why):
            serving_authority(approved.archive, "production", model, "rollout")
    deployed(approved, "intent", run="true", evidence=_verdict(approved))
    assert serving_authority(approved.archive, "production", model, "rollout")


def test_the_gate_gives_no_verdict_while_something_speaks_against_it(approved: River) -> None:
    from compliance_assets.evidence.verification_summary import issue

    approval = approved.archive.executions_of(approved.head(SYSTEM, "approval") or Digest("0" * 64))[-1]
    with pytest.raises(OutOfTurn, match=r"authority\.stands"):
        issue(approved.archive, approval, Digest("ab" * 32), "production", [fact("authority.stands", False, value="owner-1", bound="nobody")],
              approved.now())


def _spec(river: River, **changes: Any) -> Any:
    """What the supervisor would start the approved release's server with."""
    from compliance_assets.serving.spec import ServerSpec

    approval = river.head(SYSTEM, "approval")
    value = river.value("approval", approval or Digest("0" * 64)).model_dump()
    told: dict[str, Any] = {
        "home": str(river.home.path), "root": str(river.root), "environment": "production", "purpose": "rollout", "server": "blue",
        "system": SYSTEM, "release": "r", "model": value["model"], "definition": value["definition"], "snapshot": "ab" * 32,
        "trusted_types": (), "feature_names": ("income",), "port": 1, "token": "x" * 16, "authority": str(approval)}
    return ServerSpec(**told | changes)


EVIDENCE: dict[str, Any] = {"snapshot": "ab" * 32, "trusted_types": [], "feature_names": ["income"], "threshold": "0.5"}


def test_a_server_is_started_with_what_the_record_says_and_nothing_else(approved: River) -> None:
    from compliance_assets.serving.loading import authorise

    deployed(approved, "intent", evidence=EVIDENCE)
    assert authorise(_spec(approved))
    for changes in ({"snapshot": "cd" * 32}, {"definition": "cd" * 32}, {"release": "other"}, {"system": "other"},
                    {"trusted_types": ("os.system",)}, {"authority": "cd" * 32}):
        with pytest.raises(OutOfTurn, match="another|no record says"):
            authorise(_spec(approved, **changes))


def test_a_rollout_under_way_is_gone_on_with_under_its_own_approval(approved: River) -> None:
    from compliance_assets.cli.work import _is_under_way

    assert not _is_under_way(approved, SYSTEM)
    deployed(approved, "intent", evidence=EVIDENCE)
    deployed(approved, "shadow_started")
    assert _is_under_way(approved, SYSTEM)
    deployed(approved, "aborted")
    assert not _is_under_way(approved, SYSTEM)


def test_a_staged_model_may_be_tested_in_integration_and_nowhere_else(in_review: Path) -> None:
    river = open_river(in_review)
    model = Digest(river.value("staged_model", river.head(SYSTEM, "staged_model") or Digest("0" * 64)).model_dump()["model"])
    assert serving_authority(river.archive, "integration", model, "integration")
    with pytest.raises(OutOfTurn, match="production"):
        serving_authority(river.archive, "production", model, "integration")


def test_a_revocation_that_lies_in_the_inbox_is_read_before_anything_is_deployed(approved: River) -> None:
    from compliance_assets.governance.deciding import revoke_decision

    statement = next(record for record in approved.archive.entries() if record.statement.kind == "decision"
                     and record.body.scope.purpose == "release" and record.body.person == OWNER).digest
    revoke_decision(approved, SYSTEM, statement, signer(approved, OWNER), "The report I read was not the one I was sent.")
    outcome = step(approved, "deployment")
    assert not outcome and "authority.stands" in " ".join(outcome.failures)


def test_an_approval_taken_back_between_two_steps_ends_the_rollout(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.governance.deciding import revoke_decision
    from compliance_assets.stages import s8_deployment

    begun: list[str] = []

    def carried_out(rolling: Any, number: int, before: Any) -> Any:
        plan = ("shadow", "canary", "full")[number]
        begun.append(plan)
        index = rolling.append({"shadow": "shadow_started", "canary": "canary_started", "full": "full_rollout"}[plan],
                               slot="blue", step=number, share="0.1")
        if plan == "shadow":
            statement = next(record for record in approved.archive.entries() if record.statement.kind == "decision"
                             and record.body.scope.purpose == "release" and record.body.person == OWNER).digest
            revoke_decision(approved, SYSTEM, statement, signer(approved, OWNER), "The shadow decides other people than was shown.")
        return s8_deployment._result(number, plan, "0.1", index, {}, (fact(f"{plan}.requests", True),))  # type: ignore[arg-type]

    monkeypatch.setattr(s8_deployment, "_carry_out", carried_out)
    monkeypatch.setattr(s8_deployment, "is_supervised", lambda *_: True)
    outcome = step(approved, "deployment")
    assert begun == ["shadow"], "nobody is routed to it any more"
    assert not outcome and "authority.stands" in " ".join(outcome.failures)
    assert [record.body.action for record in approved.archive.deployments("production")][-1] == "aborted"


# ------------------------------------------------------------------------------------------------- code that goes wrong


@pytest.mark.parametrize("said", [
    "raise KeyError('income')", "return 1 / 0", "raise SystemExit(0)", "assert False",
    "import polars as pl; return frame.with_columns(pl.lit('x').cast(pl.Int64).alias('y'))",
])
def test_feature_code_that_breaks_is_refused_with_a_remedy_and_recorded(project: Path, said: str) -> None:
    path = project / "systems" / SYSTEM / "features.py"
    path.write_text(path.read_text() + f"\n\n_whole = build\n\n\ndef build(frame):\n    {said}\n")
    river = open_river(project)
    assert step(river, "dataset")
    with pytest.raises(StageError) as refusal:
        step(river, "features")
    assert refusal.value.rule and refusal.value.remedy and ("feature_engineering" in str(refusal.value) or "build" in str(refusal.value))
    record = river.archive.made_by(SYSTEM, "feature_engineering")[-1]
    assert record.body.outcome == "error"


def test_whoever_launches_with_uncommitted_changes_counts_as_an_author(tmp_path: Path) -> None:
    import subprocess

    from compliance_assets.evidence.surroundings import working_tree

    def git(*arguments: str) -> None:
        subprocess.run(("git", "-C", str(tmp_path), "-c", "user.email=a@example.org", "-c", "user.name=a", *arguments), check=True,
                       capture_output=True)

    covered = tmp_path / "system.yaml"
    covered.write_text("bound: 0.8\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert working_tree(tmp_path, [covered], "engineer").authors == ("a@example.org",)
    covered.write_text("bound: 0.1\n")
    assert "launcher:engineer" in working_tree(tmp_path, [covered], "engineer").authors


def test_a_refused_execution_names_its_remedy_even_if_nobody_wrote_one(project: Path) -> None:
    river = open_river(project)
    with pytest.raises(ComplianceError) as refusal:
        advance(river, SYSTEM, "features", {"dataset": Digest("ab" * 32)}, someone())
    assert refusal.value.rule and refusal.value.value and refusal.value.remedy


def test_an_older_copy_of_the_ledger_is_refused_by_the_heads_that_people_signed(in_review: Path) -> None:
    """Cutting off a rejection by restoring the file of the day before: decisions already admitted still hold their heads."""
    import shutil

    river = open_river(in_review)
    decide(river, OWNER)
    decide(river, GOVERNANCE)
    day_before = in_review / "copy"
    day_before.mkdir()
    for path in river.home.path.glob("ledger.db*"):
        shutil.copyfile(path, day_before / path.name)
    inbox.admit(river.archive)
    decide(river, GOVERNANCE, "reject", "The youngest applicants are approved least; this needs another model.")
    inbox.admit(river.archive)
    river.archive.ledger.close()
    for path in river.home.path.glob("ledger.db*"):
        path.unlink()
    for path in day_before.iterdir():
        shutil.copyfile(path, river.home.path / path.name)
    restored = open_river(in_review)
    for path in (river.home.inbox / "admitted").glob("*.json"):
        if "reject" not in path.read_text():
            shutil.copyfile(path, river.home.inbox / path.name)
    with pytest.raises((UntrustedEvidence, Waiting)):
        step(restored, "approval")


def test_a_clock_set_back_is_still_found_behind_a_decision(in_review: Path) -> None:
    from compliance_assets.errors import ClockError

    river = open_river(in_review)
    decide(river, OWNER)
    inbox.admit(river.archive)
    now = river.now
    river.now = lambda: now() - timedelta(hours=2)
    with pytest.raises(ClockError):
        step(river, "approval")
