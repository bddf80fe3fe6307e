"""A ledger of any size whose records are real ones: signed statements of whole releases, each stage with its gates and digests.

Records are made from eight templates (one real statement for each stage) in which digests, runs and moments are replaced; they are
signed with the home's own keys and appended in batches, as a migration would. Every record can be read, proved, traced and verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from compliance_assets.evidence import records
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.ledger import Ledger, NewEntry
from compliance_assets.evidence.records import Code, StageExecution, Statement
from compliance_assets.governance.founding import demonstration_organisation, found
from compliance_assets.policy.gates import conclude, fact
from compliance_assets.policy.river import RIVER
from compliance_assets.trust.canonical import canonical_json, rfc3339
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.signatures import sign_envelope

SYSTEM = "benchmark_lending"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000
STAGES = RIVER[:6]


def digest_for(what: str) -> str:
    return hashlib.sha256(what.encode()).hexdigest()


def at(index: int) -> str:
    return rfc3339(BEGAN + timedelta(seconds=index))


def founded(root: Path, ledger: str = "") -> Archive:
    """A home with keys, people and a trust policy, and nothing else."""
    root.mkdir(parents=True)
    home = Home.create(root / ".compliance")
    organisation = demonstration_organisation(home, "Benchmark Lender", {"owner-1": "technical_owner", "governance-1": "governance_lead"},
                                              "engineer-1", "engineer", 21000, BEGAN)
    return found(root, home, organisation, BEGAN, ledger).archive


def _template(archive: Archive, stage: int) -> Statement:
    rule = STAGES[stage]
    findings = [fact(f"{rule.name}.measured_{number}", True, value="0.8125", bound="0.80") for number in range(2)]
    body = StageExecution(
        system=SYSTEM, stage=rule.name, outcome="passed", run=f"run-{0:012d}", dagster_run=None, attempt=0, launcher="engineer", started="START",
        finished="FINISH", key=digest_for("KEY"), produce_key=digest_for("PRODUCE"), computed=True, output=digest_for("OUTPUT"),
        files={"file.parquet": digest_for("FILE")}, inputs={name: digest_for(f"INPUT {name}") for name in rule.needs}, references={},
        definition=digest_for("definition"), definition_in_force=True, trust_policy=str(archive.organisation.digest),
        environment=digest_for("environment"), residency="eu",
        code=Code(commit="0" * 40, dirty=False, authors=("engineer-1",), under_version_control=True), seed=7,
        gates=tuple(conclude(gate.name, gate.version, findings).as_json() for gate in rule.gates), observations={}, published={},
        log=digest_for("LOG"), promotable=True, demonstration=True)
    return Statement((("output", records.Digest.parse(body.output)),), body)


def entries(archive: Archive, count: int, first: int = 1) -> Iterator[NewEntry]:
    """`count` stage records of whole releases, six to a release, signed by pipeline and gate; the first is entry `first`."""
    keys = [SigningKey.load(archive.home.key_path(role)) for role in ("pipeline", "gate")]
    templates = []
    for stage in range(len(STAGES)):
        statement = _template(archive, stage)
        templates.append((statement.payload().decode(), [(str(digest), role) for digest, role in records.subjects_of(statement)], str(statement.digest)))
    for number in range(count):
        index = first + number
        release, stage = divmod(index - 1, len(STAGES))
        text, subjects, digest_before = templates[stage]
        run = f"run-{release:012d}"
        new = {digest_for("KEY"): digest_for(f"key {index}"), digest_for("PRODUCE"): digest_for(f"produce {index}"),
               digest_for("OUTPUT"): output(release, stage), digest_for("FILE"): digest_for(f"file {index}"),
               digest_for("LOG"): digest_for(f"log {index}"), str(records.run(f"run-{0:012d}")): str(records.run(run))}
        new |= {digest_for(f"INPUT {name}"): output(release, next(i for i, rule in enumerate(STAGES) if rule.makes == name))
                for name in STAGES[stage].needs}
        for old, fresh in new.items():
            text = text.replace(old, fresh)
        text = text.replace(f"run-{0:012d}", run).replace('"START"', f'"{at(index)}"').replace('"FINISH"', f'"{at(index)}"')
        payload = text.encode()
        new[digest_before] = hashlib.sha256(payload).hexdigest()
        dedup = hashlib.sha256(f'["stage","{SYSTEM}","{STAGES[stage].name}","{run}","0","{new[digest_for("KEY")]}",""]'.encode()).hexdigest()
        yield NewEntry("stage", dedup, SYSTEM, sign_envelope(payload, keys).to_bytes(),
                       tuple((records.Digest(new[digest] if digest in new else digest), role) for digest, role in subjects))


def output(release: int, stage: int) -> str:
    """The digest of what a stage of a release made: of the first one, a manifest that names its raw source."""
    if stage == 0:
        return hashlib.sha256(manifest(release)).hexdigest()
    return digest_for(f"output {release} {stage}")


def manifest(release: int) -> bytes:
    return canonical_json({"source": digest_for(f"raw {release}")})


def fill(archive: Archive, count: int) -> Ledger:
    """Append until the ledger has `count` entries; in batches, without reading each body again."""
    ledger = Ledger.open(archive.home.ledger_place, archive.organisation.log_key(), SigningKey.load(archive.home.key_path("log")))
    batch: list[NewEntry] = []
    for new in entries(archive, count - ledger.size, ledger.size):
        batch.append(new)
        if len(batch) == BATCH:
            ledger.append(batch)
            batch = []
    ledger.append(batch)
    return ledger


if __name__ == "__main__":
    import sys
    import tempfile
    import time

    with tempfile.TemporaryDirectory() as folder:
        made = founded(Path(folder) / "w")
        began = time.perf_counter()
        ledger = fill(made, int(sys.argv[1]))
        print(ledger.size, time.perf_counter() - began, len(ledger.entry(4).body))
        archive = Archive.open(made.home, made.organisation)
        print(archive.ledger.verify())
        print(json.loads(archive.authentic(archive.ledger.entry(8)).envelope.payload)["predicate"]["stage"])
