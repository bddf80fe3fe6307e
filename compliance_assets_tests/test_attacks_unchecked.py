"""Each of these attacks on the pipeline is refused, and succeeds when the one check that is meant for it is taken out.

So every check is there for something that nothing else holds off. The auditor's verifier is shown in the same way in
`evidence/test_verify_bundle.py`, the wall between the stages as a whole by `emptied_wall`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from compliance_assets import pipeline
from compliance_assets.errors import ClockError, LedgerCorrupt, OutOfTurn, UntrustedEvidence, Waiting
from compliance_assets.evidence import archive as archives
from compliance_assets.evidence import authority, decisions, inbox, verification_summary
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.authority import serving_authority
from compliance_assets.evidence.decisions import Standing
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import revoke_decision
from compliance_assets.governance.review import open_review
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.gates import Finding, fact
from compliance_assets.policy.system import ApprovalPolicy
from compliance_assets.serving import loading
from compliance_assets.stages import s5_model_registration
from compliance_assets.trust import sshsig
from compliance_assets.trust.canonical import Digest, rfc3339
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, pae
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.signatures import person_signature, sign_envelope
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, decide, signer, step
from compliance_assets_tests.test_attacks import EVIDENCE, LIES, _spec, _verdict, approved, deployed
from compliance_assets_tests.unchecked import without

__all__ = ["approved"]


def sent(river: River, person: str, *, subjects: dict[str, str] | None = None, key: str = "", **changes: Any) -> Statement:
    """A decision of this person with other words or digests, signed as it stands with their key, or with another's."""
    path = decide(river, person)
    statement = Statement.read(Envelope.from_bytes(path.read_bytes()).payload)
    about = tuple((name, Digest((subjects or {}).get(name, digest))) for name, digest in statement.subjects)
    changed = Statement(about, statement.body.model_copy(update=changes))
    signed = sshsig.ssh_sign(pae(PAYLOAD_TYPE, changed.payload()), river.home.keys / "people" / (key or person), sshsig.APPROVAL_NAMESPACE)
    path.unlink()
    inbox.put(river.home.inbox, Envelope(changed.payload(), PAYLOAD_TYPE, (person_signature(person, signed),)))
    return changed


def stands(river: River, **said: Any) -> Standing:
    """Where the approval stands now; `said`: as it would if the dataset's record said something else."""
    chain, subjects, _ = open_review(river, SYSTEM)
    if said:
        made = chain.records["dataset"]
        changed = Statement(made.statement.subjects, made.body.model_copy(update=said))
        chain = replace(chain, records={**chain.records, "dataset": replace(made, statement=changed)})
    declared = river.definition(SYSTEM).system
    name = declared.deployment.environment
    return decisions.standing(river.archive.decisions_on(subjects["model"], "model"), subjects, declared.approval, river.organisation,
                              river.organisation.environments[name], name, chain, river.now(), change="FIRST", overdue=lambda _: "")


APPROVALS = {
    "not for ": "an approval for another environment", "it is for the system": "an approval for another system",
    "it is bound to another": "an approval bound to another dataset, or to another model",
    "under another organisation.yaml": "an approval given under another trust policy", "dated into the future": "an approval dated into the future",
    "longer validity": "an approval that claims a longer validity than declared", "it expired at": "an approval after its end",
    "it has been revoked": "an approval that was taken back, as whoever's key was stolen would",
}
"""Lies about an approval, by the words that `decisions._objection` refuses them with."""


def test_each_lie_about_an_approval_counts_once_its_own_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    now = river.now()
    lies: dict[str, Statement] = {}
    scope = Statement.read(Envelope.from_bytes(decide(river, OWNER).read_bytes()).payload).body.scope
    lies["not for "] = sent(river, GOVERNANCE, scope=scope.model_copy(update={"environment": "development"}))
    lies["it is for the system"] = sent(river, GOVERNANCE, scope=scope.model_copy(update={"system": "another_lender"}))
    lies["it is bound to another"] = sent(river, GOVERNANCE, subjects={"dataset": "ab" * 32})
    lies["under another organisation.yaml"] = sent(river, GOVERNANCE, trust_policy="ab" * 32)
    lies["dated into the future"] = sent(river, GOVERNANCE, issued=rfc3339(now + timedelta(hours=2)), expires=rfc3339(now + timedelta(hours=3)))
    lies["longer validity"] = sent(river, GOVERNANCE, expires=rfc3339(now + timedelta(days=3650)))
    lies["it expired at"] = sent(river, GOVERNANCE, issued=rfc3339(now - timedelta(hours=3)), expires=rfc3339(now - timedelta(hours=2)))
    lies["it has been revoked"] = sent(river, GOVERNANCE)
    assert lies.keys() == APPROVALS.keys()
    assert inbox.admit(river.archive)[1] == ()
    revoke_decision(river, SYSTEM, lies["it has been revoked"].digest, signer(river, GOVERNANCE), "The groups were not looked at after all.")
    assert inbox.admit(river.archive)[1] == ()
    found = stands(river)
    assert not found and {person for person, _ in found.refused} == {GOVERNANCE} and len(found.refused) == len(lies)
    for words, lie in lies.items():
        assert any(words in why for _, why in found.refused), words
        with monkeypatch.context() as patched:
            patched.setattr(decisions, "_objection", without(decisions._objection, words))
            succeeded = stands(river)
        assert succeeded, words
        assert lie.digest in {record.digest for record in succeeded.counted}, words
    assert not stands(river)


SEPARATED = {"they launched a run": "the launcher approves", "they wrote what is approved": "the author approves"}
"""Whose approval `decisions.unseparated` does not count, and with which words."""


def test_whoever_launched_or_wrote_it_approves_it_once_that_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    inbox.admit(river.archive)
    assert stands(river)
    code = river.archive.made_by(SYSTEM, "data_preparation")[-1].body.code
    lies: tuple[dict[str, Any], ...] = ({"launcher": GOVERNANCE}, {"code": code.model_copy(update={"authors": (f"launcher:{GOVERNANCE}",)})})
    for words, said in zip(SEPARATED, lies, strict=True):
        found = stands(river, **said)
        assert not found and found.refused[0][0] == GOVERNANCE and words in found.refused[0][1]
        with monkeypatch.context() as patched:
            patched.setattr(decisions, "unseparated", without(decisions.unseparated, words))
            assert stands(river, **said), words


VERDICTS = {"about something else": "is about something else", "another system, environment": "for another system, environment",
            "did not pass": "for another system, environment", "or approval": "for another system, environment",
            "definition or approval": "for another system, environment", "made after it|not the gate's": "was made after it"}
"""By the words that a server refuses with: the check of `verification_summary.require` that does."""


def test_each_false_verdict_lets_a_server_load_once_its_own_check_is_taken_out(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Digest(approved.value("approval", approved.head(SYSTEM, "approval") or Digest("0" * 64)).model_dump()["model"])
    tried = 0
    for name, lie, why in LIES:
        if why not in VERDICTS or name == "a second model beside it":
            continue
        deployed(approved, "intent", run=name, evidence=_verdict(approved, **lie))
        with pytest.raises(OutOfTurn):
            serving_authority(approved.archive, "production", model, "rollout")
        with monkeypatch.context() as patched:
            patched.setattr(verification_summary, "require", without(verification_summary.require, VERDICTS[why]))
            assert serving_authority(approved.archive, "production", model, "rollout"), name
        tried += 1
    assert tried >= 9


def test_a_version_that_was_taken_back_loads_again_once_its_own_check_is_taken_out(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    value = approved.value("approval", approved.head(SYSTEM, "approval") or Digest("0" * 64)).model_dump()
    for action in ("intent", "canary_started", "withdrawn"):
        deployed(approved, action)
    with pytest.raises(OutOfTurn, match="its deployment was withdrawn"):
        serving_authority(approved.archive, "production", Digest(value["model"]), "rollout")
    monkeypatch.setattr(authority, "serving_authority", without(serving_authority, "no reason was given"))
    assert authority.serving_authority(approved.archive, "production", Digest(value["model"]), "rollout")


def test_another_spec_than_the_recorded_one_is_served_once_its_own_check_is_taken_out(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(approved, "intent", evidence=EVIDENCE)
    changed = ({"snapshot": "cd" * 32}, {"definition": "cd" * 32}, {"release": "other"}, {"system": "other"}, {"trusted_types": ("os.system",)})
    for changes in changed:
        with pytest.raises(OutOfTurn, match="names another"):
            loading.authorise(_spec(approved, **changes))
    monkeypatch.setattr(loading, "_require_same", without(loading._require_same, "The server's spec names another "))
    for changes in changed:
        assert loading.authorise(_spec(approved, **changes))


def _of_another_hand(river: River) -> None:
    sent(river, GOVERNANCE, key=OWNER)


def _in_another_role(river: River) -> None:
    sent(river, GOVERNANCE, role="technical_owner")


FORGED: list[tuple[str, Callable[[River], None], str, list[tuple[Any, str, str]]]] = [
    ("signed in a colleague's name", _of_another_hand, "does not give this key", [(sshsig, "ssh_verify", "does not give this key")]),
    ("decided in a role that is not theirs", _in_another_role, "a role that organisation.yaml does not give them",
     [(archives, "check_decision", "does not give them"), (decisions, "_objection", " is not theirs")]),
]


@pytest.mark.parametrize(("attack", "said", "checks"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_a_forged_decision_is_admitted_once_its_own_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      attack: Callable[[River], None], said: str,
                                                                      checks: list[tuple[Any, str, str]]) -> None:
    river = open_river(in_review)
    attack(river)
    (refused,) = inbox.admit(river.archive)[1]
    assert said in refused[1]

    def taken_out(patched: pytest.MonkeyPatch, some: list[tuple[Any, str, str]]) -> None:
        for module, name, words in some:
            made = without(getattr(module, name), words)
            for place in (module, inbox):
                if hasattr(place, name):
                    patched.setattr(place, name, made)

    for left in checks if len(checks) > 1 else ():
        with monkeypatch.context() as patched:
            taken_out(patched, [each for each in checks if each != left])
            attack(river)
            inbox.admit(river.archive)
            assert not stands(river).counted, f"{left[1]} alone holds it off"
    attack(river)
    taken_out(monkeypatch, checks)
    assert [record.body.person for record in inbox.admit(river.archive)[0]] == [GOVERNANCE]
    assert [record.body.person for record in stands(river).counted] == [GOVERNANCE]


def test_a_rejection_is_cut_off_with_the_ledgers_tail_once_its_own_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    inbox.admit(river.archive)
    day_before = {path: path.read_bytes() for path in river.home.path.glob("ledger.db*")}
    decide(river, GOVERNANCE, "reject", "The youngest applicants are approved least; this needs another model.")
    inbox.admit(river.archive)
    assert stands(river).rejected
    river.archive.ledger.close()
    for path in river.home.path.glob("ledger.db*"):
        path.unlink()
    for path, content in day_before.items():
        path.write_bytes(content)
    with pytest.raises(LedgerCorrupt, match="was admitted, but the ledger does not hold it"):
        step(open_river(in_review), "approval")
    monkeypatch.setattr(inbox, "require_admitted", without(inbox.require_admitted, "was admitted, but the ledger does not hold it"))
    assert step(open_river(in_review), "approval", run="after the cut")


def test_the_clock_is_set_back_once_its_own_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    now = river.now
    river.now = lambda: now() - timedelta(hours=2)
    with pytest.raises(ClockError):
        step(river, "dataset", run="two hours ago")
    monkeypatch.setattr(Archive, "check_clock", without(Archive.check_clock, "The clock says "))
    assert step(river, "dataset", run="two hours ago")


# ------------------------------------------------------------------------------------------- what others were seen to let through


def test_a_variable_of_the_environment_approves_nothing_until_a_role_is_no_longer_asked_for(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All criteria are met, somebody sets DEPLOY_APPROVAL, and one of two people is not asked (C.6, 1 and 2)."""
    river = open_river(in_review)
    for name, value in (("DEPLOY_APPROVAL", "y"), ("APPROVER", "automated_ci"), ("APPROVAL_RATIONALE", "all criteria met")):
        monkeypatch.setenv(name, value)
    decide(river, OWNER)
    with pytest.raises(Waiting, match="Waiting for 1 × governance_lead to decide"):
        step(river, "approval")
    monkeypatch.setattr(ApprovalPolicy, "required", lambda *_: {"technical_owner": 1})
    assert step(river, "approval", run="nobody else is asked")


def test_a_definition_that_nobody_reviewed_acts_once_nobody_asks_whether_it_was(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound is relaxed in the YAML, with a comment, and its release is pushed on (C.6, 5)."""
    path = in_review / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("at_least: 0.75, judged_on: lower, because: below",
                                             "at_least: 0.5, judged_on: lower, because: relaxed", 1))
    river = open_river(in_review)
    assert all(step(river, asset, run="relaxed") for asset in ("dataset", "features", "candidate_model", "evaluation_report"))
    with pytest.raises(Waiting, match="acts only under an approved definition"):
        step(river, "staged_model", run="relaxed")
    with monkeypatch.context() as patched:
        patched.setattr(s5_model_registration, "fact", _approved_fact)
        with pytest.raises(Waiting, match="acts only under an approved definition"):
            step(river, "staged_model", run="relaxed")
    monkeypatch.setattr(pipeline, "_advance", without(pipeline._advance, "acts only under an approved definition"))
    found = step(river, "staged_model", run="the stage looks again")
    assert not found and "definition.approved" in " ".join(found.failures)
    monkeypatch.setattr(s5_model_registration, "fact", _approved_fact)
    assert step(river, "staged_model", run="nobody asks")


def _approved_fact(finding: str, holds: bool, **said: Any) -> Finding:
    return fact(finding, holds or finding == "definition.approved", **said)


@pytest.mark.parametrize("role", ["pipeline", "gate"])
def test_a_verdict_by_one_machine_key_alone_is_believed_once_nobody_asks_for_both(in_review: Path, role: str,
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the pipeline's key, or the gate's, and says that a stage passed."""
    river = open_river(in_review)
    made = river.archive.made_by(SYSTEM, "model_evaluation")[-1].statement
    forged = Statement(made.subjects, made.body.model_copy(update={"run": "forged"}))
    record = river.archive.append_envelope(sign_envelope(forged.payload(), [SigningKey.load(river.home.key_path(role))]))
    entry = river.archive.ledger.entry(record.index)
    with pytest.raises(UntrustedEvidence, match=ONE_KEY):
        river.archive.authentic(entry)
    monkeypatch.setattr(Archive, "_signed_by_role", without(Archive._signed_by_role, ONE_KEY))
    assert river.archive.authentic(entry).body.run == "forged"


ONE_KEY = "is not signed by the"

ROWS: list[tuple[str, str, tuple[str, ...], str]] = [
    *((name, words, (f"decisions._objection: {words.strip()}",), "test_each_lie_about_an_approval_counts_once_its_own_check_is_taken_out")
      for words, name in APPROVALS.items()),
    *((name, words, (f"decisions.unseparated: {words}",), "test_whoever_launched_or_wrote_it_approves_it_once_that_check_is_taken_out")
      for words, name in SEPARATED.items()),
    *((f"a server told to load under the gate's verdict: {name}", why.partition("|")[0], (f"verification_summary.require: {VERDICTS[why]}",),
       "test_each_false_verdict_lets_a_server_load_once_its_own_check_is_taken_out")
      for name, _, why in LIES if why in VERDICTS and name != "a second model beside it"),
    ("a version that was taken back, loaded again", "its deployment was withdrawn", ("authority.serving_authority: no reason was given",),
     "test_a_version_that_was_taken_back_loads_again_once_its_own_check_is_taken_out"),
    ("a server started with another snapshot, definition, release, system or code than recorded", "names another",
     ("loading._require_same: The server's spec names another",),
     "test_another_spec_than_the_recorded_one_is_served_once_its_own_check_is_taken_out"),
    *((name, said, tuple(f"{module.__name__.rpartition('.')[2]}.{function}: {words.strip()}" for module, function, words in checks),
       "test_a_forged_decision_is_admitted_once_its_own_check_is_taken_out") for name, _, said, checks in FORGED),
    ("a rejection cut off with the ledger's tail", "was admitted, but the ledger does not hold it",
     ("inbox.require_admitted: was admitted, but the ledger does not hold it",),
     "test_a_rejection_is_cut_off_with_the_ledgers_tail_once_its_own_check_is_taken_out"),
    ("the clock set back, to outlive an expiry", "The clock says", ("Archive.check_clock: The clock says",),
     "test_the_clock_is_set_back_once_its_own_check_is_taken_out"),
    ("approved by a variable of the environment, as all criteria are met (C.6, 1 and 2)", "Waiting for 1 × governance_lead", ("ApprovalPolicy.required",),
     "test_a_variable_of_the_environment_approves_nothing_until_a_role_is_no_longer_asked_for"),
    ("a bound relaxed in the YAML and not reviewed (C.6, 5)", "acts only under an approved definition",
     ("pipeline._advance: acts only under an approved definition", "s5_model_registration.judge: definition.approved"),
     "test_a_definition_that_nobody_reviewed_acts_once_nobody_asks_whether_it_was"),
    ("a verdict by the pipeline's key, or by the gate's, alone", ONE_KEY, (f"Archive._signed_by_role: {ONE_KEY}",),
     "test_a_verdict_by_one_machine_key_alone_is_believed_once_nobody_asks_for_both"),
]
"""Name, words, checks and test of each of these attacks, for the page of all of them."""


def test_a_check_that_is_not_there_cannot_be_taken_out() -> None:
    with pytest.raises(LookupError, match="0 times"):
        without(decisions._objection, "words that nobody says")
