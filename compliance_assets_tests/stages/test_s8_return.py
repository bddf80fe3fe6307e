"""Going back, and stopping: only to what was in production and still stands, the ledger first, and never unreviewed for long."""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Busy, Misused, OutOfTurn, UntrustedEvidence
from compliance_assets.evidence import inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.verify_bundle import Bundle
from compliance_assets.governance.deciding import review_return, revoke_decision
from compliance_assets.governance.export import export
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River, open_river
from compliance_assets.registry import Registry
from compliance_assets.stages.s8_decommission import _last
from compliance_assets.stages.s8_deployment import authority
from compliance_assets.stages.s8_return import Place, _working_days_after, reviews_due, roll_back, withdraw
from compliance_assets.stages.stage import Work
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.evidence.forging import Forger, simulated_rollout
from compliance_assets_tests.project import (
    GOVERNANCE,
    OWNER,
    REASON,
    SYSTEM,
    approve_definition,
    copied,
    decide,
    run_to,
    signer,
    someone,
    step,
)
from compliance_assets_tests.unchecked import without

WHY = "The new model refuses everybody from one branch since this morning."


@pytest.fixture(scope="module")
def two_releases(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One release fully rolled out, and a second one after it (on paper: the records, and the registry)."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("two_releases") / "world")
    for seed in (11, 12):
        path = root / "systems" / SYSTEM / "system.yaml"
        path.write_text(path.read_text().replace("\n  seed: 11\n", f"\n  seed: {seed}\n", 1))
        river = open_river(root)
        if seed == 12:
            approve_definition(river)
            assert run_to(river, "integration_testing", run="second")[-1]
        for person in (OWNER, GOVERNANCE):
            decide(river, person)
        assert step(river, "approval", run=f"approve-{seed}")
        simulated_rollout(river, SYSTEM)
    return root


@pytest.fixture
def river(two_releases: Path, tmp_path: Path) -> River:
    return open_river(copied(two_releases, tmp_path / "world"))


def place(river: River, launcher: str = "engineer", run: str = "returning") -> Place:
    return Place(river.archive, river.organisation, river.home, SYSTEM, "production", someone(run, launcher), river.now)


def state(river: River) -> DesiredState:
    return desired_state("production", river.archive.deployments("production"))


def lifecycles(river: River) -> list[str]:
    return [Registry(river.home).lifecycle(SYSTEM, version) for version in ("1", "2")]


def test_the_version_before_answers_again_and_the_records_still_verify(river: River, tmp_path: Path) -> None:
    first, second = [r.body for r in river.archive.deployments("production") if r.body.action == "full_rollout"]
    assert state(river).production.model == second.model != first.model  # type: ignore[union-attr]
    record = roll_back(place(river), WHY)
    assert (record.body.model, record.body.previous_model, record.body.reason) == (first.model, second.model, WHY)
    after = state(river)
    assert after.production.model == first.model and after.standby is None and after.ignored == ()  # type: ignore[union-attr]
    assert lifecycles(river) == ["production", "archived"]
    assert _last(place(river), after).approval == first.approval, "it would go out of service as what it is, not as what came last"
    snapshot = json.loads(river.archive.artefacts.get_bytes(Digest(record.body.evidence["snapshot"])))
    assert snapshot["production"]["model"] == second.model and record.body.evidence["ordered_by"] == "engineer-1"
    found = verify(river.archive)
    assert found, found.problems
    made = export(river.archive, SYSTEM, tmp_path / "bundle")
    bundle = Bundle(tmp_path / "bundle")
    bundle.verify(f"{made.size}:{made.root}", None)
    assert bundle.problems == []


def test_what_was_taken_back_is_never_gone_back_to(river: River) -> None:
    second = state(river).production
    assert second is not None
    roll_back(place(river), WHY)
    with pytest.raises(OutOfTurn, match="no version"):
        roll_back(place(river, run="again"), WHY)
    with pytest.raises(OutOfTurn, match="no version of small_lender called"):
        roll_back(place(river, run="named"), WHY, to=second.release[:12])


def test_a_withdrawn_version_stops_for_good(river: River) -> None:
    second = state(river).production
    assert second is not None
    record = withdraw(place(river), WHY)
    assert record.body.action == "withdrawn" and state(river).production is None
    assert lifecycles(river) == ["archived", "withdrawn"]
    with pytest.raises(Misused, match="Nothing of small_lender answers in production"):
        roll_back(place(river, run="later"), WHY)
    with pytest.raises(Misused, match="0 versions"):
        withdraw(place(river, run="twice"), WHY)


def test_a_withdrawn_standby_is_no_target(river: River) -> None:
    first = state(river).standby
    assert first is not None
    withdraw(place(river), WHY, what=first.release[:12])
    assert state(river).production is not None
    with pytest.raises(OutOfTurn, match="no version"):
        roll_back(place(river, run="back"), WHY)


def test_a_version_whose_approval_was_revoked_since_is_no_target(river: River) -> None:
    first = state(river).standby
    assert first is not None
    approval = json.loads(river.archive.artefacts.get_bytes(Digest(first.approval)))
    mine = next(r for r in river.archive.entries() if r.digest in approval["decisions"] and r.body.person == OWNER)
    revoke_decision(river, SYSTEM, mine.digest, signer(river, OWNER), "The report I read was not the one I was sent.")
    inbox.admit(river.archive)
    with pytest.raises(OutOfTurn, match=f"{OWNER} revoked or rejected it"):
        roll_back(place(river), WHY)


def test_a_version_whose_bytes_are_gone_is_no_target(river: River) -> None:
    first = state(river).standby
    assert first is not None
    path = river.archive.artefacts.open_path(Digest(first.model))
    path.chmod(0o644)
    path.write_bytes(b"other bytes")
    before = river.archive.ledger.size
    with pytest.raises(OutOfTurn, match="cannot answer again"):
        roll_back(place(river), WHY)
    assert river.archive.ledger.size == before, "nothing was recorded, nothing was done"


def test_the_target_is_judged_by_the_definition_recorded_then_not_by_todays(river: River) -> None:
    path = river.root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("decision_threshold: 0.5", "decision_threshold: 0.55"))
    later = open_river(river.root)
    assert roll_back(place(later), WHY).body.definition != later.definition(SYSTEM).digest


@pytest.mark.parametrize(("launcher", "reason", "error", "words"), [
    ("nobody-known", WHY, OutOfTurn, "knows nobody who works as nobody-known"),
    ("engineer", "it broke", Misused, "A reason of at least"),
])
def test_an_order_needs_a_known_person_and_a_reason(river: River, launcher: str, reason: str, error: type[Exception], words: str) -> None:
    for act in (roll_back, withdraw):
        with pytest.raises(error, match=words):
            act(place(river, launcher), reason)


def test_an_unapproved_organisation_orders_nothing(river: River) -> None:
    path = river.root / "organisation.yaml"
    path.write_text(path.read_text().replace("Small Lender", "Somebody Else"))
    with pytest.raises(UntrustedEvidence, match="not the trust policy in force"):
        roll_back(place(open_river(river.root)), WHY)


def test_a_rollout_under_way_is_not_disturbed_except_in_an_emergency(river: River) -> None:
    with river.home.lock("deploy-production"):
        with pytest.raises(Busy, match="--emergency"):
            roll_back(place(river), WHY)
        record = roll_back(place(river), WHY, emergency=True)
    assert record.body.evidence["emergency"] is True and lifecycles(river) == ["production", "quarantined"]


def allowed(river: River) -> dict[str, bool]:
    """What stage 8 would say of the approval that is there."""
    approval = river.archive.made_by(SYSTEM, "pre_deployment_approval")[-1].body.output
    value = river.value("approval", Digest(approval))
    staged = river.value("staged_model", Digest(value.model_dump()["staged_model"]))
    work = Work(definition=river.definition(SYSTEM), artefacts=river.archive.artefacts, scratch=river.root, tell=lambda *a, **k: None,
                driver=someone(), home=river.home, organisation=river.organisation, archive=river.archive, now=river.now, references={})
    return {finding.id: bool(finding) for finding in authority(work, value, staged, DesiredState("production"))}  # type: ignore[arg-type]


def test_an_emergency_is_reviewed_by_somebody_else_in_time_or_blocks_deployments(river: River) -> None:
    record = roll_back(place(river, launcher=OWNER), WHY, emergency=True)
    (due,) = reviews_due(river.archive, river.organisation, "production")
    assert due.index == record.index and due.due > river.now()
    assert allowed(river)["authority.reviews"]
    real = river.now
    river.now = lambda: real() + timedelta(days=6)
    assert not allowed(river)["authority.reviews"]
    river.now = real
    with pytest.raises(Misused, match="does not review it"):
        review_return(river, SYSTEM, record.digest, signer(river, OWNER), "approve", REASON)
    with pytest.raises(Misused, match="No emergency act"):
        review_return(river, SYSTEM, "ab" * 32, signer(river, GOVERNANCE), "approve", REASON)
    review_return(river, SYSTEM, record.digest, signer(river, GOVERNANCE), "reject", REASON)
    inbox.admit(river.archive)
    assert reviews_due(river.archive, river.organisation, "production") == ()
    river.now = lambda: real() + timedelta(days=6)
    assert allowed(river)["authority.reviews"]


def test_two_working_days_leave_out_the_weekend() -> None:
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert _working_days_after(friday, 2) == datetime(2026, 12, 1, 12, tzinfo=UTC)


def test_the_commands_say_what_was_recorded_and_refuse_in_words(river: River) -> None:
    runner, root = CliRunner(), str(river.root)
    path = river.root / "organisation.yaml"
    if getpass.getuser() not in path.read_text():
        done = runner.invoke(cli, ["rollback", SYSTEM, "--reason", WHY, "--root", root])
        assert isinstance(done.exception, OutOfTurn) and done.exception.exit_code == 1
    roll_back(place(river), WHY, emergency=True)
    (due,) = reviews_due(river.archive, river.organisation, "production")
    done = runner.invoke(cli, ["review-return", SYSTEM, due.statement, "--as", GOVERNANCE, "--role", "governance_lead", "--reason", REASON,
                               "--root", root, "--json"])
    assert done.exit_code == 0 and len(json.loads(done.output)["admitted"]) == 1


# --------------------------------------------------------------------------- how far the definition moved, as the auditor's verifier sees it


@pytest.fixture(scope="module")
def bundle(two_releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The auditor's bundle of both releases: the second has another seed, which is a SIGNIFICANT change."""
    folder = tmp_path_factory.mktemp("two") / "bundle"
    export(open_river(two_releases, writer=False).archive, SYSTEM, folder)
    return folder


def said_of_class(bundle: Path, keys: Path, folder: Path, change: str, more: int = 0) -> str:
    """What the verifier says when the second approval's record claims another class than follows. `more`: how many technical owners
    the second definition asks for besides, when a change is SIGNIFICANT."""
    forger = Forger(bundle, keys)
    second = [entry for entry in forger.entries if forger.kind(entry) == "stage" and entry["predicate"]["stage"] == "pre_deployment_approval"][-1]
    if more:
        definition = second["predicate"]["definition"]
        parts = forger.value(definition)
        parts["declaration"]["approval"]["by_change"] = {"SIGNIFICANT": [{"role": "technical_owner", "people": more}]}
        forger.people = True
        forger.replaced_value(definition, parts)
    forger.edit_output(second, change=change)
    found = Bundle(forger.write(folder)[0])
    found.verify(None, None)
    return " | ".join(found.problems)


@pytest.mark.parametrize(("change", "words"), [("ROUTINE", "and from the two definitions follows"), ("FIRST", "and something was")])
def test_the_auditor_computes_how_far_the_definition_moved_and_believes_no_smaller_class(
        change: str, words: str, bundle: Path, two_releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = two_releases / ".compliance" / "keys"
    assert words in said_of_class(bundle, keys, tmp_path / "refused", change)
    alone = subprocess.run((sys.executable, "-I", "-S", str(bundle / "verify.py"), str(tmp_path / "refused"), "--policy-sha256",
                            json.loads((bundle / "manifest.json").read_bytes())["first_trust_policy"]), capture_output=True, text=True, cwd="/")
    assert alone.returncode == 1 and words in alone.stdout and "1 problem" in alone.stdout, alone.stdout + alone.stderr
    monkeypatch.setattr(Bundle, "check_approval", without(Bundle.check_approval, words))
    assert said_of_class(bundle, keys, tmp_path / "unchecked", change) == ""


@pytest.mark.parametrize(("change", "more", "words"), [
    ("SIGNIFICANT", 0, ""), ("SUBSTANTIAL", 0, ""), ("SIGNIFICANT", 1, ""), ("SIGNIFICANT", 2, "not enough people of the declared roles"),
    ("SUBSTANTIAL", 2, "not enough people of the declared roles")])
def test_a_graver_class_is_believed_and_the_people_of_the_computed_one_are_asked_for(
        change: str, more: int, words: str, bundle: Path, two_releases: Path, tmp_path: Path) -> None:
    found = said_of_class(bundle, two_releases / ".compliance" / "keys", tmp_path / "forged", change, more)
    assert words in found if words else found == ""


def test_a_definition_that_the_bundle_does_not_hold_counts_as_the_gravest(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    first = vb.Bundle(folder)
    first.verify(None, None)
    assert not first.problems
    intent = next(entry for entry in first.own("deployment"))
    (folder / "artefacts" / "sha256" / intent.body["definition"]).unlink()
    found = vb.Bundle(folder)
    found.verify(None, None)
    assert any("follows SUBSTANTIAL" in problem for problem in found.problems), found.problems
