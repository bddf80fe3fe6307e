"""The auditor's verifier: believes nobody, misses no byte of what it covers, and names what it does not cover.

In the attacks the insider holds every machine key and signs everything again. What is refused is the lie, not the clumsiness: the
same forger who changes nothing, or only what is no lie, is believed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import Misused, UntrustedEvidence
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence import verify_signatures
from compliance_assets.governance.deciding import decide_definition, revoke_decision
from compliance_assets.governance.export import export, verifier_program
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical, parse_rfc3339, rfc3339
from compliance_assets.trust.merkle import Frontier, leaf_hash, verify_inclusion
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, generate_ssh_key, ssh_sign, ssh_verify
from compliance_assets_tests.evidence.forging import Forger, simulated_rollout
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, copied, decide, signer, step
from compliance_assets_tests.unchecked import without

Attack = Callable[[Forger], None]


@pytest.fixture(scope="module")
def world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release approved by both people, rolled out on paper, and its bundle beside it."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("bundled") / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    assert verify(river.archive)
    export(river.archive, SYSTEM, root / "bundle")
    return root


@pytest.fixture
def bundle(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world / "bundle", tmp_path / "bundle"))


def head_of(bundle: Path) -> str:
    head = json.loads((bundle / "manifest.json").read_bytes())["head"]
    return f"{head['size']}:{head['root']}"


def policy_of(bundle: Path) -> str:
    return str(json.loads((bundle / "manifest.json").read_bytes())["first_trust_policy"])


def verified(folder: Path, head: str | None = None, policy: str | None = None) -> vb.Bundle:
    found = vb.Bundle(folder)
    found.verify(head, policy)
    return found


def said(folder: Path, head: str | None = None, policy: str | None = None) -> str:
    return " | ".join(verified(folder, head, policy).problems)


# ------------------------------------------------------------------------------------------------------------------ the bundle


def test_a_healthy_bundle_is_verified_by_python_alone_and_names_what_it_does_not_cover(bundle: Path) -> None:
    for held in (("--head", head_of(bundle)), ("--policy-sha256", policy_of(bundle))):
        done = subprocess.run((sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), *held, "--json"), capture_output=True,
                              text=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
        body = json.loads(done.stdout)
        assert body["verified"] and body["uncovered_files"] == ["README.md", "verify.py"]
        assert body["counts"]["passed stages, down to the raw source"] == 7 and body["counts"]["deployment steps"] == 4
        assert "demonstration" in body["notes"][0]


def test_each_entry_of_the_system_has_a_proof_of_its_own_that_others_can_read(bundle: Path) -> None:
    size, root = head_of(bundle).split(":")
    for index in range(int(size)):
        head, _, note = (bundle / f"proofs/{index}.tlog-proof").read_text().partition("\n\n")
        first, second, *way = head.split("\n")
        assert (first, second) == ("c2sp.org/tlog-proof@v1", f"index {index}") and note == (bundle / "checkpoint.note").read_text()
        verify_inclusion(index, int(size), leaf_hash((bundle / f"entries/{index}.json").read_bytes()), [base64.b64decode(each) for each in way],
                         bytes.fromhex(root))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70))
def test_proofs_of_any_size_lead_to_the_root(size: int) -> None:
    tree, bodies = vb.Tree(), [bytes([number]) for number in range(size)]
    for body in bodies:
        tree.append(body)
    for name, content in vb.proofs(bodies, range(size), b"").items():
        index = int(name.removeprefix("proofs/").removesuffix(".tlog-proof"))
        way = [base64.b64decode(each) for each in content.decode().split("\n")[2:-2]]
        verify_inclusion(index, size, leaf_hash(bodies[index]), way, tree.roots[-1])


def test_without_something_that_the_auditor_holds_it_does_not_even_begin(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        vb.main([str(bundle)])
    assert stopped.value.code == 2 and "anybody's bundle would do" in capsys.readouterr().err


def test_tables_of_people_are_left_out_unless_asked_for(world: Path, bundle: Path, tmp_path: Path) -> None:
    assert not [path for path in bundle.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"PAR1"]
    listed = json.loads((bundle / "manifest.json").read_bytes())["not_included"]
    river = open_river(world, writer=False)
    tables = {digest for record in river.archive.made_by(SYSTEM, "data_preparation") for name, digest in record.body.files.items()
              if name.endswith(".parquet")}
    assert tables and tables <= set(listed)
    full = export(river.archive, SYSTEM, tmp_path / "full", with_data=True)
    assert full.left_out == () and not verified(tmp_path / "full", f"{full.size}:{full.root}").problems


def test_a_bundle_is_not_written_over_something_and_not_of_nothing(world: Path, bundle: Path, tmp_path: Path) -> None:
    archive = open_river(world, writer=False).archive
    with pytest.raises(Misused, match="not an empty folder"):
        export(archive, SYSTEM, bundle)
    with pytest.raises(Misused, match="Nothing in the ledger"):
        export(archive, "nobodys_system", tmp_path / "other")


EVERY_BYTE = os.environ.get("VERIFY_EVERY_BYTE", "")
"""Set: not a sample, but every byte of every covered file. A number such as 2/4 takes the second of four shares."""


class _Found(Exception):  # not an error: the first problem ends the look
    """The verifier said no."""


class _FirstProblem(list[str]):
    def append(self, problem: str) -> None:
        raise _Found(problem)


def refuses(found: vb.Bundle, files: dict[str, bytes], check: Callable[[], None]) -> bool:
    """Whether this check of the verifier refuses these files; it need not say everything that is wrong."""
    found.files, found.problems = files, _FirstProblem()
    try:
        found.attempt("files", check)
    except _Found:
        return True
    return False


def test_a_byte_flipped_in_any_covered_file_is_refused(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both are functions of their arguments alone, and are asked the same for every byte that is tried.
    hashed: dict[int, tuple[bytes, str]] = {}

    def sha256(content: bytes) -> str:
        known = hashed.get(id(content))
        return known[1] if known is not None and known[0] is content else hashlib.sha256(content).hexdigest()

    strictly = vb.read_canonical
    monkeypatch.setattr(vb, "sha256", sha256)
    monkeypatch.setattr(vb, "Entry", functools.lru_cache(1000)(vb.Entry))
    monkeypatch.setattr(vb, "ed25519", functools.lru_cache(100_000)(vb.ed25519))
    monkeypatch.setattr(vb, "ssh_verify", functools.lru_cache(1000)(vb.ssh_verify))
    monkeypatch.setattr(vb, "read_canonical", lambda content: json.loads(content) if id(content) in hashed else strictly(content))
    (tmp_path / "empty").mkdir()
    head, draw = head_of(bundle), random.Random(7)
    whole = vb.Bundle(bundle).files
    covered = sorted(verified(bundle, head).verified)
    hashed.update({id(content): (content, vb.sha256(content)) for content in whole.values()})
    healthy = vb.Bundle(tmp_path / "empty")
    assert not refuses(healthy, dict(whole), lambda: healthy.verify(head, None)), "what is whole is verified in the same way"
    assert not refuses(healthy, dict(whole), healthy.check_files)
    listed = json.loads(whole["manifest.json"])
    share, _, of = EVERY_BYTE.partition("/")
    survivors, tried = [], 0
    for name in covered:
        content = whole[name]
        places = draw.sample(range(len(content)), min(2, len(content)))
        if EVERY_BYTE:
            places = list(range(int(share) - 1, len(content), int(of))) if of else list(range(len(content)))
        for place in places:
            bad = bytearray(content)
            bad[place] ^= 1 << (draw.randrange(8) if not EVERY_BYTE else place % 8)
            files = {**whole, name: bytes(bad)}
            if name != "manifest.json":  # the forger also mends the manifest, which nobody signs
                files["manifest.json"] = vb.canonical(
                    {**listed, "files": {**listed["files"], name: vb.sha256(bytes(bad))}})
            tried += 1
            # Nothing before `check_files` reads these: what is refused there is refused; only what is not goes the whole way.
            if name.startswith(("artefacts/", "attestations", "verdicts", "sbom", "trust/", "proofs/")) and refuses(healthy, files, healthy.check_files):
                continue
            found = vb.Bundle(tmp_path / "empty")
            if not refuses(found, files, functools.partial(found.verify, head, None)):
                survivors.append((name, place))
    if EVERY_BYTE:
        print(f"{tried} bytes flipped in {len(covered)} covered files, {len(survivors)} not refused")
    assert not survivors and len(covered) > 100


@pytest.mark.parametrize("name", ["entries/9.json", "checkpoint.note", "trust/policy-0.json", "artefacts/sha256/DEFINITION"])
def test_a_missing_file_is_missed(bundle: Path, name: str) -> None:
    head = head_of(bundle)
    definition = json.loads(base64.b64decode(json.loads((bundle / "entries/1.json").read_bytes())["payload"]))["predicate"]["parts"]
    (bundle / name.replace("DEFINITION", definition)).unlink()
    assert verified(bundle, head).problems


def test_a_file_that_nobody_signed_is_named_as_uncovered_or_refused(bundle: Path) -> None:
    content = b"numbers that look better"
    (bundle / "artefacts/sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content)
    (bundle / "artefacts/sha256" / ("ab" * 32)).write_bytes(b"not that")
    found = verified(bundle, head_of(bundle))
    assert f"artefacts/sha256/{hashlib.sha256(content).hexdigest()}" not in found.verified
    assert "its bytes are others than its name says" in " ".join(found.problems)
    (bundle / "link").symlink_to("/etc/hostname")
    assert "it is a link" in said(bundle, head_of(bundle))


# ------------------------------------------------------------------------------------------- the insider with all machine keys


def rewritten(edit: Attack) -> Attack:
    """The lie is told before people decide: they sign what they are shown."""
    def attack(forger: Forger) -> None:
        forger.people = True
        edit(forger)
    return attack


def gates(stage: str, edit: Any) -> Attack:
    return rewritten(lambda f: f.edit_gates(f.stage(stage), edit))


def _worse(by_name: dict[str, Any], _: Any) -> None:
    by_name["fairness"]["findings"][0].update(value="0.6", lower="0.55", upper="0.65")


def _looser(by_name: dict[str, Any], _: Any) -> None:
    by_name["fairness"]["findings"][0].update(value="0.6", lower="0.55", upper="0.65", bound="0.5")


def _on_point(by_name: dict[str, Any], _: Any) -> None:
    by_name["performance"]["findings"][0].update(judged_on="point", lower="0.1")


def _unmeasured(by_name: dict[str, Any], _: Any) -> None:
    del by_name["fairness"]["findings"][0]["lower"]


def _not_applicable(by_name: dict[str, Any], _: Any) -> None:
    by_name["fairness"]["findings"][0] = {"id": "fairness.sex.selection_rate_ratio", "verdict": "NOT_APPLICABLE", "note": "not needed here",
                                          "comparator": ">=", "bound": "0.75"}


def _forgotten_bound(by_name: dict[str, Any], _: Any) -> None:
    del by_name["fairness"]["findings"][-1]


def _failed_gate(by_name: dict[str, Any], _: Any) -> None:
    by_name["fairness"]["findings"][0]["verdict"] = by_name["fairness"]["verdict"] = "FAIL"


def _whitewashed(by_name: dict[str, Any], _: Any) -> None:
    by_name["fairness"]["findings"][0]["verdict"] = "FAIL"


def _left_out(_: Any, all_: list[Any]) -> None:
    del all_[1]


def _empty_gate(by_name: dict[str, Any], _: Any) -> None:
    by_name["robustness"]["findings"] = []


def _other_version(by_name: dict[str, Any], _: Any) -> None:
    by_name["drift"]["version"] += 1


def skipped(f: Forger) -> None:
    f.entries.remove(f.stage("integration_testing"))


def out_of_order(f: Forger) -> None:
    one, two = (f.entries.index(f.stage(name)) for name in ("model_evaluation", "model_registration"))
    f.entries[one], f.entries[two] = f.entries[two], f.entries[one]


def other_features(f: Forger) -> None:
    f.stage("model_training")["predicate"]["inputs"]["features"] = "cd" * 32


def extra_input(f: Forger) -> None:
    f.stage("model_training")["predicate"]["inputs"]["dataset"] = f.stage("data_preparation")["predicate"]["output"]


def hidden_failure(f: Forger) -> None:
    """The same bytes failed before, and were then said to pass."""
    failed = f.copy(f.stage("model_evaluation"), at=f.entries.index(f.stage("model_evaluation")))
    failed["predicate"].update(outcome="failed", run="earlier")


def other_report(f: Forger) -> None:
    """The report that people see says something else than the record."""
    record = f.stage("model_evaluation")
    value = f.value(record["predicate"]["output"])
    value["gates"][1]["findings"][0]["value"] = "0.99"
    f.edit_output(record, gates=value["gates"])


def unapproved_definition(f: Forger) -> None:
    f.entries.remove(f.decisions("definition")[1])


def rejected_definition(f: Forger) -> None:
    no = f.copy(f.decisions("definition")[1], at=f.entries.index(f.stage("model_registration")))
    no["predicate"]["decision"] = "reject"


def easier_definition(f: Forger) -> None:
    """The approved definition's own parts are exchanged for looser ones, wherever they are named."""
    digest = f.entries[1]["predicate"]["parts"]
    parts = f.value(digest)
    parts["declaration"]["evaluation"]["fairness"]["bounds"][0]["at_least"] = "0.1"
    f.replaced_value(digest, parts)


def approval(**changed: Any) -> Attack:
    return lambda f: f.edit_output(f.stage("pre_deployment_approval"), **changed)


def expiring(f: Forger) -> str:
    """When the first of the release's decisions lapses: what an approval that lies about something else says."""
    return str(min(one["predicate"]["expires"] for one in f.decisions()))


def one_approver(f: Forger) -> None:
    value = f.value(f.stage("pre_deployment_approval")["predicate"]["output"])
    kept = next(one for one in f.decisions() if vb.sha256(canonical_json(one)) == value["decisions"][0])["predicate"]
    f.edit_output(f.stage("pre_deployment_approval"), decisions=value["decisions"][:1], approvers=value["approvers"][:1], expires=kept["expires"])


def same_person_twice(f: Forger) -> None:
    value = f.value(f.stage("pre_deployment_approval")["predicate"]["output"])
    f.edit_output(f.stage("pre_deployment_approval"), decisions=[value["decisions"][0]] * 2)


def no_approver(f: Forger) -> None:
    f.edit_output(f.stage("pre_deployment_approval"), decisions=[], approvers=[])


def counts_a_definition_decision(f: Forger) -> None:
    value = f.value(f.stage("pre_deployment_approval")["predicate"]["output"])
    other = vb.sha256(canonical_json(f.decisions("definition")[1]))
    f.edit_output(f.stage("pre_deployment_approval"), decisions=[value["decisions"][0], other])


def decision(index: int = 1, **changed: Any) -> Attack:
    return rewritten(lambda f: f.decisions()[index]["predicate"].update(changed))


def of(f: Forger, person: str) -> Any:
    return next(one for one in f.decisions() if one["predicate"]["person"] == person)


def somebody_elses_role(f: Forger) -> None:
    f.people = True
    of(f, OWNER)["predicate"]["role"] = "governance_lead"


def forged_by_colleague(f: Forger) -> None:
    """One person signs in the other's name."""
    f.people = True
    f.signed_by[id(of(f, GOVERNANCE))] = OWNER


def forged_by_machine(f: Forger) -> None:
    entry = f.decisions()[1]
    before = hashlib.sha256(canonical_json(entry)).hexdigest()
    entry["predicate"]["rationale"] = "Changed after it was signed, by somebody without the key."
    f.resigned(entry, before, "")


def launcher_approves(f: Forger) -> None:
    f.stage("model_training")["predicate"]["launcher"] = OWNER


def author_approves(f: Forger) -> None:
    f.stage("data_preparation")["predicate"]["code"]["authors"] = [f"launcher:{GOVERNANCE}"]


def expired(f: Forger) -> None:
    record = f.stage("pre_deployment_approval")["predicate"]
    record["finished"] = rfc3339(parse_rfc3339(record["finished"]) + timedelta(days=3))
    for entry in f.entries[f.entries.index(f.stage("pre_deployment_approval")) + 1:]:
        entry["predicate"]["at"] = record["finished"]


def long_validity(f: Forger) -> None:
    f.people = True
    for one in f.decisions():
        one["predicate"]["expires"] = rfc3339(parse_rfc3339(one["predicate"]["issued"]) + timedelta(days=300))
    f.edit_output(f.stage("pre_deployment_approval"), expires=expiring(f))


def future_dated(f: Forger) -> None:
    f.people = True
    one = f.decisions()[1]["predicate"]
    one["issued"], one["expires"] = "2098-01-01T00:00:00.000000Z", "2098-01-02T00:00:00.000000Z"
    f.edit_output(f.stage("pre_deployment_approval"), expires=expiring(f))


def rejected_by_other(f: Forger) -> None:
    no = f.copy(f.decisions()[0], at=f.entries.index(f.decisions()[1]))
    f.people = True
    no["predicate"].update(decision="reject", nonce="other")


def revoked_before(f: Forger) -> None:
    f.people = False
    entry = f.decisions()[0]
    revocation = f.copy(entry, at=f.entries.index(f.stage("pre_deployment_approval")))
    revocation["predicate"].update(decision="revoke", revokes=vb.sha256(canonical_json(entry)), nonce="other")


def put_off_since(f: Forger) -> None:
    later = f.copy(f.decisions()[0], at=f.entries.index(f.stage("pre_deployment_approval")))
    later["predicate"].update(decision="defer", due="2027-01-31", nonce="other")


def failed_when_asked_again(f: Forger) -> None:
    """The integration test is run again before people decide, with another report, and fails."""
    record = f.stage("integration_testing")
    again = f.copy(record, at=f.entries.index(record) + 1)
    again["predicate"].update(outcome="failed", run="asked-again", output="ab" * 32)


def revoked_before_deployment(f: Forger) -> None:
    entry = f.decisions()[0]
    revocation = f.copy(entry, at=f.entries.index(f.deployment("intent")))
    revocation["predicate"].update(decision="revoke", revokes=vb.sha256(canonical_json(entry)), nonce="other")


def replayed_for_another_model(f: Forger) -> None:
    """The staged model is exchanged after people signed; everything that names it follows, but their signatures."""
    decisions = {id(one): json.dumps(one) for one in f.decisions()}
    f.edit_output(f.stage("model_registration"), release="ef" * 32)
    for one in f.decisions():
        one.clear()
        one.update(json.loads(decisions[id(one)]))


def deployment(action: str, /, **changed: Any) -> Attack:
    return lambda f: f.deployment(action)["predicate"].update(changed)


def without_approval(f: Forger) -> None:
    f.entries.remove(f.stage("pre_deployment_approval"))


def another_model_deployed(f: Forger) -> None:
    for entry in f.entries:
        if f.kind(entry) == "deployment":
            entry["predicate"]["model"] = "ab" * 32
            entry["subject"][0]["digest"]["sha256"] = "ab" * 32


def subject_of_another_model(f: Forger) -> None:
    f.deployment("intent")["subject"][0]["digest"]["sha256"] = "ab" * 32


def another_environment(f: Forger) -> None:
    for entry in f.entries:
        if f.kind(entry) == "deployment":
            entry["predicate"]["environment"] = "elsewhere"


def no_canary(f: Forger) -> None:
    f.entries.remove(f.deployment("canary_started"))


def failed_canary(f: Forger) -> None:
    f.deployment("full_rollout")["predicate"]["evidence"]["judged"]["verdict"] = "FAIL"


def lying_canary(f: Forger) -> None:
    f.deployment("full_rollout")["predicate"]["evidence"]["judged"]["findings"] = [
        {"id": "canary.error_rate", "verdict": "PASS", "value": "0.5", "comparator": "<=", "bound": "0.01", "judged_on": "point"}]


def after_an_abort(f: Forger) -> None:
    stop = f.copy(f.deployment("shadow_started"), at=f.entries.index(f.deployment("canary_started")))
    stop["predicate"]["action"] = "aborted"


def rolled_back_to_nowhere(f: Forger) -> None:
    back = f.copy(f.deployment("intent"), at=f.entries.index(f.deployment("full_rollout")))
    back["predicate"]["action"] = "rolled_back"


def returned_to_a_revoked_version(f: Forger) -> None:
    revocation = f.copy(f.decisions()[0])
    revocation["predicate"].update(decision="revoke", revokes=vb.sha256(canonical_json(f.decisions()[0])), nonce="other")
    f.copy(f.deployment("full_rollout"))["predicate"].update(action="rolled_back", run="back")


def returned_to_a_withdrawn_version(f: Forger) -> None:
    f.copy(f.deployment("full_rollout"))["predicate"].update(action="withdrawn", run="stop")
    f.copy(f.deployment("full_rollout"))["predicate"].update(action="rolled_back", run="back")


def deployed_over_an_unreviewed_emergency(f: Forger) -> None:
    intent = f.deployment("intent")
    act = f.copy(intent, at=f.entries.index(intent))
    act["predicate"].update(action="withdrawn", approval=intent["predicate"]["approval"],
                            evidence={"review_due": rfc3339(parse_rfc3339(intent["predicate"]["at"]) - timedelta(days=1))})


def clock_set_back(f: Forger) -> None:
    earlier = f.stage("integration_testing")["predicate"]
    earlier["finished"] = rfc3339(parse_rfc3339(earlier["finished"]) + timedelta(minutes=10))


def own_people(f: Forger) -> None:
    """A trust policy of the insider's own, put on record but approved by nobody, and records made under it."""
    policy = f.copy(f.entries[0], at=2)
    policy["predicate"]["organisation"]["name"] = "Somebody Else"
    digest = vb.sha256(canonical_json(policy["predicate"]["organisation"]))
    policy["subject"][0]["digest"]["sha256"] = digest
    f.stage("model_training")["predicate"]["trust_policy"] = digest


def without_the_gates_key(f: Forger) -> None:
    f.only[id(f.stage("model_evaluation"))] = ("pipeline",)


def deployed_with_the_pipelines_key(f: Forger) -> None:
    f.only[id(f.deployment("intent"))] = ("pipeline",)


def rewritten_history(f: Forger) -> None:
    """An early record is dropped and the rest signed again; what people signed stays."""
    f.copy(f.stage("data_preparation"), at=4)["predicate"]["run"] = "another"


def claims_production(f: Forger) -> None:
    """A deployment record for a rollout that never came to its end."""
    made = f.copy(f.stage("pre_deployment_approval"))
    old = f.stage("pre_deployment_approval")["predicate"]
    staged = f.stage("model_registration")["predicate"]["output"]
    value = {"system": SYSTEM, "environment": "production", "approval": old["output"], "staged": staged,
             "model": f.deployment("intent")["predicate"]["model"], "outcome": "production"}
    content = canonical_json(value)
    digest = hashlib.sha256(content).hexdigest()
    f.files[f"artefacts/sha256/{digest}"] = content
    verdicts = [{"gate": name, "version": 1, "verdict": "PASS", "findings": [{"id": name, "verdict": "PASS"}]}
                for name in ("authority", "shadow", "canary", "full")]
    made["predicate"].update(stage="deployment", output=digest, inputs={"approval": old["output"], "staged_model": staged}, gates=verdicts)
    made["subject"] = [{"name": "deployment_record", "digest": {"sha256": digest}}]
    f.entries.remove(f.deployment("full_rollout"))


def verdict(*, judges: str = "gate", **changed: Any) -> Attack:
    """The deployment gate's verdict says something else, or another machine says it."""
    def attack(f: Forger) -> None:
        f.verdicts, f.judges = False, judges
        f.verdict_of(f.deployment("intent"), **changed)
    return attack


def no_verdict(f: Forger) -> None:
    f.verdicts = False
    del f.deployment("intent")["predicate"]["evidence"]["verification_summary"]


def compared_with_nothing(f: Forger) -> None:
    """A second evaluation, after a model was deployed, that says it is the first."""
    made = f.copy(f.stage("model_evaluation"))
    made["predicate"]["run"] = "second"
    made["predicate"]["finished"] = f.deployment("full_rollout")["predicate"]["at"]


def approved_before_the_tests(f: Forger) -> None:
    """People sign a report that is put on record after they signed it."""
    f.people = True
    decided = f.decisions()
    for one in decided:
        f.entries.remove(one)
    at = f.entries.index(f.stage("integration_testing"))
    f.entries[at:at] = decided


def different_digests(f: Forger) -> None:
    f.people = True
    next(one for one in of(f, GOVERNANCE)["subject"] if one["name"] == "evaluation-report")["digest"]["sha256"] = "ab" * 32


def both_another_evaluation(f: Forger) -> None:
    different_digests(f)
    next(one for one in of(f, OWNER)["subject"] if one["name"] == "evaluation-report")["digest"]["sha256"] = "ab" * 32


def bound_to_nothing(f: Forger) -> None:
    """An approval that names an environment and a plan, and no artefact."""
    f.people = True
    for one in f.decisions():
        one["subject"] = [each for each in one["subject"] if each["name"] == "rollout"]


def human_via_chat(f: Forger) -> None:
    """An approver who is nobody in particular; a colleague's key signs for them."""
    one = of(f, GOVERNANCE)
    one["predicate"]["person"], f.signed_by[id(one)] = "human_via_chat", OWNER
    value = f.value(f.stage("pre_deployment_approval")["predicate"]["output"])
    f.edit_output(f.stage("pre_deployment_approval"), approvers=[
        [name.replace(GOVERNANCE, "human_via_chat"), role] for name, role in value["approvers"]])
    f.people = True


def signed_by_the_pipeline(f: Forger) -> None:
    """Every criterion is met, and so the pipeline approves in a person's name."""
    entry = of(f, GOVERNANCE)
    before = hashlib.sha256(canonical_json(json.loads(f.text[id(entry)]))).hexdigest()
    entry["predicate"]["rationale"] = "All criteria are met: approved by the automated system."
    f.resigned(entry, before, "pipeline")


def failed_and_approved(f: Forger) -> None:
    """Fairness failed, the record says so, nobody excepted it, and the release goes on with a reason taken from a template."""
    f.people = True
    f.edit_gates(f.stage("model_evaluation"), _failed_gate)
    f.stage("model_evaluation")["predicate"]["outcome"] = "failed"


def relaxed_without_review(f: Forger) -> None:
    """A bound relaxed in the declaration, with a reason, put on record, and used before anybody looked."""
    digest = f.entries[1]["predicate"]["parts"]
    parts = f.value(digest)
    parts["declaration"]["evaluation"]["fairness"]["bounds"][0].update(at_least="0.6", because="relaxed for the bias of the data")
    f.people = True
    f.edit_gates(f.stage("model_evaluation"), lambda by_name, _: [
        one.update(bound="0.6") for one in by_name["fairness"]["findings"] if one["id"].endswith("selection_rate_ratio")])
    f.replaced_value(digest, parts)
    for one in f.decisions("definition"):
        f.entries.remove(one)


def another_definition_approved(f: Forger) -> None:
    """The approval's record names another definition than the one its decisions are bound to."""
    parts = f.value(f.entries[1]["predicate"]["parts"])
    parts["declaration"]["title"] = "Another title"
    content = canonical_json(parts)
    f.files[f"artefacts/sha256/{vb.sha256(content)}"] = content
    f.edit_output(f.stage("pre_deployment_approval"), definition=vb.sha256(content))


def retrained_since(f: Forger) -> None:
    """Another model is trained, evaluated and staged after people signed; their signatures stay over the one before."""
    decisions = {id(one): json.dumps(one) for one in f.decisions()}
    f.edit_output(f.stage("model_training"), release="cd" * 32)
    for one in f.decisions():
        one.clear()
        one.update(json.loads(decisions[id(one)]))


def of_policy(f: Forger, **keys: Any) -> None:
    """The first trust policy says something else, and everybody who signs sees that one."""
    f.people = True
    organisation = f.entries[0]["predicate"]["organisation"]
    before = vb.sha256(canonical_json(organisation))
    for person in organisation["people"]:
        person.update(keys.get(person["id"].replace("-", "_"), {}))
    for key in organisation["machine_keys"]:
        key.update(keys.get(key["role"], {}))
    after = vb.sha256(canonical_json(organisation))
    f.renamed(before, after)


def retired_machine_key(f: Forger) -> None:
    """The gate's key had been retired before the verdicts that it signs: they are backdated, or it was kept."""
    of_policy(f, gate={"valid_until": f.entries[1]["predicate"]["at"]})


def retired_persons_key(f: Forger) -> None:
    line = next(each["allowed_signers"] for each in f.entries[0]["predicate"]["organisation"]["people"] if each["id"] == GOVERNANCE)
    of_policy(f, governance_1={"allowed_signers": f'valid-before="20260101Z" {line}'})


def shared_key(f: Forger) -> None:
    """Two people of the trust policy hold one key, and one of them signs for both."""
    line = next(each["allowed_signers"] for each in f.entries[0]["predicate"]["organisation"]["people"] if each["id"] == OWNER)
    of_policy(f, governance_1={"allowed_signers": line})
    for one in (*f.decisions(), *f.decisions("definition")):
        if one["predicate"]["person"] == GOVERNANCE:
            f.signed_by[id(one)] = OWNER


def stolen_after_it_was_taken_out(f: Forger) -> None:
    """People had taken a stolen key out of the trust policy; it signs a release after that."""
    f.people = True
    at = f.entries.index(f.decisions()[0])
    policy = f.copy(f.entries[0], at=at)
    before = policy["subject"][0]["digest"]["sha256"]
    person = next(each for each in policy["predicate"]["organisation"]["people"] if each["id"] == GOVERNANCE)
    person["allowed_signers"] = f.new_key("replaced")
    after = vb.sha256(canonical_json(policy["predicate"]["organisation"]))
    policy["subject"][0]["digest"]["sha256"] = after
    f.approved.append(policy["predicate"]["organisation"])
    policy["predicate"].update(previous=before, at=f.stage("integration_testing")["predicate"]["finished"])
    for one in f.decisions("definition"):
        vouched = f.copy(one, at=f.entries.index(f.decisions()[0]))
        vouched["subject"] = json.loads(json.dumps(policy["subject"]))
        vouched["predicate"]["scope"]["purpose"] = "trust-policy"
    f.renamed(before, after, since=f.entries.index(f.decisions()[0]))
    f.edit_output(f.stage("pre_deployment_approval"), trust_policy=after)


ATTACKS: list[tuple[str, Attack, str, tuple[str, ...]]] = [
    ("numbers that miss the bound, said to pass", gates("model_evaluation", _worse), "is said to pass, but lower 0.55 is not >=",
     ("_check_finding: is said to pass, but",)),
    ("a bound loosened in the record only", gates("model_evaluation", _looser),
     "the declared bound on fairness.sex.selection_rate_ratio was not judged",
     ("_check_bounds: the declared bound on",)),
    ("judged on the point instead of the interval", gates("model_evaluation", _on_point), "judged on point, not on lower as declared",
     ("_check_bounds: was judged on",)),
    ("a pass without a measurement (C.6, 7)", gates("model_evaluation", _unmeasured), "passed without the number that it is judged on",
     ("_check_finding: passed without the number that it is judged on",)),
    ("fairness said not to apply", gates("model_evaluation", _not_applicable), "said not to apply, though it does",
     ("_check_bounds: is said not to apply, though it does",)),
    ("a declared bound not judged", gates("model_evaluation", _forgotten_bound), "was not judged",
     ("_check_bounds: the declared bound on",)),
    ("a failed gate in a passed record", gates("model_evaluation", _failed_gate), "or did not pass",
     ("_check_gate: does not follow from its findings (",)),
    ("a verdict that does not follow from its findings", gates("model_evaluation", _whitewashed), "does not follow from its findings",
     ("_check_gate: does not follow from its findings (",)),
    ("a gate left out", gates("model_evaluation", _left_out), "its gates are not exactly those of its definition",
     ("check_stage: its gates are not exactly those of its definition:", "_check_bounds: the declared bound on")),
    ("a gate without findings", gates("model_evaluation", _empty_gate), "does not follow from its findings",
     ("_check_gate: does not follow from its findings (", "_check_bounds: the declared bound on")),
    ("a gate of another version", gates("model_evaluation", _other_version), "its gates are not exactly those of its definition",
     ("check_stage: its gates are not exactly those of its definition:",)),
    ("a stage skipped", rewritten(skipped), "no earlier record says that integration_report",
     ("check_stage", "check_approval")),
    ("stages out of order", rewritten(out_of_order), "no earlier record says that evaluation_report",
     ("check_stage", "check_approval")),
    ("trained on other features", rewritten(other_features), "no earlier record says that features",
     ("check_stage", "check_approval")),
    ("an input that the river does not know", rewritten(extra_input), "was made from",
     ("chain: was made from",)),
    ("a failure of the same bytes, hidden", rewritten(hidden_failure), "a failure stays one",
     ("check_stage: was made from it nonetheless (", "passing: failed, and a failure stays one (")),
    ("a report that says something else than its record", rewritten(other_report),
     "the verdicts in its report are not those in its record",
     ("check_stage: the verdicts in its report are not those in its record",)),
    ("a definition that one of two approved", rewritten(unapproved_definition), "under a definition that people had not approved",
     ("check_stage: it acted under a definition that people had not approved then",
      "check_deployment: its approval was given under another trust policy or definition than those in force")),
    ("a definition rejected before it was acted under", rewritten(rejected_definition), "under a definition that people had not approved",
     ("check_stage: it acted under a definition that people had not approved then",
      "check_deployment: its approval was given under another trust policy or definition than those in force")),
    ("the approved definition exchanged for an easier one", easier_definition, "ssh|does not fit|saw another ledger|signature",
     ("check_entry: saw another ledger of", "_check_bounds: the declared bound on")),
    ("one approver missing", one_approver, "not enough people of the declared roles",
     ("check_approval: not enough people of the declared roles approved",)),
    ("nobody approved", no_approver, "not enough people of the declared roles|nobody approved",
     ("check_approval: not enough people of the declared roles approved",
      "check_approval: nobody approved, or it names other approvers or another expiry than the decisions")),
    ("one person in two places", same_person_twice, "fills a second place",
     ("check_approval: fills a second place",
      "check_approval: not enough people of the declared roles approved",
      "check_approval: nobody approved, or it names other approvers or another expiry than the decisions")),
    ("a decision about a definition counted for a release", counts_a_definition_decision, "is no approval of a release",
     ("check_approval",)),
    ("a role that is not theirs", somebody_elses_role, "which is not their role",
     ("_signed_by_person: , which is not their role",
      "check_approval: not enough people of the declared roles approved",
      "check_approval: nobody approved, or it names other approvers or another expiry than the decisions")),
    ("signed in a colleague's name", forged_by_colleague, "by another key than the one this person has",
     ("ssh_verify: it is by another key than the one this person has",)),
    ("a decision edited after it was signed", forged_by_machine, "the signature does not fit",
     ("check_ssh_signature: the signature does not fit",)),
    ("the launcher approves", rewritten(launcher_approves), "they launched a run of this release",
     ("check_approval: does not count: they launched a run of this release",)),
    ("the author approves", rewritten(author_approves), "they wrote what is approved",
     ("check_approval: does not count: they wrote what is approved",)),
    ("an approval used after its end", expired, "had expired",
     ("check_approval: had expired, is dated into the future, or claims a longer validity than declared",
      "check_deployment: its approval had expired")),
    ("a longer validity than declared", long_validity, "claims a longer validity than declared",
     ("check_approval: had expired, is dated into the future, or claims a longer validity than declared",)),
    ("an approval dated into the future", future_dated, "dated into the future",
     ("check_approval: had expired, is dated into the future, or claims a longer validity than declared",)),
    ("approved although somebody rejected", rejected_by_other, "had rejected this model and report",
     ("check_approval: had rejected this model and report (entry",)),
    ("a revoked approval counted", revoked_before, "had been revoked",
     ("check_approval: had been revoked",)),
    ("approvals replayed for another model", replayed_for_another_model, "is bound to another",
     ("check_entry: saw another ledger of", "check_approval: is bound to another")),
    ("an approval for another environment", approval(environment="elsewhere"), "KeyError|another environment",
     ("check_approval", "check_deployment: its approval is for another environment or model")),
    ("another rollout plan", approval(rollout="ab" * 32), "another environment, model or rollout plan",
     ("check_approval: it is for another environment, model or rollout plan than was declared and staged",)),
    ("approvers that nobody signed for", approval(approvers=[["p-1",
     "technical_owner"], ["p-2", "governance_lead"]]), "it names other approvers",
     ("check_approval: nobody approved, or it names other approvers or another expiry than the decisions",)),
    ("a later end than the decisions give", approval(expires="2090-01-01T00:00:00.000000Z"), "another expiry",
     ("check_approval: nobody approved, or it names other approvers or another expiry than the decisions",)),
    ("an approval decision that is a deferral", decision(decision="defer"), "is no approval of a release",
     ("check_approval: is no approval of a release for",)),
    ("an approval counted that was put off since", put_off_since, "had been put off since",
     ("check_approval: had been put off since",)),
    ("a test that failed when it was asked again", rewritten(failed_when_asked_again),
     "was asked again about the same inputs, and failed",
     ("passing: passed, but was asked again about the same inputs, and failed (entry",)),
    ("deployed without the gate's verdict", no_verdict, "names no verdict of the deployment gate",
     ("check_verdict",)),
    ("the gate's verdict for another environment", verdict(resourceUri=f"urn:compliance-assets:system:{SYSTEM}:environment:development"),
     "verdict is for another model, system, environment", ("check_verdict: the gate's verdict is for another model, system, environment, definition or approval",)),
    ("the gate's verdict on another model", verdict(subject=[{"name": "model", "digest": {"sha256": "ab" * 32}}]),
     "verdict is for another model", ("check_verdict: the gate's verdict is for another model, system, environment, definition or approval",)),
    ("a verdict that did not pass", verdict(verificationResult="FAILED"), "did not pass",
     ("check_verdict: the gate's verdict is for another model, system, environment, definition or approval",)),
    ("a verdict after the deployment", verdict(timeVerified="2099-01-01T00:00:00.000000Z"), "younger|not signed by the gate's key",
     ("check_verdict: the gate's verdict is for another model, system, environment, definition or approval",)),
    ("a verdict by the deployer", verdict(judges="deployer"), "verdict on it is not signed by the gate's key",
     ("check_verdict: the verdict on it is not signed by the gate's key of the trust policy in force",)),
    ("deployed without approval", without_approval, "nobody approved it",
     ("check_deployment",)),
    ("another model deployed under it", another_model_deployed, "for another environment or model",
     ("check_deployment: its approval is for another environment or model",)),
    ("deployed under another name than it says", subject_of_another_model, "about another model than it names",
     ("check_deployment: it is about another model than it names",)),
    ("deployed elsewhere", another_environment, "for another environment or model",
     ("check_deployment: its approval is for another environment or model",)),
    ("the canary skipped", no_canary, "the step before it was skipped",
     ("check_deployment: the step before it was skipped",)),
    ("rolled out after a failed canary", failed_canary, "did not pass",
     ("check_deployment: the step before it was not judged, or did not pass",)),
    ("a canary's numbers that miss its bound", lying_canary, "is said to pass, but value 0.5",
     ("_check_finding: is said to pass, but",)),
    ("a wider canary than approved", deployment("canary_started", share="0.9"), "the approved plan has canary",
     ("check_deployment: the approved plan has",)),
    ("full instead of canary", deployment("canary_started", action="full_rollout", share="1"), "the approved plan has canary",
     ("check_deployment: the approved plan has",)),
    ("rolled out after an abort", after_an_abort, "its rollout had ended",
     ("check_deployment: its rollout had ended, and a new approval is needed",)),
    ("deployed after a revocation", revoked_before_deployment, "had revoked or rejected it",
     ("_require_standing: had revoked or rejected it (entry",)),
    ("returned to what never was in production", rolled_back_to_nowhere, "was never in production here",
     ("check_deployment: the version to return to was never in production here",)),
    ("returned to a version that was revoked", returned_to_a_revoked_version, "had revoked or rejected it",
     ("_require_standing: had revoked or rejected it (entry",)),
    ("returned to a version that was withdrawn", returned_to_a_withdrawn_version, "was withdrawn, aborted or taken back",
     ("check_deployment: the version to return to was withdrawn, aborted or taken back itself",)),
    ("deployed over an emergency that nobody reviewed", deployed_over_an_unreviewed_emergency, "had not been reviewed in time|had ended",
     ("check_deployment: its rollout had ended, and a new approval is needed", "_require_reviews: had not been reviewed in time")),
    ("the clock set back", rewritten(clock_set_back), "the clock was set back",
     ("check_entry: , before an earlier entry: the clock was set back",)),
    ("own people, approved by nobody", own_people, "under another trust policy",
     ("check_entry: it was made under another trust policy than the one in force there", "check_entry: saw another ledger of")),
    ("a verdict without the gate's key", without_the_gates_key, "not signed by the gate key",
     ("_signed_by_machines: key of the trust policy in force", "check_entry: saw another ledger of")),
    ("a deployment with the pipeline's key", deployed_with_the_pipelines_key, "not signed by the deployer key",
     ("_signed_by_machines: key of the trust policy in force",)),
    ("history rewritten around people's signatures", rewritten_history, "saw another ledger",
     ("check_entry: saw another ledger of",)),
    ("production claimed, never reached", claims_production, "no full rollout of it is in the ledger",
     ("check_deployed: it says that a model is in production, and no full rollout of it is in the ledger before it",)),
    ("compared with nothing, though something was deployed", compared_with_nothing, "compared with nothing",
     ("check_stage: it was compared with nothing, though entry",)),
    ("approved before the tests were on record", approved_before_the_tests, "was not on record yet",
     ("check_approval: was not on record yet",)),
    ("two approvers, two different reports", different_digests, "is bound to another evaluation-report", ("check_approval: is bound to another",)),
    ("both approved another evaluation", both_another_evaluation, "is bound to another evaluation-report", ("check_approval: is bound to another",)),
    ("an approval bound to no artefact (C.6, 6)", bound_to_nothing, "is bound to another staged-model",
     ("check_approval: is bound to another",)),
    ("a person whom nobody declared, such as human_via_chat (C.6, 3)", human_via_chat, "knows nobody called 'human_via_chat'",
     ("_signed_by_person", "check_approval")),
    ("the pipeline approves by itself (C.6, 1)", signed_by_the_pipeline, "governance-1 did not sign it", ("_signed_by_person",)),
    ("failed criteria, approved without an exception (C.6, 4)", failed_and_approved, "a gate failed, and entry",
     ("check_stage: was made from it nonetheless (", "passing: failed, and a failure stays one (")),
    ("a bound relaxed with a comment and no review (C.6, 5)", relaxed_without_review, "under a definition that people had not approved",
     ("check_stage: it acted under a definition that people had not approved then",
      "check_deployment: its approval was given under another trust policy or definition than those in force")),
    ("replayed for another definition", another_definition_approved, "it names another trust policy or definition",
     ("check_approval: it names another trust policy or definition", "check_deployment: its approval was given under another trust policy")),
    ("replayed for a model that was trained again", retrained_since, "is bound to another",
     ("check_approval: is bound to another", "check_entry: saw another ledger of")),
    ("a machine's key after its last day, or a verdict backdated to it", retired_machine_key, "not signed by the gate key",
     ("_signed_by_machines: key of the trust policy in force", "check_verdict: the verdict on it is not signed by the gate's key")),
    ("a person's key after its last day", retired_persons_key, "the key does not count at that moment",
     ("ssh_verify: the key does not count at that moment",)),
    ("two people who share one key", shared_key, "share a key", ("check_policy: share a key",)),
    ("a stolen key that had been taken out of the trust policy", stolen_after_it_was_taken_out, "by another key than the one this person has",
     ("ssh_verify: it is by another key than the one this person has",)),
]


QUICK = {name: functools.lru_cache(None)(getattr(vb, name)) for name in ("ed25519", "ssh_verify")}
"""Functions of their arguments alone, asked the same about one forgery several times."""


def taken_out(patched: pytest.MonkeyPatch, checks: Sequence[str]) -> None:
    """The verifier without these checks: `function: words that it refuses with`, or a function, all of it."""
    by_function: dict[str, list[str]] = {}
    for check in checks:
        function, _, words = check.partition(": ")
        by_function.setdefault(function, []).append(words)
    for function, said_with in by_function.items():
        places: list[Any] = [place for place in (vb.Bundle, vb, verify_signatures) if hasattr(place, function)]
        made = without(inspect.unwrap(getattr(places[0], function)), *said_with) if said_with != [""] else lambda *_, **__: None
        for place in places:
            patched.setattr(place, function, made)


@pytest.mark.parametrize(("attack", "words", "checks"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_an_insider_with_every_machine_key_is_refused_and_succeeds_without_the_check(
        world: Path, tmp_path: Path, attack: Attack, words: str, checks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    forger = Forger(world / "bundle", world / ".compliance" / "keys")
    attack(forger)
    folder, head, policy = forger.write(tmp_path / "forged")
    for name, quick in QUICK.items():
        monkeypatch.setattr(vb, name, quick)
    # The insider also tells the auditor a head and a policy that fit: so only what was recorded can refuse it.
    problems = said(folder, head, policy)
    assert any(word in problems for word in words.split("|")), problems
    with monkeypatch.context() as patched:
        taken_out(patched, checks)
        assert said(folder, head, policy) == ""
    for one in checks if len(checks) > 1 else ():
        with monkeypatch.context() as patched:
            taken_out(patched, [other for other in checks if other != one])
            assert said(folder, head, policy), f"{one} alone holds it off"


@pytest.mark.parametrize("edit", [lambda f: None, rewritten(lambda f: None),
                                  rewritten(lambda f: f.stage("model_training")["predicate"].update(run="another name"))])
def test_a_forger_who_lies_about_nothing_is_believed(world: Path, tmp_path: Path, edit: Attack) -> None:
    forger = Forger(world / "bundle", world / ".compliance" / "keys")
    edit(forger)
    folder, head, policy = forger.write(tmp_path / "forged")
    assert said(folder, head, policy) == ""


HELD: list[tuple[str, str, tuple[str, ...]]] = [
    ("the tail cut off", "the tail was cut off", ("check_held",)),
    ("every entry rewritten and signed again, people's too (a split view)", "the ledger was rewritten", ("check_held: the ledger was rewritten",)),
    ("another organisation's ledger", "does not begin with the trust policy whose digest you hold",
     ("check_held: does not begin with the trust policy whose digest you hold",)),
    ("a revocation hidden from the auditor", "the tail was cut off", ("check_held",)),
]
"""What only a head or a policy that the auditor holds can show; each with what it is refused with, and the check that does."""


@pytest.mark.parametrize(("attack", "words", "checks"), HELD, ids=[row[0] for row in HELD])
def test_what_the_auditor_holds_shows_what_the_bundle_cannot(world: Path, tmp_path: Path, attack: str, words: str, checks: tuple[str, ...],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    held, policy = head_of(world / "bundle"), policy_of(world / "bundle")
    forger = Forger(world / "bundle", world / ".compliance" / "keys")
    if attack.startswith("a revocation"):
        root = copied(world, tmp_path / "w")
        river = open_river(root)
        statement = next(r for r in river.archive.entries() if r.statement.kind == "decision" and r.body.scope.purpose == "release"
                         and r.body.person == OWNER)
        revoke_decision(river, SYSTEM, statement.digest, signer(river, OWNER), "The report I read was not the one I was sent.")
        from compliance_assets.evidence import inbox

        inbox.admit(river.archive)
        later = export(river.archive, SYSTEM, tmp_path / "honest")
        held = f"{later.size}:{later.root}"
        assert said(tmp_path / "honest", held) == ""
    elif attack.startswith("the tail"):
        del forger.entries[-1]
    else:
        first = forger.entries[0]["predicate"]
        first["at"] = rfc3339(parse_rfc3339(first["at"]) + timedelta(microseconds=1))
        if attack.startswith("another"):
            first["organisation"]["name"] = "Somebody Else"
            forger.renamed(policy, vb.sha256(canonical_json(first["organisation"])))
        forger.people = True
    folder, head, own_policy = forger.write(tmp_path / "forged")
    holds = (None, policy) if attack.startswith("another") else (held, None)
    assert words in said(folder, *holds)
    assert said(folder, head, own_policy) == "", "with what the insider would rather have them hold, it is believed"
    taken_out(monkeypatch, checks)
    assert said(folder, *holds) == ""


def test_a_failed_stage_stays_in_the_bundle_and_is_no_problem(world: Path, tmp_path: Path) -> None:
    forger = Forger(world / "bundle", world / ".compliance" / "keys")
    failed = forger.copy(forger.stage("data_preparation"))
    failed["predicate"].update(outcome="failed", run="failed-run", output="ab" * 32, finished=forger.deployment("full_rollout")["predicate"]["at"])
    folder, head, policy = forger.write(tmp_path / "forged")
    assert said(folder, head, policy) == ""


def test_approvals_of_an_unused_definition_do_not_hide_the_one_in_force(world: Path, tmp_path: Path) -> None:
    root = copied(world, tmp_path / "w")
    path = root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("decision_threshold: 0.5", "decision_threshold: 0.55"))
    river = open_river(root)
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.proposing import propose_definition

    propose_definition(river, SYSTEM, OWNER)
    for person in (OWNER, GOVERNANCE):
        decide_definition(river, SYSTEM, signer(river, person), "approve", REASON, opened_seconds=1)
    inbox.admit(river.archive)
    found = export(river.archive, SYSTEM, tmp_path / "later")
    assert said(tmp_path / "later", f"{found.size}:{found.root}") == ""


# ----------------------------------------------------------------------------------- the same answers as other implementations


@settings(max_examples=60, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), place=st.integers(0, 63), bit=st.integers(0, 7),
       what=st.sampled_from(["nothing", "signature", "message", "key", "s plus order"]))
def test_ed25519_agrees_with_cryptography(seed: bytes, message: bytes, place: int, bit: int, what: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = bytearray(private.public_key().public_bytes_raw()), bytearray(private.sign(message))
    if what == "signature":
        signature[place] ^= 1 << bit
    elif what == "message":
        message += b"!"
    elif what == "key":
        public[place % 32] ^= 1 << bit
    elif what == "s plus order":
        signature[32:] = (int.from_bytes(signature[32:], "little") + verify_signatures.ORDER).to_bytes(32, "little")
    try:
        Ed25519PublicKey.from_public_bytes(bytes(public)).verify(bytes(signature), message)
        expected = True
    except (InvalidSignature, ValueError):
        expected = False
    assert vb.ed25519(bytes(public), message, bytes(signature)) is expected
    assert expected == (what == "nothing")


def test_ed25519_vectors_of_rfc_8032() -> None:
    for public, message, signature in (
        ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
        ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ):
        assert vb.ed25519(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_tree_agrees_with_ours_at_every_size(leaves: list[bytes]) -> None:
    tree, frontier = vb.Tree(), Frontier()
    for leaf in leaves:
        tree.append(leaf)
        frontier.append(leaf_hash(leaf))
        assert tree.roots[-1] == frontier.root


JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | st.text(max_size=6),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8)


@settings(max_examples=200, deadline=None)
@given(value=JSON, cut=st.integers(0, 40), letter=st.binary(min_size=1, max_size=1))
def test_canonical_json_agrees_with_ours(value: Any, cut: int, letter: bytes) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    for candidate in (text, text[:cut] + letter + text[cut + 1:], json.dumps(value).encode()):
        try:
            ours: object = parse_canonical(candidate)
        except UntrustedEvidence:
            ours = "refused"
        try:
            theirs: object = vb.read_canonical(candidate)
        except vb.Refused:
            theirs = "refused"
        assert ours == theirs, candidate


def test_persons_signatures_agree_with_ours_and_with_ssh_keygen(tmp_path: Path) -> None:
    line = " ".join(generate_ssh_key(tmp_path / "key", "x").split()[:2])
    now = parse_rfc3339("2026-11-25T07:05:00Z")
    good = ssh_sign(b"statement", tmp_path / "key", APPROVAL_NAMESPACE)
    raw = base64.b64decode("".join(good.splitlines()[1:-1]))
    draw, agreed = random.Random(3), 0
    keygen = shutil.which("ssh-keygen")
    (tmp_path / "signers").write_text(f"p {line}\n")
    for number in range(120):
        blob = bytearray(raw)
        if number:
            blob[draw.randrange(len(blob))] ^= 1 << draw.randrange(8)
        body = base64.b64encode(bytes(blob)).decode()
        armored = "\n".join(["-----BEGIN SSH SIGNATURE-----", *(body[i:i + 70] for i in range(0, len(body), 70)), "-----END SSH SIGNATURE-----", ""])
        answers = []
        for check in (lambda a=armored: ssh_verify(b"statement", a, f"p {line}\n", "p", APPROVAL_NAMESPACE, now),
                      lambda a=armored: vb.ssh_verify(b"statement", a.encode(), line, now, "p")):
            try:
                check()
                answers.append(True)
            except (UntrustedEvidence, vb.Refused):
                answers.append(False)
        if keygen and number < 40:
            (tmp_path / "sig").write_text(armored)
            done = subprocess.run((keygen, "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", "p", "-n", APPROVAL_NAMESPACE, "-s",
                                   str(tmp_path / "sig")), input=b"statement", capture_output=True)
            answers.append(done.returncode == 0)
        assert len(set(answers)) == 1, (number, answers)
        agreed += 1
    assert agreed == 120


@pytest.mark.parametrize("kind", [("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "3072")])
def test_a_decision_signed_with_any_kind_of_key_is_verified_by_the_exported_program_alone(
        bundle: Path, tmp_path: Path, kind: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        pytest.skip("ssh-keygen is not installed here")
    subprocess.run((keygen, "-q", "-t", kind[0], "-b", kind[1], "-N", "", "-f", str(tmp_path / "key")), check=True)
    line = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    (tmp_path / "verify.py").write_bytes((bundle / "verify.py").read_bytes())
    spec = importlib.util.spec_from_file_location("exported_verifier", tmp_path / "verify.py")
    assert spec is not None and spec.loader is not None
    exported = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, exported)
    spec.loader.exec_module(exported)
    written = (path.read_bytes() for path in sorted((bundle / "entries").iterdir(), key=lambda path: int(path.stem)))
    decision = next(entry for entry in map(exported.Entry, range(10**6), written) if entry.kind == "decision")
    policy = {"people": [{"id": decision.body["person"], "roles": [decision.body["role"]], "allowed_signers": line}]}
    signed = ssh_sign(decision.signed, tmp_path / "key", APPROVAL_NAMESPACE).encode()
    decision.signatures = [(decision.body["person"], "sshsig", signed)]
    exported._signed_by_person(decision, policy)
    decision.signatures = [(decision.body["person"], "sshsig", signed.replace(b"A", b"B", 1))]
    with pytest.raises(exported.Refused):
        exported._signed_by_person(decision, policy)


def test_openssl_verifies_a_machines_attestation_and_ssh_keygen_a_persons_decision(bundle: Path, tmp_path: Path) -> None:
    openssl, keygen = shutil.which("openssl"), shutil.which("ssh-keygen")
    if openssl is None or keygen is None:
        pytest.skip("openssl or ssh-keygen is not installed here")
    line = json.loads((bundle / "attestations.intoto.jsonl").read_text().splitlines()[-1])
    payload = base64.b64decode(line["payload"])
    kind = line["payloadType"].encode()
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    policy = json.loads((bundle / "trust/policy-0.json").read_bytes())
    keys = {vb.sha256(vb._machine_key(key)): vb._machine_key(key) for key in policy["machine_keys"]}
    der = bytes.fromhex("302a300506032b6570032100") + keys[line["signatures"][0]["keyid"]]
    (tmp_path / "key.der").write_bytes(der)
    (tmp_path / "pae").write_bytes(pae)
    (tmp_path / "sig").write_bytes(base64.b64decode(line["signatures"][0]["sig"]))
    done = subprocess.run((openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "key.der"), "-keyform", "DER", "-rawin", "-in",
                           str(tmp_path / "pae"), "-sigfile", str(tmp_path / "sig")), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    decision = next(e for e in (vb.Entry(i, (bundle / f"entries/{i}.json").read_bytes()) for i in range(13)) if e.kind == "decision")
    (tmp_path / "decision.sig").write_bytes(decision.signatures[0][2])
    done = subprocess.run((keygen, "-Y", "verify", "-f", str(bundle / "trust/allowed_signers"), "-I", decision.body["person"], "-n",
                           APPROVAL_NAMESPACE, "-s", str(tmp_path / "decision.sig")), input=decision.signed.decode(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_securesystemslib_verifies_our_envelopes_unchanged(bundle: Path) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed here")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    policy = json.loads((bundle / "trust/policy-0.json").read_bytes())
    keys = {vb.sha256(vb._machine_key(key)): vb._machine_key(key) for key in policy["machine_keys"]}
    known = {keyid: SSlibKey(keyid, "ed25519", "ed25519", {"public": raw.hex()}) for keyid, raw in keys.items()}
    roles = {vb.sha256(vb._machine_key(key)): key["role"] for key in policy["machine_keys"]}
    seen = {}
    for name in ("attestations.intoto.jsonl", "verdicts.intoto.jsonl"):
        for line in (bundle / name).read_text().splitlines():
            envelope = dsse.Envelope.from_dict(json.loads(line))
            statement = json.loads(envelope.payload)
            assert statement["_type"] == "https://in-toto.io/Statement/v1" and envelope.payload_type == "application/vnd.in-toto+json"
            signers = [known[keyid] for keyid in envelope.signatures]
            assert envelope.verify(signers, len(signers)).keys() == envelope.signatures.keys()
            seen[statement["predicateType"]] = {roles[keyid] for keyid in envelope.signatures}
            changed = json.loads(line)
            changed["payload"] = base64.b64encode(envelope.payload.replace(b"sha256", b"sha257", 1)).decode()
            with pytest.raises(VerificationError):
                dsse.Envelope.from_dict(changed).verify(signers, len(signers))
    assert seen["https://slsa.dev/verification_summary/v1"] == {"gate"} and seen["urn:compliance-assets:stage-execution:v1"] == {"pipeline", "gate"}


def test_the_gates_verdict_names_system_and_environment_as_slsa_asks(bundle: Path) -> None:
    (line,) = (bundle / "verdicts.intoto.jsonl").read_text().splitlines()
    statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
    body = statement["predicate"]
    # SLSA v1.1, verification summary: the fields that it requires, and the result in its words.
    assert {"verifier", "timeVerified", "resourceUri", "policy", "verificationResult", "verifiedLevels"} <= body.keys()
    assert body["resourceUri"] == f"urn:compliance-assets:system:{SYSTEM}:environment:production"
    assert body["verificationResult"] == "PASSED" and body["verifier"]["id"] and not [x for x in body["verifiedLevels"] if x.startswith("SLSA_")]
    assert [one["name"] for one in statement["subject"]] == ["model"] and set(body["policy"]["digest"]) == {"sha256"}


def test_the_bill_of_materials_keeps_the_strict_cyclonedx_schema(bundle: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed here")
    from cyclonedx.schema import SchemaVersion

    text = (bundle / "sbom.cdx.json").read_text()
    strict = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert strict.validate_str(text) is None
    assert strict.validate_str(text.replace('"hashes"', '"hashs"')) is not None
    body = json.loads(text)
    assert body["components"][0]["type"] == "machine-learning-model"
    assert {"fairness.sex.selection_rate_ratio"} <= {m["type"] for m in
                                                      body["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}


def test_it_imports_nothing_but_the_standard_library() -> None:
    import ast

    tree = ast.parse(verifier_program())
    names = {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= set(sys.stdlib_module_names)


def test_the_archive_and_the_auditor_say_the_same_of_the_definition_in_force(world: Path, bundle: Path) -> None:
    found = verified(bundle, head_of(bundle))
    archive = open_river(world, writer=False).archive
    for before in range(archive.ledger.size + 1):
        ours = archive.definition_in_force(SYSTEM, before=before)
        assert found.in_force(before) == (ours if ours is None else str(Digest(ours)))
