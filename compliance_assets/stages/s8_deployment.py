"""Stage 8, Deployment: Approval → DeploymentRecord (registry: production).

Authority first: a valid approval of exactly this model for exactly this environment and rollout plan, or nothing happens. Then
intent → shadow → canary … → full, each step recorded before it is acted on, put into force by the environment's supervisor,
and judged on what callers and logs show. A step that breaks an abort criterion ends the rollout: `aborted` is recorded, the
previous version answers everybody again, the registry stays as it was, and a new approval is needed. Too few requests is no
verdict: the step holds, and deploying again goes on from there. Killed at any moment, it resumes at the first step without
a result. Art. 12(1), Art. 17(1)(a), Art. 20, Art. 72, Annex IV(6) and (9).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from compliance_assets.errors import Busy, OutOfTurn, ServingError, Waiting
from compliance_assets.evidence import anchoring, inbox, verification_summary
from compliance_assets.evidence.conditions import overdue
from compliance_assets.evidence.decisions import rollout_digest
from compliance_assets.evidence.deployments import DesiredState, Happened, Rollout, desired_state
from compliance_assets.evidence.exceptions import excuse_for
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.policy.system import CanaryStep, ShadowStep
from compliance_assets.registry import Registry
from compliance_assets.serving.client import Client
from compliance_assets.serving.inference_log import read_log
from compliance_assets.serving.router import read_access
from compliance_assets.serving.supervisor import environment_folder, holdings, is_supervised, ports_of, read_status
from compliance_assets.stages import s8_measures as measures
from compliance_assets.stages.s4_model_evaluation import EvaluationReport
from compliance_assets.stages.s5_model_registration import StagedModel
from compliance_assets.stages.s6_integration_testing import IntegrationReport, candidate_of
from compliance_assets.stages.s7_approval import Approval
from compliance_assets.stages.s8_return import reviews_due
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import Digest, decimal_string, digest_of, parse_canonical, parse_rfc3339, rfc3339

RULE = rule_named("deployment")
POLL_SECONDS = 0.5
SETTLING = timedelta(seconds=2)
"""A request younger than this may not be in every log yet; nor does one count that came this soon after a step began."""
LATE_COPIES = timedelta(seconds=10)
"""A mirrored copy that a busy shadow has not decided by then is one that it did not answer."""
PUT_INTO_FORCE_SECONDS = 120.0
VERIFYING_CALLS = 10
VERIFYING_SECONDS = 15.0
MOST_CRASHES = 3
BEGINNINGS = ("shadow_started", "canary_started", "full_rollout")


class StepResult(BaseModel):
    """What one step of the rollout came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    kind: Literal["shadow", "canary", "full"]
    share: str
    record: int
    """Ledger index of the record that began it."""
    counts: dict[str, int]
    findings: tuple[dict[str, Any], ...]
    verdict: str


class DeploymentRecord(Value):
    """A rollout and how it ended."""

    environment: str
    approval: str
    staged: str
    model: str
    release: str
    slot: str
    authority: tuple[dict[str, Any], ...]
    steps: tuple[StepResult, ...]
    outcome: Literal["production", "aborted", "refused"]
    previous_model: str
    previous_approval: str


@dataclass
class _Rolling:
    """One rollout under way."""

    work: Work
    approval: Approval
    staged: StagedModel
    environment: str

    @property
    def state(self) -> DesiredState:
        return desired_state(self.environment, self.work.archive.deployments(self.environment))

    @cached_property
    def tested(self) -> tuple[float, ...]:
        """What the model said of its holdout when it was assessed; read where a rule of the rollout compares with it."""
        if not any(rule.metric == "score_shift" for rule in self.work.definition.system.deployment.abort_when):
            return ()
        import polars as pl

        store = self.work.artefacts
        report = EvaluationReport.model_validate(parse_canonical(store.get_bytes(Digest.parse(self.staged.evaluation))))
        scores = pl.read_parquet(store.open_path(Digest.parse(report.scores)), columns=["score"])["score"]
        return tuple(scores.filter(scores.is_finite()).to_list())

    @property
    def rollout(self) -> Rollout:
        return self.state.rollouts[self.approval.digest]

    def append(self, action: str, *, slot: str, step: int, share: str = "0", evidence: Mapping[str, Any] | None = None,
               reason: str = "", previous_model: str = "", previous_approval: str = "") -> int:
        """Record a step; returns its ledger index."""
        work = self.work
        version = {"system": self.staged.system, "release": self.staged.release, "model": self.staged.model,
                   "definition": self.staged.definition, "environment": self.environment}
        record = work.archive.append_deployment(DeploymentStep(
            system=self.staged.system, environment=self.environment, action=action,
            release=self.staged.release, staged=self.staged.digest, model=self.staged.model, approval=self.approval.digest,
            slot=slot, share=share, step=step, previous_model=previous_model,
            previous_approval=previous_approval, run=work.driver.run_id, launcher=work.driver.launcher, at=rfc3339(work.now()),
            definition=self.staged.definition, trust_policy=work.organisation.digest, composite_version=digest_of(version),
            evidence=dict(evidence or {}), reason=reason, demonstration=work.organisation.demonstration))
        work.tell("deployment_step", action=action, step=step, share=share, record=record.index)
        return int(record.index)


def authority(work: Work, approval: Approval, staged: StagedModel, state: DesiredState) -> tuple[Finding, ...]:
    """Whether this approval lets exactly this model be deployed now.

    1. It is about this staged model and these bytes. 2. It is for the declared environment, which exists.
    3. It covers the rollout plan as declared. 4. Definition and trust policy are those it was given under.
    5. It has not lapsed (a rollout that began in time may go on), and nobody has revoked or rejected since.
    6. It has not been used up by a rollout that ended. 7. No emergency act here waits for its review beyond its date.
    8. The exceptions that its evaluation rests on still stand; one that lapsed or was revoked ends a rollout under way.
    9. Every condition of the decisions that it counts is met, or its day has not passed.
    """
    declared = work.definition.system.deployment
    rollout = state.rollouts.get(approval.digest)
    model = Digest.parse(staged.model)
    said_no = [r for r in work.archive.decisions_on(model, "model")
               if (r.body.decision == "revoke" and r.body.revokes in approval.decisions)
               or (r.body.decision == "reject" and r.body.scope.environment == approval.environment)]
    environment = work.organisation.environments.get(declared.environment)
    replaced = (rollout is not None and any(h.action == "full_rollout" for h in rollout.happened)
                and (state.production is None or state.production.approval != approval.digest))
    overdue = [due for due in reviews_due(work.archive, work.organisation, declared.environment) if due.due < work.now()]
    used_up = rollout.last.action if rollout is not None and rollout.ended else "another version replaced it" if replaced else ""
    return (
        # (1)
        fact("authority.staged_model", approval.staged_model == staged.digest, value=approval.staged_model, bound=staged.digest),
        fact("authority.model", approval.model == staged.model, value=approval.model, bound=staged.model),
        # (2)
        fact("authority.environment", approval.environment == declared.environment, value=approval.environment,
             bound=declared.environment),
        fact("authority.environment_exists", environment is not None, value=declared.environment,
             note="" if environment is not None else "organisation.yaml has no such environment"),
        # (3)
        fact("authority.rollout_plan", approval.rollout == rollout_digest(work.definition.system), value=approval.rollout,
             bound=rollout_digest(work.definition.system)),
        # (4)
        fact("authority.definition", approval.definition == work.definition.digest, value=approval.definition,
             bound=work.definition.digest),
        fact("authority.trust_policy", approval.trust_policy == work.organisation.digest, value=approval.trust_policy,
             bound=work.organisation.digest),
        # (5)
        fact("authority.valid", rollout is not None or (bool(approval.expires) and parse_rfc3339(approval.expires) > work.now()),
             value=approval.expires or "never approved", note="the rollout began in time" if rollout is not None else ""),
        fact("authority.stands", not said_no and bool(approval.approvers),
             value=", ".join(r.body.person for r in said_no) or "nobody", bound="nobody",
             note="people who have revoked or rejected since"),
        # (6)
        fact("authority.not_used_up", not used_up, value=used_up or "free", bound="free",
             note="its rollout ended; a new approval is needed" if used_up else ""),
        # (7)
        fact("authority.reviews", not overdue or rollout is not None, bound="none overdue",
             value=", ".join(f"{due.action} in entry {due.index}" for due in overdue) or "none overdue",
             note="an emergency act was not reviewed in time" if overdue else ""),
        # (8)
        _exceptions(work, approval),
        # (9)
        _conditions(work, approval),
    )


def _conditions(work: Work, approval: Approval) -> Finding:
    """Whether an approval that was given under a condition still counts."""
    counted = [record for digest in approval.decisions for record in work.archive.find(Digest.parse(digest), "statement")]
    if not approval.decisions or {str(record.digest) for record in counted} != set(approval.decisions):
        return fact("authority.conditions", False, value="a decision that it counts is not in the ledger", bound="none overdue")
    late = [f"{record.body.person}: {why}" for record in counted if (why := overdue(work.archive, record, work.now()))]
    return fact("authority.conditions", not late, value="; ".join(late) or "none overdue", bound="none overdue")


def _exceptions(work: Work, approval: Approval) -> Finding:
    """Whether what failed in the evaluation is excepted now, where something failed."""
    evaluated = work.archive.executions_of(Digest.parse(approval.evaluation_report))[-1]
    if evaluated.body.outcome == "passed":
        return fact("authority.exceptions", True, value="none needed", bound="all in force")
    excuse = excuse_for(work.archive, evaluated, work.now())
    return fact("authority.exceptions", bool(excuse), bound="all in force",
                value="all in force" if excuse else "; ".join(excuse.because) or "nothing is excepted",
                note=", ".join(f"{gate} failed and is excepted until {each.body.expires}" for gate, each in excuse.by.items()))


def produce(work: Work, *, approval: Approval, staged_model: StagedModel) -> Draft:
    """Roll out, or go on rolling out. `Waiting` while a step holds, or while nobody supervises the environment."""
    begun = time.monotonic()
    rolling = _Rolling(work, approval, staged_model, work.definition.system.deployment.environment)
    results: list[StepResult] = []
    with work.home.lock(f"deploy-{rolling.environment}", what=f"another deployment to {rolling.environment}"):
        allowed = _allowed_now(rolling)
        if not all(allowed):
            return Draft(_stopped(rolling, allowed, ()), {})
        _require_anchor(rolling)
        _require_place(rolling, rolling.state)
        rollout = _intend(rolling, allowed)
        for step, _ in enumerate(work.definition.system.deployment.steps):
            before = results[-1] if results else None
            result = _earlier_result(rollout, step)
            if result is None:
                # People may have changed their minds while the step before ran.
                allowed = _allowed_now(rolling)
                if not all(allowed):
                    return Draft(_stopped(rolling, allowed, tuple(results)), {})
                result = _carry_out(rolling, step, before)
            results.append(result)
            work.tell("step_judged", step=step, kind=result.kind, verdict=result.verdict, **result.counts)
            if result.verdict != Verdict.PASS.value:
                results[-1] = _return(rolling, result)
                break
    outcome: Literal["production", "aborted"] = "production" if results[-1].verdict == Verdict.PASS.value else "aborted"
    return Draft(_record(rolling, rollout.slot.name, allowed, tuple(results), outcome, rollout),
                 {"seconds": f"{time.monotonic() - begun:.1f}"})


def _allowed_now(rolling: _Rolling) -> tuple[Finding, ...]:
    """The authority at this moment, with what people have sent until now."""
    admitted, refused = inbox.admit(rolling.work.archive)
    rolling.work.tell("inbox_read", admitted=len(admitted), refused=[f"{name}: {why}" for name, why in refused])
    return authority(rolling.work, rolling.approval, rolling.staged, rolling.state)


def _stopped(rolling: _Rolling, allowed: tuple[Finding, ...], results: tuple[StepResult, ...]) -> DeploymentRecord:
    """Nothing is begun without authority; a candidate that lost it under way (revoked, rejected) stops answering."""
    state = rolling.state
    rollout = state.rollouts.get(rolling.approval.digest)
    if rollout is None or state.candidate is None or state.candidate.approval != rolling.approval.digest:
        return _record(rolling, "", allowed, results, "refused", None)
    previous = rollout.previous
    rolling.append("aborted", slot=rollout.slot.name, step=rollout.last.step,
                   reason="; ".join(finding.sentence() for finding in allowed if not finding)[:2000],
                   previous_model=previous.model if previous else "", previous_approval=previous.approval if previous else "")
    return _record(rolling, rollout.slot.name, allowed, results, "aborted", rollout)


def _record(rolling: _Rolling, slot: str, allowed: tuple[Finding, ...], steps: tuple[StepResult, ...],
            outcome: Literal["production", "aborted", "refused"], rollout: Rollout | None) -> DeploymentRecord:
    previous = rollout.previous if rollout is not None else None
    staged = rolling.staged
    return DeploymentRecord(
        system=staged.system, environment=rolling.environment, approval=rolling.approval.digest, staged=staged.digest,
        model=staged.model, release=staged.release, slot=slot, authority=tuple(f.as_json() for f in allowed), steps=steps,
        outcome=outcome, previous_model=previous.model if previous else "", previous_approval=previous.approval if previous else "")


def _require_place(rolling: _Rolling, state: DesiredState) -> None:
    """The environment is this system's, no other rollout is under way there, and somebody keeps it running."""
    environment = rolling.environment
    if state.system not in ("", rolling.staged.system):
        raise Busy(f"{environment} serves {state.system}; one environment answers for one system.",
                   rule="one system per environment", value=state.system,
                   remedy="Declare another deployment.environment, with ports of its own in organisation.yaml.")
    if state.candidate is not None and state.candidate.approval != rolling.approval.digest:
        raise Busy(f"Another rollout is under way in {environment}: release {state.candidate.release[:12]}.",
                   rule="one rollout at a time", value=state.candidate.approval,
                   remedy="Let it end, or withdraw it: `compliance withdraw`. Or have its approval taken back (`compliance revoke`) and "
                          "that release deployed again: it is then ended, and this one can begin.")
    if not is_supervised(rolling.work.home, environment):
        raise Waiting(f"Nobody keeps the servers of {environment} running.", rule="supervised environment", value=environment,
                      remedy=f"Start `compliance serve {environment}` (or `compliance up`), then deploy again.")


def _require_anchor(rolling: _Rolling) -> None:
    """Refuse to begin in production without the demanded anchors over the approval; a rollout that began may go on."""
    work = rolling.work
    environment = work.organisation.environments[rolling.environment]
    if environment.production and rolling.approval.digest not in rolling.state.rollouts:
        approved = work.archive.executions_of(rolling.approval.digest)[-1].index
        anchoring.require(work.archive, work.organisation, work.definition.root, approved + 1, work.now())


def _intend(rolling: _Rolling, allowed: tuple[Finding, ...]) -> Rollout:
    """Record the intent, once, with the gate's verdict and all that a server needs to be started from the records alone."""
    state, staged = rolling.state, rolling.staged
    if rolling.approval.digest in state.rollouts:
        return state.rollouts[rolling.approval.digest]
    candidate = candidate_of(rolling.work, staged)
    tested = IntegrationReport.model_validate(parse_canonical(
        rolling.work.artefacts.get_bytes(Digest.parse(rolling.approval.integration_report))))
    if tested.model != staged.model:
        raise OutOfTurn("The approval rests on an integration test of another model.", rule="one release", value=tested.model,
                        remedy="Test and approve this model.")
    previous = state.production
    work = rolling.work
    verdict = verification_summary.issue(work.archive, work.archive.executions_of(rolling.approval.digest)[-1], Digest.parse(staged.model),
                                         rolling.environment, allowed, work.now())
    rolling.append("intent", slot=state.free_slot, step=0, evidence={
        verification_summary.NAMED: verdict,
        "snapshot": tested.snapshot, "trusted_types": list(candidate.trusted_types), "feature_names": list(candidate.feature_names),
        "threshold": decimal_string(rolling.work.definition.system.evaluation.decision_threshold)},
        previous_model=previous.model if previous else "", previous_approval=previous.approval if previous else "")
    return rolling.rollout


def _began(rollout: Rollout, step: int) -> Happened | None:
    """The record that began a step, if there is one."""
    return next((h for h in rollout.happened if h.step == step and h.action in BEGINNINGS), None)


def _earlier_result(rollout: Rollout, step: int) -> StepResult | None:
    """The result of a step that passed before: the next step's record holds it."""
    after = _began(rollout, step + 1)
    return StepResult.model_validate(after.evidence["judged"]) if after is not None else None


def _carry_out(rolling: _Rolling, step: int, before: StepResult | None) -> StepResult:
    """Begin a step if it has not begun, see it put into force, and judge it."""
    plan = rolling.work.definition.system.deployment.steps[step]
    rollout = rolling.rollout
    began = _began(rollout, step)
    kind: Literal["shadow", "canary", "full"]
    if isinstance(plan, ShadowStep):
        action, kind, share = "shadow_started", "shadow", "0"
    elif isinstance(plan, CanaryStep):
        action, kind, share = "canary_started", "canary", decimal_string(plan.canary.share)
    else:
        action, kind, share = "full_rollout", "full", "1"
    index = began.index if began is not None else rolling.append(
        action, slot=rollout.slot.name, step=step, share=share,
        evidence={"judged": before.model_dump(mode="json")} if before else {},
        previous_model=rollout.previous.model if rollout.previous else "",
        previous_approval=rollout.previous.approval if rollout.previous else "")
    dead = _put_into_force(rolling, rollout, index)
    if kind == "full":
        findings = _verified(rolling, dead)
        return _result(step, kind, share, index, {"calls": VERIFYING_CALLS}, findings)
    return _watch(rolling, rollout, step, kind, share, index, dead)


def _result(step: int, kind: Literal["shadow", "canary", "full"], share: str, index: int, counts: dict[str, int],
            findings: tuple[Finding, ...]) -> StepResult:
    report = conclude(kind, 1, findings)
    verdict = Verdict.PASS if report else Verdict.FAIL
    return StepResult(step=step, kind=kind, share=share, record=index, counts=counts, findings=tuple(f.as_json() for f in findings),
                      verdict=verdict.value)


def _put_into_force(rolling: _Rolling, rollout: Rollout, index: int) -> str:
    """Wait until the supervisor says that the step holds. Returns why the candidate's server does not run, or ""."""
    until = time.monotonic() + PUT_INTO_FORCE_SECONDS
    while time.monotonic() < until:
        if _in_force(rolling, index):
            return ""
        dead = _dead(rolling, rollout)
        if dead:
            return dead
        if not is_supervised(rolling.work.home, rolling.environment):
            break
        time.sleep(POLL_SECONDS)
    raise Waiting(f"The step in ledger entry {index} has not been put into force in {rolling.environment}.", rule="rollout step",
                  value=str(index), remedy=f"Look at `compliance status`; is `compliance serve {rolling.environment}` running? "
                                           "Deploy again to continue.")


def _in_force(rolling: _Rolling, index: int) -> bool:
    """Whether the state that a record brought about holds at this moment (an earlier supervisor's word does not count)."""
    if not is_supervised(rolling.work.home, rolling.environment):
        return False
    spans = holdings(rolling.work.home, rolling.environment, index)
    return bool(spans) and not spans[-1].end


def _dead(rolling: _Rolling, rollout: Rollout) -> str:
    """Why the candidate's server will not answer: it refused to load, or keeps crashing."""
    status = read_status(rolling.work.home, rolling.environment)
    server = status["servers"].get(rollout.slot.name) if status is not None else None
    if server is None or server["approval"] != rollout.approval:
        return ""
    if server["state"] == "refused" or server["crashes"] >= MOST_CRASHES:
        return f"{server['state']}: {server['reason']}"
    return ""


def _watch(rolling: _Rolling, rollout: Rollout, step: int, kind: Literal["shadow", "canary"], share: str, index: int,
           dead: str) -> StepResult:
    """Wait for the step's requests, within the declared time, and judge what they showed."""
    work = rolling.work
    declared = work.definition.system.deployment
    plan = declared.steps[step]
    canaries = [s.canary.minimum_group for s in declared.steps if isinstance(s, CanaryStep)]
    wanted = plan.shadow.requests if isinstance(plan, ShadowStep) else plan.canary.requests if isinstance(plan, CanaryStep) else 0
    minimum = plan.canary.minimum_group if isinstance(plan, CanaryStep) else canaries[0]
    attributes = {name: tuple(str(g) for g in d.groups) for name, d in work.definition.system.data.protected.items()}
    until = time.monotonic() + declared.wait_seconds
    while True:
        observed = observe(rolling, rollout, kind, index)
        findings, missing = measures.judged(observed, declared.abort_when, wanted=wanted, minimum_group=minimum, groups=attributes,
                                            alive=dead or _dead(rolling, rollout))
        if not missing:
            return _result(step, kind, share, index, observed.counts, findings)
        if time.monotonic() > until:
            raise Waiting(
                f"The {kind} of {work.definition.system.system} in {rolling.environment} holds: {'; '.join(missing)}.",
                rule=f"rollout step {kind}", value=f"{len(observed.meant)} of {wanted}",
                remedy="Send traffic, or wait for it, and deploy again to continue; nothing was judged.")
        work.tell("step_waiting", kind=kind, requests=len(observed.meant), wanted=wanted)
        time.sleep(POLL_SECONDS)


def observe(rolling: _Rolling, rollout: Rollout, kind: str, index: int) -> measures.Observed:
    """Everything in the logs from the spans in which the step held."""
    folder = environment_folder(rolling.work.home, rolling.environment)
    spans = holdings(rolling.work.home, rolling.environment, index)
    if not spans:
        return measures.Observed(kind, rollout.slot, rollout.previous, (), (), rolling.tested)
    # The servers' own clock, which wrote the logs; not the run's.
    now = datetime.now(UTC)
    settled, given_up = rfc3339(now - SETTLING), rfc3339(now - LATE_COPIES)
    # The router's worker takes up a change of routes a moment after its admin port has confirmed it.
    spans = tuple(replace(span, start=rfc3339(parse_rfc3339(span.start) + SETTLING)) for span in spans)
    since = spans[0].start
    ports = ports_of(rolling.work.organisation, rolling.environment)
    requests = [passed for prefix in ("/predict", "/v2/models/")
                for passed in read_access(folder / "router" / "access.jsonl", ports, since=since, prefix=prefix)]
    known = tuple(passed for passed in requests if measures.within(spans, passed.time, settled))
    ids = {passed.request_id for passed in known}
    decisions = tuple(decision for decision in read_log(folder / "log", since=since) if decision.request_id in ids)
    if kind == "shadow":
        decided = {decision.request_id for decision in decisions if decision.model == rollout.slot.model}
        known = tuple(passed for passed in known if passed.request_id in decided or passed.time <= given_up)
    return measures.Observed(kind, rollout.slot, rollout.previous, known, decisions, rolling.tested)


def _verified(rolling: _Rolling, dead: str) -> tuple[Finding, ...]:
    """Callers of the router are answered by the approved model, every time."""
    until = time.monotonic() + VERIFYING_SECONDS
    models = [] if dead else _answering(rolling)
    while set(models) != {rolling.staged.model} and not dead and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        models = _answering(rolling)
    right = sum(model == rolling.staged.model for model in models)
    others = sorted({model for model in models if model != rolling.staged.model})
    return (fact("full.server", not dead, value=dead or "answers", bound="answers"),
            fact("full.answering_model", right == VERIFYING_CALLS, value=f"{right} of {VERIFYING_CALLS} calls",
                 bound=f"{VERIFYING_CALLS} of {VERIFYING_CALLS} calls",
                 note=f"also answered: {', '.join(others)}" if others else "",
                 because="production answers with exactly the approved bytes"))


def _answering(rolling: _Rolling) -> list[str]:
    """The model that answers, over several calls through the router; "" for a call that nobody answers."""
    found: list[str] = []
    ports = ports_of(rolling.work.organisation, rolling.environment)
    for _ in range(VERIFYING_CALLS):
        try:
            with Client(f"http://127.0.0.1:{ports.callers}", seconds=5) as client:
                answer = client.get("/version")
                found.append(str(answer.json()["model"]) if answer.status == 200 else "")
        except ServingError:
            found.append("")
    return found


def _return(rolling: _Rolling, result: StepResult) -> StepResult:
    """Record that the rollout ends here, and see that the previous version answers everybody again."""
    rollout = rolling.rollout
    previous = rollout.previous
    failures = [Finding.read(body) for body in result.findings]
    reason = "; ".join(f.sentence() for f in failures if not f)[:2000]
    names = {"previous_model": previous.model if previous else "", "previous_approval": previous.approval if previous else ""}
    evidence = {"judged": result.model_dump(mode="json")}
    if rollout.ended:
        index = rollout.last.index
    elif result.kind != "full":
        index = rolling.append("aborted", slot=rollout.slot.name, step=result.step, evidence=evidence, reason=reason, **names)
    elif previous is None:
        index = rolling.append("withdrawn", slot=rollout.slot.name, step=result.step, evidence=evidence, reason=reason, **names)
    else:
        index = _roll_back(rolling, rollout, result, reason)
    until = time.monotonic() + PUT_INTO_FORCE_SECONDS
    wanted = previous.model if previous else ""
    answering: set[str] = set()
    while time.monotonic() < until and is_supervised(rolling.work.home, rolling.environment):
        if _in_force(rolling, index):
            answering = set(_answering(rolling))
            if answering == {wanted}:
                break
        time.sleep(POLL_SECONDS)
    back = fact(f"{result.kind}.previous_answers_again", answering == {wanted}, value=", ".join(sorted(answering)) or "nobody",
                bound=wanted or "nobody")
    rolling.work.tell("returned", to=wanted or "nobody", confirmed=bool(back), record=index)
    return result.model_copy(update={"findings": (*result.findings, back.as_json())})


def _roll_back(rolling: _Rolling, rollout: Rollout, result: StepResult, reason: str) -> int:
    """Production goes back to the version before: the record names what answers again."""
    previous = rollout.previous
    assert previous is not None
    work = rolling.work
    record = work.archive.append_deployment(DeploymentStep(
        system=previous.system, environment=rolling.environment, action="rolled_back", release=previous.release,
        staged=previous.staged, model=previous.model, approval=previous.approval, slot=previous.name, share="1", step=result.step,
        previous_model=rolling.staged.model, previous_approval=rolling.approval.digest, run=work.driver.run_id,
        launcher=work.driver.launcher, at=rfc3339(work.now()), definition=previous.definition,
        trust_policy=work.organisation.digest, composite_version=previous.composite_version,
        evidence={"judged": result.model_dump(mode="json")}, reason=reason, demonstration=work.organisation.demonstration))
    work.tell("deployment_step", action="rolled_back", step=result.step, record=record.index)
    return int(record.index)


def judge(work: Work, draft: Draft, *, approval: Approval, staged_model: StagedModel) -> Iterator[GateReport]:
    """Authority, shadow, canary, full; from the sealed record."""
    record = draft.value
    assert isinstance(record, DeploymentRecord)
    versions = {gate.name: gate.version for gate in RULE.gates}
    same = (record.approval, record.staged, record.model) == (approval.digest, staged_model.digest, approval.model)
    bound_to = fact("authority.record", same, value=record.model, bound=approval.model)
    yield conclude("authority", versions["authority"], [*(Finding.read(body) for body in record.authority), bound_to])
    for kind in ("shadow", "canary", "full"):
        yield conclude(kind, versions[kind],
                       [Finding.read(body) for step in record.steps if step.kind == kind for body in step.findings])


def publish(work: Work, draft: Draft, reports: tuple[GateReport, ...], *, staged_model: StagedModel,
            **_: object) -> Mapping[str, str]:
    """staging → production in the registry, once every gate has passed; otherwise the registry stays as it is."""
    registry = Registry(work.home)
    name, version = staged_model.registry_name, staged_model.registry_version
    if reports and all(reports):
        registry.promote(name, version)
    return {"registry_name": name, "registry_version": version, "lifecycle": registry.lifecycle(name, version)}


STAGE = Stage(RULE, DeploymentRecord, produce, judge, publish)
