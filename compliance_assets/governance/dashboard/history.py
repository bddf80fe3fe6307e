"""What happened to one system, as a list of plain events: gates judged, candidates trained, decisions, rollouts, returns.

One gate verdict counts once: the first definite one for the same candidate, gate version and bounds, so that running a thing
again does not improve a rate. Where a bound was changed, what was judged before and after are different questions: a loosened
bound must not look like progress.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compliance_assets.evidence import exceptions
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.dashboard.kept import Kept, kept_of
from compliance_assets.governance.stage_facts import StageFacts, stage_facts
from compliance_assets.pipeline import River
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest, parse_rfc3339

DEFINITE = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INSUFFICIENT_DATA)

TRIGGERS = {"psi": 0.25, "roc_auc_change": 0.03}
"""Above it a change is presumed to be a substantial modification, by published supervisory practice. No law gives these numbers."""


@dataclass(frozen=True)
class Judged:
    """One definite verdict of one gate. `failed`: (attribute, metric) of each finding that stopped it; `margin`: see `margin_of`."""

    stage: int
    """1 to 8: two stages have a gate of the same name."""
    gate: str
    version: int
    bounds: tuple[tuple[str, str], ...]
    verdict: Verdict
    at: datetime
    index: int
    failed: tuple[tuple[str, str], ...]
    margin: float | None

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS


@dataclass(frozen=True)
class Deployed:
    """One release on its way to everybody, with when each step was reached; None where no record says so."""

    approval: str
    candidate: str
    """Digest of the candidate model."""
    trained: datetime
    staged: datetime | None
    ready: datetime | None
    """The integration report passed: people could decide from here on."""
    decided: datetime | None
    exposed: datetime | None
    full: datetime
    index: int


@dataclass(frozen=True)
class Blocked:
    """One release that people, or the time they took, kept from production. `why`: rejected, deferred, revoked, expired or waiting."""

    why: str
    at: datetime
    index: int


@dataclass(frozen=True)
class Decided:
    """One decision by one person: how long after the release was ready, and how long the evidence was open before."""

    person: str
    decision: str
    at: datetime
    hours: float | None
    opened_seconds: int
    index: int


@dataclass(frozen=True)
class Excepted:
    """One exception that was asked for. `about`: gate and findings, so that the same one asked for again is told; `granted` by people."""

    about: str
    at: datetime
    index: int
    granted: bool
    expires: datetime


@dataclass(frozen=True)
class FromBaseline:
    """How far one evaluation was from the baseline, by one metric over one attribute."""

    metric: str
    over: str
    value: float
    at: datetime
    index: int


@dataclass(frozen=True)
class StagedWaiting:
    """The newest staged release, where it was neither deployed nor rejected."""

    staged: str
    at: datetime
    index: int


@dataclass(frozen=True)
class History:
    """Everything the dashboard counts for one system, each list oldest first."""

    system: str
    now: datetime
    judged: tuple[Judged, ...]
    halted_before_fairness: int
    trained: tuple[tuple[str, datetime], ...]
    """Digest of each candidate model that was trained and when; one that failed a training gate too."""
    staged: frozenset[str]
    deployed: tuple[Deployed, ...]
    untraced: tuple[int, ...]
    """Ledger indices of full rollouts whose training is not on record: they happened, and how long they took is not known."""
    blocked: tuple[Blocked, ...]
    decisions: tuple[Decided, ...]
    returns: tuple[tuple[str, bool, datetime, int], ...]
    """(action, was it an emergency, when, ledger index) of each rollback and withdrawal."""
    unapproved_runs: tuple[int, ...]
    """Ledger indices of stage records made under a definition that was not in force."""
    definitions: tuple[tuple[datetime, int], ...]
    """When each definition of the system was proposed."""
    executed: int
    reused: int
    holdouts: dict[str, int]
    """How many definite evaluations each feature set's holdout has answered."""
    exceptions: tuple[Excepted, ...] = ()
    baseline: tuple[FromBaseline, ...] = ()
    staged_waiting: tuple[StagedWaiting, ...] = ()
    sla_hours: float = 48.0
    """How long an approval holds, as declared: who decides later than that is late (this project's own reading)."""
    kept: Kept | None = None
    """What stands in the store and the ledger now; None where nobody looked."""
    stale_modules: tuple[int, int] | None = None
    """AISDP modules that are stale, of how many; None where nobody looked."""
    excepted_rollouts: int = 0
    """Full rollouts that rest on an exception."""


def history_of(river: River, system: str) -> History:
    """Read one system's records. Only authentic ones count; what is not on record is not here."""
    stages = sorted((record for rule in RIVER for record in river.archive.made_by(system, rule.name)), key=lambda record: record.index)
    facts = {record.index: river.archive.fact(record, stage_facts) for record in stages}
    at = {record.index: facts[record.index].at for record in stages}
    environment = river.definition(system).system.deployment.environment
    steps = [record for record in river.archive.deployments(environment) if record.body.system == system]
    by_output = {record.body.output: record for record in stages if record.body.outcome != "error"}
    evaluated = [record for record in stages if record.body.stage == "model_evaluation" and record.body.outcome != "error"]
    trained = {record.body.output: at[record.index] for record in reversed(stages)
               if record.body.stage == "model_training" and record.body.outcome != "error"}
    full_records = [record for record in steps if record.body.action == "full_rollout"]
    exposed = _exposed(steps)
    # The first record of an output says when it was made; later ones judge the same bytes again, perhaps after they were rolled out.
    first = {record.body.output: record for record in reversed(stages) if record.body.outcome != "error"}
    full = [(record.index, _deployed(record, exposed, first, at)) for record in full_records]
    decisions = tuple(_decisions(river, system, stages, at))
    return History(
        system, river.now(), tuple(_judged((record, facts[record.index]) for record in stages)),
        sum(any(gate == "fairness" and verdict is Verdict.NOT_RUN for gate, _, _, verdict, _, _ in facts[record.index].reports)
            for record in evaluated),
        tuple(sorted(trained.items(), key=lambda item: item[1])),
        frozenset(record.body.inputs["candidate_model"] for record in stages
                  if record.body.stage == "model_registration" and record.body.outcome == "passed"),
        tuple(one for _, one in full if one is not None), tuple(index for index, one in full if one is None),
        tuple(_blocked(river, system, stages, steps, decisions)), decisions,
        tuple((record.body.action, "emergency" in record.body.evidence and bool(record.body.evidence["emergency"]),
               parse_rfc3339(record.body.at), record.index) for record in steps if record.body.action in ("rolled_back", "withdrawn")),
        tuple(record.index for record in stages if not record.body.definition_in_force),
        tuple((parse_rfc3339(record.body.at), record.index) for record in river.archive.of_kind("definition", system)),
        len(stages), len(river.archive.of_kind("reuse", system)), _holdouts(evaluated), tuple(_exceptions(river, system)),
        tuple(FromBaseline(metric, over, value, at[record.index], record.index)
              for record in evaluated for metric, over, value in facts[record.index].baseline),
        tuple(_staged_waiting(stages, steps, river, system)),
        river.definition(system).system.approval.valid_seconds / 3600,
        kept_of(river, system, [(record, at[record.index]) for record in stages], full_records, by_output), None,
        sum(_rests_on_exception(record, by_output) for record in full_records))


def _at(record: Record) -> datetime:
    return parse_rfc3339(str(record.body.finished))


def _judged(stages: Iterable[tuple[Record, StageFacts]]) -> Iterable[Judged]:
    seen: set[tuple[Any, ...]] = set()
    for record, facts in stages:
        if not facts.reports:
            continue
        body, rule = record.body, rule_named(record.body.stage)
        about = tuple(sorted(body.inputs.items())) if rule.reports else (body.output,)
        for gate, version, bounds, verdict, failed, margin in facts.reports:
            unit = (gate, version, bounds, rule.number, about)
            if verdict in DEFINITE and unit not in seen:
                seen.add(unit)
                yield Judged(rule.number, gate, version, bounds, verdict, facts.at, record.index, failed, margin)


def _exposed(steps: Iterable[Record]) -> dict[str, datetime]:
    """When each approval first brought a version in front of traffic."""
    found: dict[str, datetime] = {}
    for one in steps:
        if one.body.action in ("shadow_started", "canary_started", "full_rollout"):
            at = parse_rfc3339(one.body.at)
            found[one.body.approval] = min(at, found.get(one.body.approval, at))
    return found


def _deployed(full: Record, exposed: Mapping[str, datetime], first: Mapping[str, Record],
              at: Mapping[int, datetime]) -> Deployed | None:
    body = full.body
    staged = first[body.staged] if body.staged in first else None
    candidate = staged.body.inputs["candidate_model"] if staged is not None else ""
    if staged is None or candidate not in first:
        return None
    approval = first[body.approval] if body.approval in first else None
    report = approval.body.inputs["integration_report"] if approval is not None else ""
    return Deployed(body.approval, candidate, at[first[candidate].index], at[staged.index],
                    at[first[report].index] if report in first else None, at[approval.index] if approval is not None else None,
                    exposed.get(body.approval), parse_rfc3339(body.at), full.index)


def _decisions(river: River, system: str, stages: list[Record], moments: Mapping[int, datetime]) -> Iterable[Decided]:
    ready = {record.body.output: moments[record.index] for record in stages
             if record.body.stage == "integration_testing" and record.body.outcome == "passed"}
    for record in river.archive.of_kind("decision", system):
        if record.body.scope.purpose != "release":
            continue
        at = parse_rfc3339(record.body.issued)
        since = [ready[str(digest)] for _, digest in record.statement.subjects if str(digest) in ready]
        yield Decided(record.body.person, record.body.decision, at, (at - since[0]).total_seconds() / 3600 if since else None,
                      record.body.opened_seconds, record.index)


def _blocked(river: River, system: str, stages: list[Record], steps: list[Record], decisions: Iterable[Decided]) -> Iterable[Blocked]:
    for one in decisions:
        if one.decision in ("reject", "defer", "revoke"):
            yield Blocked({"reject": "rejected", "defer": "deferred", "revoke": "revoked"}[one.decision], one.at, one.index)
    begun = {record.body.approval for record in steps}
    approved = {record.body.inputs["integration_report"] for record in stages if record.body.stage == "pre_deployment_approval"}
    head = river.head(system, "integration_report")
    for record in stages:
        if record.body.outcome != "passed":
            continue
        if record.body.stage == "pre_deployment_approval" and record.body.output not in begun:
            expires = parse_rfc3339(str(river.value("approval", Digest.parse(record.body.output)).model_dump()["expires"]))
            if expires <= river.now():
                yield Blocked("expired", expires, record.index)
        if record.body.stage == "integration_testing" and record.body.output == head \
                and record.body.output not in approved:
            yield Blocked("waiting", _at(record), record.index)


def _exceptions(river: River, system: str) -> Iterable[Excepted]:
    for record in river.archive.of_kind("exception", system):
        body, at = record.body, parse_rfc3339(record.body.at)
        about = f"{body.gate}: {', '.join(sorted(str(finding['id']) for finding in body.findings))}"
        heard = exceptions.standing(river.archive, record, river.now())
        yield Excepted(about, at, record.index, bool(heard.approvers) and not heard.missing, parse_rfc3339(body.expires))


def _staged_waiting(stages: Iterable[Record], steps: Iterable[Record], river: River, system: str) -> Iterable[StagedWaiting]:
    staged = [record for record in stages if record.body.stage == "model_registration" and record.body.outcome == "passed"]
    if not staged or any(step.body.staged == staged[-1].body.output for step in steps):
        return
    heard = river.archive.decisions_on(Digest.parse(staged[-1].body.output), "staged-model")
    if not any(one.body.decision == "reject" for one in heard):
        yield StagedWaiting(staged[-1].body.output, _at(staged[-1]), staged[-1].index)


def _rests_on_exception(full: Record, by_output: dict[str, Record]) -> bool:
    """Whether a verdict that may not be passed by itself lies on the way to this rollout."""
    found, todo = False, [str(full.body.approval)]
    while todo:
        digest = todo.pop()
        if digest in by_output:
            found = found or by_output[digest].body.outcome == "failed"
            todo += by_output[digest].body.inputs.values()
    return found


def _holdouts(evaluated: Iterable[Record]) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in evaluated:
        features = record.body.inputs["features"]
        found[features] = (found[features] if features in found else 0) + 1
    return found
