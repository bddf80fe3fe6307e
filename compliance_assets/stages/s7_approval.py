"""Stage 7, Pre-Deployment Approval: both reports + people's signatures → Approval.

People decide, outside, with their own keys; this stage admits what they signed and counts it. It halts while anybody is still
to be heard, which is no verdict, and fails when somebody said no. No setting, variable or run config approves anything.
Basis: Art. 17(1)(a), (d) and (m), Art. 9(8); aligned with Art. 14, which is about oversight in use, not about this step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compliance_assets.errors import OutOfTurn, Waiting, no_environment
from compliance_assets.evidence import inbox
from compliance_assets.evidence.change_class import release_change
from compliance_assets.evidence.conditions import overdue
from compliance_assets.evidence.decisions import Standing, release_subjects, standing
from compliance_assets.evidence.dossier import Dossier
from compliance_assets.evidence.exceptions import excuses
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.stages.s4_model_evaluation import EvaluationReport
from compliance_assets.stages.s5_model_registration import StagedModel
from compliance_assets.stages.s6_integration_testing import IntegrationReport
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import Digest, parse_rfc3339, rfc3339

RULE = rule_named("pre_deployment_approval")


class Approval(Value):
    """People's approval of exactly one staged model for exactly one environment and rollout plan."""

    environment: str
    staged_model: str
    evaluation_report: str
    integration_report: str
    model: str
    rollout: str
    definition: str
    trust_policy: str
    decisions: tuple[str, ...]
    """Digests of the signed decisions that were counted, in ledger order; or of the rejection that ended it."""
    approvers: tuple[tuple[str, str], ...]
    """Who, in which role (pseudonymous ids)."""
    expires: str
    decided: str
    """When the last of these decisions was signed. No clock of ours: counting the same decisions again makes the same approval,
    so that a rollout that holds goes on under it."""
    promotable: bool
    demonstration: bool
    change: str
    """The class of the definition's change since the release in production, from which it followed who had to approve."""


def count(work: Work, staged_model: StagedModel, evaluation_report: EvaluationReport,
          integration_report: IntegrationReport) -> tuple[Standing, Mapping[str, Digest]]:
    """Where the approval of this release stands now."""
    system = work.definition.system
    name = system.deployment.environment
    environment = work.organisation.environments.get(name)
    if environment is None:
        raise no_environment(name, system.system, work.organisation.environments)
    dossier = Dossier(system.system, work.definition.digest, work.archive.executions_of, excuses(work.archive, work.now()))
    chain = dossier.require(RULE, {"staged_model": staged_model.digest, "evaluation_report": evaluation_report.digest,
                                   "integration_report": integration_report.digest})
    subjects = release_subjects(chain, staged_model.digest, integration_report.digest, Digest.parse(staged_model.model), system)
    decisions = work.archive.decisions_on(Digest.parse(staged_model.model), "model")
    now = work.now()
    return standing(decisions, subjects, system.approval, work.organisation, environment, name, chain, now,
                    change=release_change(work.archive, work.definition, staged_model.digest).kind,
                    overdue=lambda record: overdue(work.archive, record, now)), subjects


def produce(work: Work, *, staged_model: StagedModel, evaluation_report: EvaluationReport,
            integration_report: IntegrationReport) -> Draft:
    """Admit the inbox, count what stands, and say what it comes to. Raises `Waiting` while somebody is still to be heard."""
    if staged_model.evaluation != evaluation_report.digest or integration_report.staged != staged_model.digest:
        raise OutOfTurn("The reports are about another model than the staged one.", rule="one release", value=staged_model.digest,
                        remedy="Run integration testing again for the staged model.")
    admitted, refused = inbox.admit(work.archive)
    work.tell("inbox_read", admitted=len(admitted), refused=[f"{name}: {why}" for name, why in refused])
    found, subjects = count(work, staged_model, evaluation_report, integration_report)
    if not found and not found.rejected:
        raise Waiting(
            f"Waiting for {found.waiting_for()} to decide on {work.definition.system.system} release {staged_model.release[:12]}.",
            rule="approval", value=staged_model.digest,
            remedy=f"Look with `compliance review {work.definition.system.system}`, decide with `compliance approve` or `reject`.")
    records = found.rejected or found.counted
    expires = found.expires
    environment = work.organisation.environments[work.definition.system.deployment.environment]
    return Draft(Approval(
        system=work.definition.system.system, environment=work.definition.system.deployment.environment,
        staged_model=staged_model.digest, evaluation_report=evaluation_report.digest, integration_report=integration_report.digest,
        model=staged_model.model, rollout=subjects["rollout"], definition=work.definition.digest,
        trust_policy=work.organisation.digest, decisions=tuple(record.digest for record in records),
        approvers=tuple((record.body.person, record.body.role) for record in found.counted),
        expires=rfc3339(expires) if expires else "", promotable=environment.promotable,
        decided=max((record.body.issued for record in records), key=parse_rfc3339),
        demonstration=work.organisation.demonstration, change=release_change(work.archive, work.definition, staged_model.digest).kind))


def judge(work: Work, draft: Draft, *, staged_model: StagedModel, evaluation_report: EvaluationReport,
          integration_report: IntegrationReport) -> Iterator[GateReport]:
    """Signatures, quorum, separation, freshness; from the ledger again, not from what `produce` said."""
    found, _ = count(work, staged_model, evaluation_report, integration_report)
    gates = {gate.name: gate.version for gate in RULE.gates}
    people = [record.body.person for record in found.counted]
    # Every record in `found` was authenticated when it was read; here it is said which.
    yield conclude("signatures", gates["signatures"], [
        fact(f"signatures.{record.body.person}", True, value=record.digest[:12], bound=record.digest[:12],
             because="signed with the key that organisation.yaml gives this person, over exactly these digests")
        for record in (*found.counted, *found.rejected)])
    policy = work.definition.system.approval
    if found.rejected:
        yield conclude("quorum", gates["quorum"], [
            Finding(f"quorum.rejected_by.{record.body.person}", Verdict.FAIL, value="reject", comparator="==", bound="approve",
                    note=record.body.rationale) for record in found.rejected])
    else:
        environment = work.organisation.environments[policy_environment(work)]
        if environment.approvals == "one_person":
            yield conclude("quorum", gates["quorum"], [fact("quorum.one_person", len(people) >= 1, value=len(people), bound=1,
                                                            comparator=">=", note="an environment that is not production")])
        else:
            yield conclude("quorum", gates["quorum"], [
                fact(f"quorum.{role}", have >= needed, value=have, bound=needed, comparator=">=")
                for role, needed in policy.required(release_change(work.archive, work.definition, staged_model.digest).kind).items()
                for have in (sum(1 for record in found.counted if record.body.role == role),)])
    yield conclude("separation", gates["separation"], [
        *(fact(f"separation.{rule}", True, value=", ".join(people) or "nobody", because="counted approvals only")
          for rule in policy.separation),
        fact("separation.nobody_twice", len(people) == len(set(people)) or "distinct_people" not in policy.separation,
             value=len(set(people)), bound=len(people))])
    expires = found.expires
    yield conclude("freshness", gates["freshness"], [
        fact("freshness.expires", expires is not None and expires > work.now(), value=rfc3339(expires) if expires else "never approved",
             bound=f"after {rfc3339(work.now())}", comparator=">=")] if not found.rejected else
        [Finding("freshness", Verdict.NOT_APPLICABLE, note="rejected")])


def policy_environment(work: Work) -> str:
    """The environment that the declaration deploys to."""
    return work.definition.system.deployment.environment


STAGE = Stage(RULE, Approval, produce, judge)
