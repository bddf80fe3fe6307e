"""Two years of two systems with a known truth, recorded as the pipeline records; the dashboard held against counting by hand, pages timed.

One release of a small lender is really run, reviewed and approved; its signed statements are the templates. Every other release says the
same with other digests, numbers, moments and outcomes, drawn from a seed: signed with the home's own keys and the people's own, its
artefacts put into the store, appended to the ledger through the look-up table's seal. A model file is a line of text here, so nothing
can be served from it.

    python benchmarks/two_years.py [FOLDER] [RELEASES] [SEED]      default: a new folder, 400 releases, seed 1
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from compliance_assets.evidence import records
from compliance_assets.evidence.archive import SIGNED_BY
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.ledger import NewEntry
from compliance_assets.evidence.records import Decision, DeploymentStep, StageReuse, Statement
from compliance_assets.governance.alerts.rules import trends
from compliance_assets.governance.dashboard.summary import dashboard
from compliance_assets.governance.founding import demonstration_organisation, found
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.governance.questions.catalogue import QUESTIONS, ask
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.gates import Finding, GateReport, Verdict, not_run
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.serving.inference_log import InferenceLog
from compliance_assets.serving.sealing import seal
from compliance_assets.trust.canonical import Digest, canonical_json, digest_of, parse_canonical, rfc3339, sha256_bytes
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.signatures import PAYLOAD_TYPE, Envelope, pae, person_signature, sign_envelope
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, ssh_sign
from compliance_assets_tests.project import ENGINEER, PEOPLE, SYSTEM, approve_definition, decide, free_ports, run_to, step
from compliance_assets_tests.serving.test_inference_log import A_DECISION
from compliance_assets_tests.small_lender import write_small_lender

OTHER, ELSEWHERE = "other_lender", "elsewhere"
DAYS, GROUP, WINDOW = 730, 5, timedelta(days=90)
OUTCOMES = (("training", 0.02), ("performance", 0.04), ("fairness", 0.06), ("integration", 0.03), ("rejected", 0.05), ("deferred", 0.05),
            ("expired", 0.03), ("aborted", 0.04), ("returned", 0.03), ("full", 0.65))


@dataclass
class Truth:
    """What the script decided, counted with nothing but this."""

    verdicts: list[tuple[datetime, bool]] = field(default_factory=list)
    fairness: list[tuple[datetime, str, float]] = field(default_factory=list)
    """When, the attribute that failed or nothing, the margin."""
    halted: int = 0
    trained: int = 0
    staged: int = 0
    hours: list[tuple[datetime, float]] = field(default_factory=list)
    blocked: list[tuple[str, datetime]] = field(default_factory=list)
    latency: list[tuple[datetime, float, int]] = field(default_factory=list)
    drift: float = 0.0
    returns: list[tuple[datetime, bool]] = field(default_factory=list)
    """When, and was it an emergency."""
    proposed: list[datetime] = field(default_factory=list)
    not_in_force: int = 0
    """Stage records made under a definition that nobody had approved yet."""
    overdue: int = 0
    """Log files that should be gone."""
    made: list[tuple[str, str, datetime]] = field(default_factory=list)
    """What was made by which stage and when, in the order of the ledger."""
    rolled_out: dict[str, dict[str, str]] = field(default_factory=dict)
    """By model: what its release rests on."""
    executed: int = 0
    reused: int = 0
    evaluations: Counter[int] = field(default_factory=Counter)
    evaluated: list[datetime] = field(default_factory=list)
    named: list[tuple[datetime, set[str]]] = field(default_factory=list)
    production: list[tuple[datetime, str]] = field(default_factory=list)
    """From when which model answered."""


def project(root: Path, since: datetime | None = None) -> River:
    """Two systems, each in an environment of its own; the first one run once up to its approval. `since`: when it was founded; else now."""
    write_small_lender(root)
    for path in sorted((root / "systems" / SYSTEM).rglob("*")):
        target = root / "systems" / OTHER / path.relative_to(root / "systems" / SYSTEM)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.suffix in (".yaml", ".py", ".json"):
            text = path.read_text().replace(SYSTEM, OTHER)
            target.write_text(text.replace("environment: production", f"environment: {ELSEWHERE}"))
    home, now = Home.create(root / ".compliance"), since or datetime.now().astimezone()
    organisation = demonstration_organisation(home, "Two Lenders", PEOPLE, ENGINEER, "engineer", free_ports(), now)
    second = organisation.environments["production"]
    ports = second.serves.model_copy(update={"port": 9301, "admin_port": 9302, "server_ports": (9303, 9304)})
    river = found(root, home, organisation.model_copy(update={"environments": {
        **organisation.environments, ELSEWHERE: second.model_copy(update={"serves": ports})}}), now)
    for name in (SYSTEM, OTHER):
        approve_definition(river, name)
    run_to(river, "integration_testing")
    for person in PEOPLE:
        decide(river, person)
    assert step(river, "approval")
    return open_river(root)


class History:
    """Writes one system's releases and remembers the truth about them."""

    def __init__(self, river: River, system: str, seed: int) -> None:
        self.river, self.system, self.draw, self.truth = river, system, random.Random(seed), Truth()
        self.keys = {role: SigningKey.load(river.home.key_path(role)) for role in ("pipeline", "gate", "deployer")}
        self.templates = {rule.name: river.archive.made_by(SYSTEM, rule.name)[-1].body for rule in RIVER[:7]}
        self.values = {name: parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(body.output)))
                       for name, body in self.templates.items()}
        self.decision: Decision = next(one.body for one in river.archive.of_kind("decision", SYSTEM) if one.body.scope.purpose == "release")
        self.definition = river.definition(system).digest
        self.environment = river.definition(system).system.deployment.environment
        self.bound, self.in_force = 0.75, True
        self.batch: list[NewEntry] = []
        self.answering: dict[str, Any] = {}
        self.head = river.archive.head()

    # ------------------------------------------------------------------------------------------------------- writing

    def put(self, value: dict[str, Any]) -> str:
        return str(self.river.archive.artefacts.put_bytes(canonical_json(value)))

    def add(self, statement: Statement, person: str = "") -> None:
        if person:
            armored = ssh_sign(pae(PAYLOAD_TYPE, statement.payload()), self.river.home.keys / "people" / person, APPROVAL_NAMESPACE)
            envelope = Envelope(statement.payload(), PAYLOAD_TYPE, (person_signature(person, armored),))
        else:
            envelope = sign_envelope(statement.payload(), [self.keys[role] for role in SIGNED_BY[statement.kind]])
        self.batch.append(NewEntry(kind=statement.kind, dedup=records.execution_of(statement), system=records.system_of(statement),
                                   body=envelope.to_bytes(), subjects=records.subjects_of(statement)))

    def flush(self) -> None:
        self.river.archive.ledger.append(self.batch)
        self.batch = []

    def stage(self, name: str, k: int, at: datetime, inputs: dict[str, str], value: dict[str, Any], *, gates: list[GateReport] | None = None,
              files: dict[str, str] | None = None, observations: dict[str, Any] | None = None) -> str:
        """One stage record; its verdicts go into the truth too."""
        body, rule = self.templates[name], rule_named(name)
        reports = gates if gates is not None else list(body.reports)
        passed = all(reports)
        if rule.reports:
            value = {**value, "gates": [one.as_json() for one in reports]}
        output = self.put({**value, "system": self.system})
        made = body.model_copy(update={
            "system": self.system, "outcome": "passed" if passed else "failed", "run": f"run-{self.system}-{k}", "output": output,
            "started": rfc3339(at - timedelta(minutes=1)), "finished": rfc3339(at), "inputs": inputs, "definition": str(self.definition),
            "definition_in_force": self.in_force,
            "key": str(digest_of([self.system, name, k])), "produce_key": str(digest_of([self.system, name, k, "bytes"])),
            "gates": tuple(one.as_json() for one in reports), "files": files if files is not None else body.files, "references": {},
            "published": {}, **({"observations": observations} if observations is not None else {})})
        self.add(Statement(((rule.makes, Digest.parse(output)),), made))
        self.truth.executed += 1
        self.truth.not_in_force += not self.in_force
        self.truth.made.append((rule.makes, output, at))
        self.truth.verdicts += [(at, one.verdict is Verdict.PASS) for one in reports
                                if one.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INSUFFICIENT_DATA)]
        self.truth.named.append((at, {output, *made.files.values(), made.log, made.environment}))
        return output

    def reuse(self, name: str, k: int, at: datetime, output: str) -> None:
        self.add(Statement(((rule_named(name).makes, Digest.parse(output)),), StageReuse(
            system=self.system, stage=name, run=f"run-{self.system}-{k}", dagster_run=None, launcher="engineer", at=rfc3339(at),
            key=str(digest_of([self.system, name, k - k % GROUP])), output=output, original_index=0, original_statement="0" * 64)))
        self.truth.reused += 1

    def broken(self, name: str, gate: str) -> list[GateReport]:
        """The template's gates, one of them failed; where gates are ordered the later ones were not run."""
        found: list[GateReport] = []
        for one in self.templates[name].reports:
            if found and not found[-1] and rule_named(name).ordered_gates:
                found.append(not_run(one.gate, one.version, gate))
            elif one.gate == gate:
                first = next(finding for finding in one.findings if finding.verdict is Verdict.PASS)
                found.append(GateReport(one.gate, one.version, tuple(replace(finding, verdict=Verdict.FAIL) if finding is first else finding
                                                                     for finding in one.findings)))
            else:
                found.append(one)
        return found

    def evaluated(self, outcome: str, at: datetime, drift: float) -> list[GateReport]:
        """The evaluation's gates: fairness with a drawn margin, drift with a drawn distance from the baseline."""
        if outcome == "performance":
            self.truth.halted += 1
            return self.broken("model_evaluation", "performance")
        margin = abs(self.draw.gauss(0.12, 0.02)) * (-0.5 if outcome == "fairness" else 1)
        attribute = self.draw.choice(("sex", "age_band"))
        found: list[GateReport] = []
        for report in self.templates["model_evaluation"].reports:
            if report.gate == "fairness":
                report = GateReport(report.gate, report.version, tuple(self._fairness(one, attribute, margin) for one in report.findings))
                self.truth.fairness.append((at, attribute if margin < 0 else "", margin))
            elif margin < 0 and found and found[-1].gate in ("fairness", "robustness", "calibration"):
                report = not_run(report.gate, report.version, "fairness")
            elif report.gate == "drift":
                far = Finding("drift.baseline.psi", Verdict.PASS, value=repr(drift), n=391, comparator="<=", bound="0.25", judged_on="point")
                report = GateReport(report.gate, report.version, (far,))
                self.truth.drift = drift
            found.append(report)
        return found

    def _fairness(self, one: Finding, attribute: str, margin: float) -> Finding:
        if one.comparator == "<=":
            return replace(one, value="0.01", lower="0.001", upper="0.02", verdict=Verdict.PASS)
        mine = one.id == f"fairness.{attribute}.selection_rate_ratio"
        lower = self.bound * (1 + margin) if mine else 0.99
        return replace(one, value=repr(max(lower, self.bound)), lower=repr(lower), upper="1", bound=repr(self.bound),
                       verdict=Verdict.FAIL if mine and margin < 0 else Verdict.PASS)

    # ------------------------------------------------------------------------------------------------------ releases

    def release(self, k: int, begun: datetime, outcome: str, group: dict[str, str]) -> None:
        """Everything that one release leaves on record."""
        truth, at = self.truth, begun
        if k % GROUP == 0 or not group:
            value = {**self.values["data_preparation"], "source": str(self.river.archive.artefacts.put_bytes(f"{self.system} raw {k}".encode()))}
            group["dataset"] = self.stage("data_preparation", k, at, {}, value)
            at += timedelta(minutes=2)
            group["features"] = self.stage("feature_engineering", k, at, {"dataset": group["dataset"]},
                                           {**self.values["feature_engineering"], "dataset": group["dataset"]})
        else:
            self.reuse("data_preparation", k, at, group["dataset"])
            self.reuse("feature_engineering", k, at + timedelta(minutes=1), group["features"])
        at = begun + timedelta(hours=1)
        model = str(self.river.archive.artefacts.put_bytes(f"model {self.system} {k}".encode()))
        files = {**self.templates["model_training"].files, "model/model.skops": model}
        candidate = self.stage("model_training", k, at, {"features": group["features"]},
                               {**self.values["model_training"], "features": group["features"], "model": model,
                                "state": str(sha256_bytes(f"state {self.system} {k}".encode()))},
                               files=files, gates=self.broken("model_training", "convergence") if outcome == "training" else None)
        trained = at
        truth.trained += 1
        if outcome == "training":
            return self.flush()
        at += timedelta(minutes=10)
        evaluation = self.stage("model_evaluation", k, at, {"candidate_model": candidate, "features": group["features"]},
                                {**self.values["model_evaluation"], "candidate": candidate, "features": group["features"]},
                                gates=self.evaluated(outcome, at, round(self.draw.uniform(0.01, 0.08), 4)))
        truth.evaluations[k // GROUP] += 1
        truth.evaluated.append(at)
        if outcome in ("performance", "fairness"):
            return self.flush()
        at += timedelta(minutes=10)
        value = {**self.values["model_registration"], "candidate": candidate, "evaluation": evaluation, "model": model,
                 "definition": str(self.definition), "registry_name": self.system, "registry_version": str(k + 1),
                 "release": str(digest_of([self.system, k]))}
        staged = self.stage("model_registration", k, at, {"candidate_model": candidate, "evaluation_report": evaluation}, value,
                            files={**self.templates["model_registration"].files, "model": model})
        truth.staged += 1
        at += timedelta(minutes=10)
        integration = self.stage("integration_testing", k, at, {"staged_model": staged, "features": group["features"]},
                                 {**self.values["integration_testing"], "staged": staged, "features": group["features"], "model": model},
                                 gates=self.broken("integration_testing", "latency") if outcome == "integration" else None)
        if outcome == "integration" or outcome == "waiting":
            if outcome == "waiting":
                truth.blocked.append(("waiting", at))
            return self.flush()
        self._decided(k, outcome, at, trained, {"staged-model": staged, "model": model, "evaluation-report": evaluation,
                                                "integration-report": integration, "dataset": group["dataset"]}, value["release"],
                      {"dataset": group["dataset"], "features": group["features"], "candidate_model": candidate})

    def _decided(self, k: int, outcome: str, ready: datetime, trained: datetime, about: dict[str, str], release: str,
                 upstream: dict[str, str]) -> None:
        truth = self.truth
        subjects = {**about, "definition": str(self.definition), "environment": self.templates["model_evaluation"].environment,
                    "rollout": self.decision.scope.rollout}

        def says(kind: str, person: str, hours: float) -> Statement:
            opened = self.draw.choice((60, 300, 900))
            issued = ready + timedelta(hours=hours)
            if kind in ("approve", "reject"):
                truth.latency.append((issued, hours, opened))
            if kind != "approve":
                truth.blocked.append(({"reject": "rejected", "defer": "deferred"}[kind], issued))
            body = self.decision.model_copy(update={
                "decision": kind, "person": person, "role": PEOPLE[person], "issued": rfc3339(issued), "opened_seconds": opened,
                "expires": rfc3339(issued + timedelta(hours=48)), "definition": str(self.definition), "nonce": f"{k:032x}", "ledger": self.head,
                "due": rfc3339(issued + timedelta(days=1))[:10] if kind == "defer" else "",
                "scope": self.decision.scope.model_copy(update={"system": self.system, "environment": self.environment})})
            statement = Statement(tuple((name, Digest.parse(digest)) for name, digest in subjects.items()), body)
            self.add(statement, person)
            return statement

        first, *others = PEOPLE
        hours = self.draw.uniform(1, 20)
        if outcome == "rejected":
            says("reject", first, hours)
            return self.flush()
        if outcome == "deferred":
            says("defer", first, hours)
            hours += 24
        heard = [says("approve", person, hours + place) for place, person in enumerate((first, *others))]
        at = ready + timedelta(hours=hours + len(others), minutes=5)
        value = {**self.values["pre_deployment_approval"], "staged_model": about["staged-model"], "model": about["model"],
                 "evaluation_report": about["evaluation-report"], "integration_report": about["integration-report"],
                 "environment": self.environment, "definition": str(self.definition), "decided": rfc3339(at),
                 "expires": heard[0].body.expires, "decisions": [str(one.digest) for one in heard]}
        approval = self.stage("pre_deployment_approval", k, at, {
            "staged_model": about["staged-model"], "evaluation_report": about["evaluation-report"],
            "integration_report": about["integration-report"]}, value)
        if outcome == "expired":
            truth.blocked.append(("expired", ready + timedelta(hours=hours + 48)))
            return self.flush()
        before = self.answering
        slot = "green" if before and before["slot"] == "blue" else "blue"
        mine = {"release": release, "staged": about["staged-model"], "model": about["model"], "approval": approval, "slot": slot}
        plan: list[tuple[str, str, float]] = [("intent", "0", 0.1), ("shadow_started", "0", 0.2), ("canary_started", "0.50", 2)]
        plan.append(("aborted", "0", 3) if outcome == "aborted" else ("full_rollout", "1", 24))
        for number, (action, share, later) in enumerate(plan):
            self.deploy(k, action, mine, at + timedelta(hours=later), share, number)
        if outcome != "aborted":
            truth.hours.append((at + timedelta(hours=24), (at + timedelta(hours=24) - trained).total_seconds() / 3600))
            truth.production.append((at + timedelta(hours=24), about["model"]))
            truth.rolled_out[about["model"]] = {**upstream, "evaluation_report": about["evaluation-report"], "staged_model": about["staged-model"],
                                                "integration_report": about["integration-report"], "approval": approval}
            self.answering = mine
        if outcome in ("returned", "returned calmly") and before:
            back = at + timedelta(hours=30)
            self.deploy(k, "rolled_back", before, back, "1", 9, {"emergency": outcome == "returned"})
            truth.returns.append((back, outcome == "returned"))
            truth.production.append((back, before["model"]))
            # The returned version takes the other slot where its own is taken; the fold knows, and the next intent must too.
            self.answering = {**before, "slot": ("green" if mine["slot"] == "blue" else "blue") if before["slot"] == mine["slot"] else before["slot"]}
        self.flush()

    def amend(self, at: datetime, bound: float, *, approved_later: bool = False, dropped: bool = False) -> None:
        """A changed fairness bound: declared, proposed, and approved by people (later, or never), as they do it."""
        declared = self.river.root / "systems" / self.system / "system.yaml"
        before = declared.read_text()
        declared.write_text(before.replace(f"at_least: {self.bound}, judged_on: lower,\n         because: wide",
                                           f"at_least: {bound}, judged_on: lower,\n         because: wide"))
        assert declared.read_text() != before
        river = replace(open_river(self.river.root), now=lambda: at)
        propose_definition(river, self.system, ENGINEER)
        self.truth.proposed.append(at)
        if dropped:
            declared.write_text(before)
            return
        self.definition, self.bound, self.in_force = river.definition(self.system).digest, bound, not approved_later
        if not approved_later:
            self.approve(at)

    def approve(self, at: datetime) -> None:
        """Everybody who must approves the definition as its files stand."""
        approve_definition(replace(open_river(self.river.root), now=lambda: at), self.system)
        self.in_force = True

    def answer(self, day: datetime, months: int, until: datetime) -> None:
        """Two decisions of one day, logged and sealed as the server does it; overdue if their day of deletion is over by `until`."""
        log = self.river.home.serving / self.environment / "log"
        written = InferenceLog(log / "blue", "blue")
        written.append([(replace(A_DECISION, id=f"{self.system}-{day:%Y%m%d}-{number}"), {"age": 40}) for number in range(2)])
        written.close()
        for path in sorted((log / "blue").glob("*.jsonl")):
            kind, rest = path.name.split("-", 1)
            path.rename(path.with_name(f"{kind}-{day:%Y-%m-%d}{rest[10:]}"))
        assert seal(log, months, day + timedelta(days=2))
        ends = day + timedelta(days=31 * months)
        self.truth.overdue += 2 if ends < until else 0  # decisions and inputs

    def deploy(self, k: int, action: str, what: dict[str, str], at: datetime, share: str, number: int,
               evidence: dict[str, Any] | None = None) -> None:
        body = DeploymentStep(
            system=self.system, environment=self.environment, action=action, **what, share=share, step=number,  # type: ignore[arg-type]
            previous_model="", previous_approval="", run=f"deploy-{self.system}-{k}", launcher="engineer", at=rfc3339(at),
            definition=str(self.definition), trust_policy=str(self.river.organisation.digest),
            composite_version=str(digest_of([self.system, k])), evidence=evidence or {}, reason="planted" if action == "rolled_back" else "",
            demonstration=True)
        self.add(Statement((("model", Digest.parse(body.model)),), body))


# --------------------------------------------------------------------------------------------------------------- by hand


def by_hand(truth: Truth, now: datetime, size: int) -> dict[str, Any]:
    """The measures, counted from what the script decided, with nothing of the dashboard's code."""
    since = now - WINDOW
    recent = [passed for at, passed in truth.verdicts if at >= since]
    fair = [(attribute, margin) for at, attribute, margin in truth.fairness if at >= since]
    waits = sorted(hours for at, hours in truth.hours if at >= since)
    latency = sorted(hours for at, hours, _ in truth.latency if at >= since)
    hasty = [opened < 120 for at, _, opened in truth.latency if at >= since]
    return {
        "D1": (sum(recent), len(recent), truth.staged, truth.trained),
        "D2": (sum(bool(one) for one, _ in fair), len(fair), dict(Counter(one for one, _ in fair if one)), truth.halted),
        "D3": (len(waits), round(statistics.median(waits), 6), round(sum(waits) / len(waits), 6), round(waits[math.ceil(0.9 * len(waits)) - 1], 6)),
        "D4": dict(Counter(why for why, at in truth.blocked if why == "waiting" or at >= since)),
        "D5": (len(latency), round(statistics.median(latency), 6), round(latency[math.ceil(0.9 * len(latency)) - 1], 6), sum(hasty), len(hasty)),
        "D6": (len(set().union(*(named for at, named in truth.named if at >= since))), 0),
        "D8": (0, sum(at >= since for at in truth.evaluated)),
        "D9": round(truth.fairness[-1][2], 6), "D10": truth.drift,
        "D7": (stale(truth, now), 12),
        "D11": (sum(at >= since for at in truth.proposed), truth.not_in_force),
        "D12": (sum(at >= since for at, _ in truth.returns), sum(emergency for at, emergency in truth.returns if at >= since)),
        "D13": size, "D14": (truth.reused, truth.reused + truth.executed), "D15": max(truth.evaluations.values()),
        "D16": truth.overdue, "D17": (len(truth.hours), len(truth.hours)),
    }


RESTS_ON = {1: "staged_model candidate_model", 3: "candidate_model features", 4: "dataset features", 5: "evaluation_report integration_report",
            6: "evaluation_report", 7: "evaluation_report", 8: "evaluation_report", 9: "evaluation_report candidate_model",
            10: "approval staged_model", 11: "dataset features"}
"""From whose records the modules of the package are read; module 2 rests on the definition, 12 on deployments, which nothing supersedes here."""


def stale(truth: Truth, now: datetime) -> int:
    """Modules of the release in production that rest on something made anew since, or older than 60 days."""
    release = truth.rolled_out[truth.production[-1][1]]
    order = {output: (place, at) for place, (_, output, at) in enumerate(truth.made)}
    old = {asset for asset, output in release.items() if now - order[output][1] > timedelta(days=60)}
    newer = {asset for asset, output in release.items()
             if any(made == asset and other != output for made, other, _ in truth.made[order[output][0] + 1:])}
    return sum(bool({*assets.split()} & (old | newer)) for assets in RESTS_ON.values())


def measured(found: Any) -> dict[str, Any]:
    """The same numbers as the dashboard gives them."""
    d = {one.number: one.detail for one in found.measures}
    whole = d["D3"]["training to production"]
    return {
        "D1": (d["D1"]["gates"]["hits"], d["D1"]["gates"]["n"], d["D1"]["staged"]["hits"], d["D1"]["staged"]["n"]),
        "D2": (sum(1 for one in found.history.judged if one.gate == "fairness" and not one.passed and one.at >= found.history.now - WINDOW),
               sum(1 for one in found.history.judged if one.gate == "fairness" and one.at >= found.history.now - WINDOW),
               d["D2"]["by_attribute"], d["D2"]["halted_before"]),
        "D3": (whole["n"], round(whole["median_hours"], 6), round(whole["mean_hours"], 6), round(whole["p90_hours"], 6)),
        "D4": dict(d["D4"]),
        "D5": (d["D5"]["n"], round(d["D5"]["median_hours"], 6), round(d["D5"]["p90_hours"], 6), d["D5"]["hasty"]["hits"], d["D5"]["hasty"]["n"]),
        "D6": (d["D6"]["named"], len(d["D6"]["lost"])), "D7": (d["D7"]["stale"], d["D7"]["modules"]), "D8": (d["D8"]["given"], d["D8"]["candidates"]),
        "D9": round(d["D9"]["series"][-1][1], 6), "D10": d["D10"]["series"][-1][3],
        "D11": (sum(at >= found.history.now - WINDOW for at, _ in found.history.definitions), len(d["D11"]["unapproved"])),
        "D12": (len(found.history.returns and [1 for one in found.history.returns if one[2] >= found.history.now - WINDOW]),
                sum(one[1] for one in found.history.returns if one[2] >= found.history.now - WINDOW)),
        "D13": d["D13"]["entries"], "D14": (d["D14"]["reused"], d["D14"]["reused"] + d["D14"]["executed"]),
        "D15": max(d["D15"].values()), "D16": len(d["D16"]["overdue"]), "D17": (d["D17"]["covered"], d["D17"]["rollouts"]),
    }


PLANTED_FROM = 50
"""With fewer releases of a system nothing of this is planted."""


def planted(one: History, left: int, at: datetime, outcome: str) -> str:
    """What happens to a release that is this many from the end: returns, calm and not; a bound that moves; a proposal that is dropped."""
    if one.system == SYSTEM and left in (9, 14, 20) and one.answering:
        return "returned calmly" if left == 14 else "returned"
    if one.system == SYSTEM and left == 12:
        one.amend(at - timedelta(hours=1), 0.7, dropped=True)
    if one.system == OTHER and left == 22:
        one.amend(at - timedelta(hours=1), 0.78, approved_later=True)
        return "performance"
    return outcome


def lived(river: River, began: datetime, releases: int, seed: int) -> dict[str, History]:
    """Two years from `began` on, on record: this many releases of the two systems in turn."""
    histories = {name: History(river, name, seed * 10 + place) for place, name in enumerate((SYSTEM, OTHER))}
    each = releases // 2
    names, weights = zip(*OUTCOMES, strict=True)
    groups: dict[str, dict[str, str]] = {SYSTEM: {}, OTHER: {}}
    for k in range(each):
        for name, one in histories.items():
            outcome = one.draw.choices(names, weights)[0]
            if outcome == "returned" and not one.answering:
                outcome = "full"
            if name == SYSTEM and k == each - 1:
                outcome = "waiting"
            if name == OTHER and k >= each - 2:
                outcome = "fairness"
                one.draw.seed(4)  # planted: the same attribute twice running
            begun = began + timedelta(days=DAYS * k / each)
            if each >= PLANTED_FROM:
                outcome = planted(one, each - k, begun, outcome)
            one.release(k, begun, outcome, groups[name])
            if name == OTHER and not one.in_force:
                one.approve(begun + timedelta(days=1))
    return histories


def main(folder: Path, releases: int, seed: int) -> None:
    root = folder / "world"
    root.mkdir(parents=True)
    river = project(root)
    began = datetime.now().astimezone() + timedelta(hours=1)
    latest = began + timedelta(days=DAYS)
    start = time.monotonic()
    histories = lived(river, began, releases, seed)
    size = river.archive.ledger.size
    print(f"{size} records of {releases} releases in {time.monotonic() - start:.0f} s")
    for one in histories.values():
        for age in (900, 300, 200, 20):
            one.answer(latest - timedelta(days=age), 6, latest)
    river = replace(open_river(root, writer=False), now=lambda: latest)
    bad = 0
    for name, one in histories.items():
        clock = time.monotonic()
        found = dashboard(river, name)
        print(f"\n{name}: dashboard {time.monotonic() - clock:.2f} s cold", end="")
        clock = time.monotonic()
        dashboard(river, name)
        print(f", {time.monotonic() - clock:.2f} s warm")
        truth = one.truth
        if name == SYSTEM:  # the release that was really run, two years before the window
            truth.trained, truth.staged, truth.executed = truth.trained + 1, truth.staged + 1, truth.executed + 7
        hand, seen = by_hand(truth, latest, size), measured(found)
        for number, value in hand.items():
            same = seen[number] == value
            bad += not same
            print(f"  {number:<4} {'=' if same else 'DIFFERS'}  by hand {value}" + ("" if same else f"  dashboard {seen[number]}"))
        print(f"  alerts: {[f'{a.rule} {a.about}' for a in trends(found.history)]}")
        wrong = 0
        for _ in range(20):
            when = began + timedelta(days=one.draw.uniform(5, DAYS))
            expected = [model for at, model in truth.production if at <= when][-1:]
            answer = ask(river, name, "E1", as_of=when)
            wrong += bool(expected) and answer.facts[0].digest != expected[0]
        clock = time.monotonic()
        states = Counter(ask(river, name, one_.number).state for one_ in QUESTIONS if one_.number != "E29")
        print(f"  E1 at 20 random moments: {wrong} wrong; 34 questions in {time.monotonic() - clock:.1f} s: {dict(states)}")
    pages(root)
    print(f"\n{bad} measures differ")


def pages(root: Path) -> None:
    """Median and worst of five visits to each page, in this process, after one to warm up."""
    from compliance_assets_tests.web.visitor import Visitor

    visitor = Visitor(root)
    addresses = ["/", "/dashboard", f"/systems/{SYSTEM}/dashboard", "/releases", f"/systems/{OTHER}/releases", f"/systems/{SYSTEM}/review", "/ledger",
                 "/ledger/100", "/definitions", "/alerts", "/questions", f"/systems/{OTHER}/questions/E1", f"/systems/{OTHER}/questions/E16",
                 "/provenance", "/health"]
    print("\n| page | first ms | median ms | worst of 5 ms |\n|---|---|---|---|")
    for address in addresses:
        taken = []
        for _ in range(6):
            clock = time.perf_counter()
            status = visitor.get(address).status_code
            taken.append(1000 * (time.perf_counter() - clock))
        print(f"| {address} | {taken[0]:.0f} | {statistics.median(taken[1:]):.0f} | {max(taken[1:]):.0f} |" + ("" if status == 200 else f" {status}"))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(Path(arguments[0]) if arguments else Path(tempfile.mkdtemp()), int(arguments[1]) if len(arguments) > 1 else 400,
         int(arguments[2]) if len(arguments) > 2 else 1)
