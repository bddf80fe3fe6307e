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

from compliance_assets.errors import ClockError, LedgerCorrupt, OutOfTurn
from compliance_assets.evidence import archive as archives
from compliance_assets.evidence import authority, decisions, inbox, verification_summary
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.authority import serving_authority
from compliance_assets.evidence.decisions import Standing
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import revoke_decision
from compliance_assets.governance.review import open_review
from compliance_assets.pipeline import River, open_river
from compliance_assets.serving import loading
from compliance_assets.trust import sshsig
from compliance_assets.trust.canonical import Digest, rfc3339
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, pae
from compliance_assets.trust.signatures import person_signature
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


def test_whoever_launched_or_wrote_it_approves_it_once_that_check_is_taken_out(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    inbox.admit(river.archive)
    assert stands(river)
    code = river.archive.made_by(SYSTEM, "data_preparation")[-1].body.code
    for words, said in (("they launched a run", {"launcher": GOVERNANCE}),
                        ("they wrote what is approved", {"code": code.model_copy(update={"authors": (f"launcher:{GOVERNANCE}",)})})):
        found = stands(river, **said)
        assert not found and found.refused[0][0] == GOVERNANCE and words in found.refused[0][1]
        with monkeypatch.context() as patched:
            patched.setattr(decisions, "unseparated", without(decisions.unseparated, words))
            assert stands(river, **said), words


def test_each_false_verdict_lets_a_server_load_once_its_own_check_is_taken_out(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Digest(approved.value("approval", approved.head(SYSTEM, "approval") or Digest("0" * 64)).model_dump()["model"])
    checks = {"about something else": "is about something else", "another system, environment": "for another system, environment",
              "did not pass": "for another system, environment", "or approval": "for another system, environment",
              "definition or approval": "for another system, environment", "made after it|not the gate's": "was made after it"}
    tried = 0
    for name, lie, why in LIES:
        if why not in checks or name == "a second model beside it":
            continue
        deployed(approved, "intent", run=name, evidence=_verdict(approved, **lie))
        with pytest.raises(OutOfTurn):
            serving_authority(approved.archive, "production", model, "rollout")
        with monkeypatch.context() as patched:
            patched.setattr(verification_summary, "require", without(verification_summary.require, checks[why]))
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
    attack(river)
    for module, name, words in checks:
        made = without(getattr(module, name), words)
        for place in (module, inbox):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, made)
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


def test_a_check_that_is_not_there_cannot_be_taken_out() -> None:
    with pytest.raises(LookupError, match="0 times"):
        without(decisions._objection, "words that nobody says")
