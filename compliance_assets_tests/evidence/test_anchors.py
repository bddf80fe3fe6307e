"""What was anchored outside this host cannot be taken back inside it, and production waits for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compliance_assets.errors import LedgerCorrupt, OutOfTurn, UntrustedEvidence, Waiting
from compliance_assets.evidence import anchoring, anchors
from compliance_assets.evidence.archive import Archive, origin_of
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.witness import Witness, server
from compliance_assets.governance.export import export
from compliance_assets.governance.founding import demonstration_organisation, found
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.organisation import Anchors, DeclaredWitness, GitTags, Organisation
from compliance_assets.trust.sshsig import generate_ssh_key
from compliance_assets_tests.project import PEOPLE, SYSTEM, approve_definition, decide, free_ports, run_to, step
from compliance_assets_tests.small_lender import write_small_lender

NAME = "witness.example/1"
ADDRESS = "http://127.0.0.1:1"
Founding = Callable[[str], River]


def founded(root: Path, demanded: str, address: str = ADDRESS) -> River:
    """A home whose production demands a witness, or signed tags in a repository outside of it."""
    project = root / "world"
    write_small_lender(project)
    home = Home.create(project / ".compliance")
    organisation = demonstration_organisation(home, "Small Lender", PEOPLE, "engineer-1", "engineer", free_ports(), datetime.now(UTC))
    if demanded == "witness":
        witness = Witness.at(root / "witness", NAME, {origin_of(organisation): organisation.log_key()})
        declared = Anchors(demanded=("witness",), fresh_for="24h",
                           witnesses=(DeclaredWitness(name=NAME, key=witness.key.public.text, address=address),))
    else:
        subprocess.run(("git", "init", "-q", "--bare", str(root / "heads.git")), check=True)
        signer = " ".join(generate_ssh_key(home.keys / "anchor", "anchor").split()[:2])
        declared = Anchors(demanded=("git",), fresh_for="24h", git=GitTags(repository="../heads.git", signer=signer))
    return found(project, home, organisation.model_copy(update={"anchors": declared}), datetime.now(UTC))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[River]:
    """A founded project whose witness answers."""
    probe = server(Witness.at(tmp_path / "unused", NAME, {}), "127.0.0.1", 0)
    port = probe.server_address[1]
    probe.server_close()
    river = founded(tmp_path, "witness", f"http://127.0.0.1:{port}")
    witness = Witness.at(tmp_path / "witness", NAME, {river.archive.ledger.origin: river.organisation.log_key()})
    listening = server(witness, "127.0.0.1", int(port))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield river
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def tagged(tmp_path: Path) -> River:
    return founded(tmp_path, "git")


def grown(archive: Archive, organisation: Organisation, entries: int = 3) -> None:
    from compliance_assets.evidence.archive import propose_trust_policy

    for number in range(entries):
        propose_trust_policy(archive, organisation, "", datetime.now(UTC) + timedelta(milliseconds=number))


def test_a_witness_cosigns_as_the_ledger_grows_and_verification_counts_it(served: River) -> None:
    archive, organisation = served.archive, served.organisation
    made, problems = anchoring.make(archive, organisation, served.root)
    grown(archive, organisation)
    again, more = anchoring.make(archive, organisation, served.root)
    assert [one.head.size for one in (*made, *again)] == [1, 4] and not problems and not more
    found = verify(open_river(served.root, writer=False).archive)
    assert found and (found.anchors, found.anchored) == (2, 4), found.problems


def test_production_is_refused_without_a_fresh_anchor_and_gets_one_where_the_witness_answers(served: River) -> None:
    archive, organisation, now = served.archive, served.organisation, datetime.now(UTC)
    assert "no witness anchor by witness.example/1 of 1 entries or more within 24h" in anchors.lacking(archive, organisation, 1, now)
    anchoring.require(archive, organisation, served.root, 1, now)
    assert anchors.lacking(archive, organisation, 1, now) == ()
    assert anchors.lacking(archive, organisation, 2, now), "it must cover the approval"
    assert anchors.lacking(archive, organisation, 1, now + timedelta(hours=25)), "and be fresh"
    assert anchors.lacking(archive, organisation, 1, now - timedelta(hours=1)), "and not be of the future"


def test_production_is_refused_in_words_where_the_witness_does_not_answer(tmp_path: Path) -> None:
    river = founded(tmp_path, "witness")
    with pytest.raises(OutOfTurn, match="does not answer at http://127.0.0.1:1") as refusal:
        anchoring.require(river.archive, river.organisation, river.root, 1, datetime.now(UTC))
    assert refusal.value.rule == "anchor" and "no witness anchor" in refusal.value.value and "compliance anchor" in refusal.value.remedy


def rewritten(river: River, entries: int) -> River:
    """The same home, its ledger made anew with the stolen log key: the same first entry, then others."""
    river.archive.ledger.close()
    first = river.archive.ledger.entry(0)
    river.archive.ledger.close()
    for path in river.home.path.glob("ledger.db*"):
        path.unlink()
    from compliance_assets.evidence.archive import create_archive

    made = create_archive(river.home, river.organisation, datetime.now(UTC))
    assert made.ledger.entry(0).body != first.body
    grown(made, river.organisation, entries)
    made.ledger.close()
    return open_river(river.root)


def test_a_rewritten_ledger_is_refused_by_the_witness_and_by_the_copies_in_the_home(served: River) -> None:
    grown(served.archive, served.organisation)
    anchoring.make(served.archive, served.organisation, served.root)
    forged = rewritten(served, 6)
    _, problems = anchoring.make(forged.archive, forged.organisation, forged.root)
    assert "Two histories of this ledger exist" in problems[0]
    assert not verify(forged.archive)
    with pytest.raises(LedgerCorrupt, match="rewritten"):
        anchors.lacking(forged.archive, forged.organisation, 1, datetime.now(UTC))
    shutil.rmtree(anchors.folder_of(forged.archive))
    _, problems = anchoring.make(forged.archive, forged.organisation, forged.root)
    assert "Two histories of this ledger exist" in problems[0], "the witness remembers, whatever was deleted here"


def test_a_ledger_that_was_cut_is_refused_by_the_witness(served: River) -> None:
    archive = served.archive
    grown(archive, served.organisation)
    archive.ledger.close()
    older = {path: path.read_bytes() for path in served.home.path.glob("ledger.db*")}
    grown(archive, served.organisation, 5)
    anchoring.make(archive, served.organisation, served.root)
    archive.ledger.close()
    for path in served.home.path.glob("ledger.db*"):
        path.unlink()
    for path, content in older.items():
        path.write_bytes(content)
    cut = open_river(served.root)
    shutil.rmtree(anchors.folder_of(cut.archive))
    _, problems = anchoring.make(cut.archive, cut.organisation, cut.root)
    assert "entries were cut off, or an older copy was restored" in problems[0]


def test_gits_own_verifier_accepts_the_tag_and_so_do_we(tagged: River, tmp_path: Path) -> None:
    made, problems = anchoring.make(tagged.archive, tagged.organisation, tagged.root)
    assert not problems and made[0].head == tagged.archive.ledger.head()
    assert tagged.organisation.anchors is not None and tagged.organisation.anchors.git is not None
    (tmp_path / "allowed").write_text(f"anchor {tagged.organisation.anchors.git.signer}\n")
    done = subprocess.run(("git", "-C", str(tmp_path / "heads.git"), "-c", f"gpg.ssh.allowedSignersFile={tmp_path / 'allowed'}", "tag", "-v", "ledger/1"),
                          capture_output=True, text=True)
    assert done.returncode == 0 and 'Good "git" signature for anchor' in done.stdout + done.stderr, done.stderr
    assert tagged.archive.ledger.note in done.stdout
    assert anchors.lacking(tagged.archive, tagged.organisation, 1, datetime.now(UTC)) == ()
    again, _ = anchoring.make(tagged.archive, tagged.organisation, tagged.root)
    assert again == made, "made once for a head"


@pytest.mark.parametrize(("old", "new"), [(b"ledger/1", b"ledger/2"), (b"\n1\n", b"\n2\n"), (b"type blob", b"type tree"), (b"tagger ledger", b"tagger edger")])
def test_a_changed_tag_is_no_anchor(tagged: River, old: bytes, new: bytes) -> None:
    anchoring.make(tagged.archive, tagged.organisation, tagged.root)
    (path,) = (anchors.folder_of(tagged.archive) / "git" / "ledger").iterdir()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert tagged.organisation.anchors is not None and tagged.organisation.anchors.git is not None
    with pytest.raises(UntrustedEvidence):
        anchors.read_tag(tagged.archive, path.read_bytes(), tagged.organisation.anchors.git)
    found = verify(tagged.archive)
    assert not found and any("anchor ledger/1.tag" in problem for problem in found.problems)


def verified(bundle: Path, head: str) -> tuple[int, str]:
    """What the bundle's own verifier says, run by a Python without any package."""
    done = subprocess.run((sys.executable, "-I", str(bundle / "verify.py"), str(bundle), "--head", head), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_an_auditors_bundle_holds_the_witnesss_cosignature_and_its_verifier_checks_it(served: River, tmp_path: Path) -> None:
    propose_definition(served, SYSTEM, "engineer-1")
    anchoring.make(served.archive, served.organisation, served.root)
    head = served.archive.ledger.head()
    export(served.archive, SYSTEM, tmp_path / "bundle")
    code, answer = verified(tmp_path / "bundle", f"{head.size}:{head.root.hex()}")
    assert code == 0 and "verified   anchors/witness-0.note" in answer and f"{head.size}  entries that {NAME} had seen at" in answer, answer
    note = tmp_path / "bundle" / "anchors" / "witness-0.note"
    genuine = note.read_text()
    for old, new, words in (("— witness", "— nobody", "no witness of a trust policy cosigned it"), ("\n2\n", "\n1\n", "not signed by the log's key")):
        note.write_text(genuine.replace(old, new, 1))
        code, answer = verified(tmp_path / "bundle", f"{head.size}:{head.root.hex()}")
        assert code == 1 and words in answer, answer


@pytest.mark.slow
def test_stage_8_begins_nothing_in_production_until_the_witness_has_cosigned_the_approval(served: River, tmp_path: Path) -> None:
    approve_definition(served)
    run_to(served, "integration_testing")
    for person in PEOPLE:
        decide(served, person)
    step(served, "pre_deployment_approval")
    size = served.archive.ledger.size
    declared = served.organisation.anchors
    assert declared is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchoring, "_post", lambda witness, body: (503, "out of order"))
        with pytest.raises(OutOfTurn, match="did not cosign: out of order") as refusal:
            step(served, "deployment")
    assert refusal.value.rule == "anchor"
    assert not any(record.body.action == "intent" for record in served.archive.deployments("production")), "nothing was begun"
    with pytest.raises(Waiting):
        step(served, "deployment")  # the witness answers now; what is missing is somebody who supervises production
    found, _ = anchors.read(served.archive, served.organisation)
    assert [one.head.size for one in found] == [size] or found[-1].head.size >= size


@pytest.mark.slow
def test_the_witness_is_a_program_of_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    river = founded(tmp_path, "witness")
    assert river.organisation.anchors is not None
    deaf = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a child inherits this; it must end all the same
    process = subprocess.Popen((sys.executable, "-m", "compliance_assets.cli", "witness", str(tmp_path / "witness"), "--name", NAME, "--port", "0",
                                "--log", f"{river.archive.ledger.origin}={river.organisation.log_key()}"), stdout=subprocess.PIPE, text=True, env=environment)
    signal.signal(signal.SIGTERM, deaf)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"with key (\S+) on (http://\S+)", line)
        assert found is not None, line
        declared = river.organisation.anchors.witnesses[0]
        assert found[1] == declared.key
        made = anchoring.have_cosigned(river.archive, declared.model_copy(update={"address": found[2]}))
        assert made.head == river.archive.ledger.head()
        done = subprocess.run((sys.executable, "-m", "compliance_assets.cli", "anchor"), cwd=river.root, capture_output=True, text=True, env=environment)
        assert done.returncode == 1 and "does not answer" in done.stdout, "organisation.yaml still says another address"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
