"""Stage 6, Integration Testing: the staged version, served for real → IntegrationReport.

Starts the very server that production will run, on loopback, with exactly the registered bytes, and asks it everything that a
caller could: does it keep its interface, does it agree with the registry to the bit, does it decide the golden cases of every
subgroup as agreed, is every answer in its log, can people stop it, is it fast enough. Halts if any test fails; a test that
was not carried out has failed. The server is stopped at the end, whatever happened.
Art. 9(6) and (8), Art. 12(1), Art. 15(4) and (5), Annex IV(2)(g); the stop switch is aligned with Art. 14(4)(e).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import OutOfTurn, ServingError
from compliance_assets.features import serving_features, serving_schema
from compliance_assets.modelfile import favourable_scores, load
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.registry import Registry
from compliance_assets.serving import launching
from compliance_assets.serving.inference_log import read_log
from compliance_assets.serving.interface import needed_columns
from compliance_assets.serving.spec import ServerSpec, take_snapshot
from compliance_assets.serving.switch import StopSwitch
from compliance_assets.stages import s6_suites as suites
from compliance_assets.stages.s1_data_preparation import Dataset, read_part
from compliance_assets.stages.s2_feature_engineering import FeatureSet
from compliance_assets.stages.s3_model_training import CandidateModel
from compliance_assets.stages.s5_model_registration import StagedModel
from compliance_assets.stages.s6_suites import Item
from compliance_assets.stages.stage import Draft, Report, Stage, Work
from compliance_assets.trust.canonical import Digest, decimal_string, parse_canonical, sha256_bytes

if TYPE_CHECKING:
    from compliance_assets.serving.client import Client

RULE = rule_named("integration_testing")
SUITE_VERSION = 1


class IntegrationReport(Report):
    """What was asked of the served version, and what came back."""

    staged: str
    model: str
    features: str
    snapshot: str
    """The definition's files as the server got them."""
    suite: int
    items: tuple[Item, ...]
    latency_p95_ms: str
    """Decimal; empty if it could not be measured."""
    latency_requests: int

    def of(self, gate: str) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.gate == gate)

    def files(self) -> dict[str, str]:
        return {"integration/definition_snapshot.json": self.snapshot}


def candidate_of(work: Work, staged: StagedModel) -> CandidateModel:
    """The candidate that was staged, from the artefact store."""
    return CandidateModel.model_validate(parse_canonical(work.artefacts.get_bytes(Digest.parse(staged.candidate))))


def integration_environment(system: str) -> str:
    """Each system is tested in a place of its own, so that one test's stop switch stops no other."""
    return f"integration-{system.replace('_', '-')}"


def produce(work: Work, *, staged_model: StagedModel, features: FeatureSet) -> Draft:
    """Serve the staged version and ask it everything. `ServingError` if the server does not come up at all."""
    candidate = candidate_of(work, staged_model)
    if candidate.features != features.digest or candidate.model != staged_model.model:
        raise OutOfTurn("The staged model was trained on another feature set.", rule="one release", value=features.digest,
                        remedy="Test it with the feature set of its own release.")
    definition = work.definition
    registry_bytes = Registry(work.home).model_bytes(staged_model.registry_name, staged_model.registry_version)
    snapshot = take_snapshot(definition, work.artefacts)
    spec = ServerSpec(
        home=str(work.home.path), root=str(definition.root), environment=integration_environment(staged_model.system),
        purpose="integration", server="integration", system=staged_model.system, release=staged_model.release,
        model=staged_model.model, definition=definition.digest, snapshot=snapshot, trusted_types=candidate.trusted_types,
        feature_names=candidate.feature_names, port=launching.free_port(), token=secrets.token_urlsafe(24),
        authority=staged_model.digest)
    StopSwitch(spec.folder).path.unlink(missing_ok=True)  # a test that was killed may have left it
    log = spec.folder / "log" / spec.server
    before = {path.name for path in log.glob("decisions-*.jsonl")} if log.is_dir() else set()
    started = time.monotonic()
    with launching.running_server(spec, work.scratch, command=launching.SERVER) as client:
        work.tell("server_ready", seconds=f"{time.monotonic() - started:.1f}", port=spec.port)
        items, asked, timed, failed = _ask(work, client, spec, candidate, features, registry_bytes)
    written = [path for path in sorted(log.glob("decisions-*.jsonl")) if path.name not in before]
    items += suites.logged(asked, [decision for path in written for decision in read_log(path)], spec)
    p95 = decimal_string(round(suites.percentile(timed, 0.95), 3)) if timed and not failed else ""
    return Draft(
        IntegrationReport(system=staged_model.system, staged=staged_model.digest, model=staged_model.model,
                          features=features.digest, snapshot=snapshot, suite=SUITE_VERSION, items=tuple(items), latency_p95_ms=p95,
                          latency_requests=len(timed)),
        {"seconds": f"{time.monotonic() - started:.3f}", "answers": len(asked.rows), "tests": len(items),
         "latency_p50_ms": decimal_string(round(suites.percentile(timed, 0.5), 3)) if timed else "",
         "inference_log": [work.artefacts.put_file(path) for path in written]})


def _ask(work: Work, client: Client, spec: ServerSpec, candidate: CandidateModel, features: FeatureSet,
         registry_bytes: bytes) -> tuple[list[Item], suites.Asked, tuple[float, ...], int]:
    """Every suite, in the order of the gates."""
    definition = work.definition
    system = definition.system
    dataset = Dataset.model_validate(parse_canonical(work.artefacts.get_bytes(Digest.parse(features.dataset))))
    needed = needed_columns(system)
    rows = suites.plain_rows(read_part(work.artefacts, dataset, "validation").head(system.integration.parity_rows), needed)
    if len(rows) < system.integration.parity_rows:
        raise ServingError(f"Validation has {len(rows)} rows, {system.integration.parity_rows} are declared for parity.",
                           rule="parity rows", value=str(len(rows)), remedy="Declare fewer parity_rows, or use more data.")
    stored = sha256_bytes(work.artefacts.get_bytes(Digest.parse(spec.model)))
    asked = suites.Asked()
    items = [*suites.identity(client, spec, sha256_bytes(registry_bytes), stored)]
    items += suites.contract(client, spec, definition.contract, needed, rows[0], asked,
                             numbers=definition.system.data.target.task == "regression")
    work.tell("asked", suite="contract", tests=len(items))
    model = load(registry_bytes, candidate.trusted_types)
    schema = serving_schema(definition)
    batches = [rows[start:start + suites.BATCH] for start in range(0, len(rows), suites.BATCH)]
    ours = [float(score) for batch in batches for score in favourable_scores(model, serving_features(definition, batch, schema=schema))]
    items += suites.parity(client, rows, ours, asked)
    cases = json.loads(definition.file(system.integration.golden).read_bytes())
    attributes = {name: tuple(str(group) for group in declared.groups) for name, declared in system.data.protected.items()}
    items += suites.golden(client, cases, attributes, asked)
    items += suites.stop_switch(client, spec.token, rows[0], asked)
    work.tell("asked", suite="golden and stop switch", tests=len(items))
    timed, failed = suites.latency(client, rows, asked)
    return items, asked, timed, failed


def judge(work: Work, draft: Draft, *, staged_model: StagedModel, features: FeatureSet) -> Iterator[GateReport]:
    """Identity, contract, parity, golden, end to end, latency; each from the items of the report."""
    report = draft.value
    assert isinstance(report, IntegrationReport)
    declared = work.definition.system.integration
    for gate in RULE.gates:
        findings = [_finding(item) for item in report.of(gate.name)]
        if gate.name == "identity":
            same = (report.staged, report.model, report.features) == (staged_model.digest, staged_model.model, features.digest)
            findings.append(fact("identity.it_is_the_staged_model", same, value=report.model, bound=staged_model.model))
        elif gate.name == "latency":
            findings.append(_latency(report, declared.latency_p95_ms, declared.latency_because))
        yield conclude(gate.name, gate.version, findings)


def _finding(item: Item) -> Finding:
    return fact(f"{item.gate}.{item.name}", item.passed, value=item.value, bound=item.expected, note=item.detail)


def _latency(report: IntegrationReport, bound: float, because: str) -> Finding:
    said: dict[str, Any] = {"comparator": "<=", "bound": decimal_string(bound), "because": because, "n": report.latency_requests,
                            "judged_on": "point",
                            "method": "nearest-rank 95th percentile of single-row requests, one after another"}
    if not report.latency_p95_ms or report.latency_requests < suites.LATENCY_REQUESTS:
        return Finding("latency.p95_ms", Verdict.ERROR, note="not every timed request was answered", **said)
    holds = float(report.latency_p95_ms) <= bound
    return Finding("latency.p95_ms", Verdict.PASS if holds else Verdict.FAIL, value=report.latency_p95_ms, **said)


def holds(work: Work, report: IntegrationReport) -> bool:
    """Whether an earlier passed report still speaks of this version: what was tested is named by digest and cannot change; the
    key that found it covers definition, inputs and environment. Only the registry could hand out other bytes since."""
    staged = StagedModel.model_validate(parse_canonical(work.artefacts.get_bytes(Digest.parse(report.staged))))
    return sha256_bytes(Registry(work.home).model_bytes(staged.registry_name, staged.registry_version)) == report.model


STAGE = Stage(RULE, IntegrationReport, produce, judge, holds=holds)
