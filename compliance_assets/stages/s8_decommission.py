"""A system is taken out of service for good: people decide, the ledger says so first, servers stop, and nothing is deployed any more.

Taking a system out of service needs the people who approve definitions (organisation.yaml), each signing the same subject. The record
ends every rollout, stops whatever answers, and starts the retention clock; bringing the system back would be another system, with
another name. Art. 17(1)(a), Art. 18(1); the quorum is this project's own.
"""

from __future__ import annotations

from compliance_assets.errors import Misused, Waiting
from compliance_assets.evidence.archive import Archive, Record, quorum
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.evidence.deployments import DesiredState, Slot
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.policy.organisation import Organisation
from compliance_assets.policy.system import places
from compliance_assets.registry import Registry
from compliance_assets.stages.s8_return import Place, _ordered, _registered
from compliance_assets.trust.canonical import Digest, digest_of, rfc3339


def subject_of(system: str, environment: str) -> Digest:
    """What people sign when they decide that a system is taken out of service."""
    return digest_of({"decommission": system, "environment": environment})


def heard(archive: Archive, system: str, environment: str, organisation: Organisation) -> tuple[tuple[Record, ...], str]:
    """Whose decisions stand, and what is still missing (empty: enough people decided, and nobody said no)."""
    decisions = [record for record in archive.decisions_on(subject_of(system, environment), "decommission")
                 if record.body.scope.purpose == "decommission"]
    revoked = taken_back(decisions)
    standing = {record.body.person: record for record in decisions
                if record.body.decision == "approve" and record.digest not in revoked}
    no = [record.body.person for record in decisions if record.body.decision == "reject" and record.digest not in revoked]
    people = {person: record.body.role for person, record in standing.items()}
    wanted = organisation.definitions.approved_by
    if no:
        return tuple(standing.values()), f"{', '.join(no)} said no"
    if quorum(people, wanted):
        return tuple(standing.values()), ""
    missing = [f"{needed - have} × {role}" for role, needed in places(wanted).items()
               if (have := sum(1 for held in people.values() if held == role)) < needed]
    return tuple(standing.values()), "; ".join(missing)


def decommission(place: Place, reason: str) -> Record:
    """Record that the system is out of service, then let the registry follow; the servers follow the ledger.

    1. There is a reason and a known person; organisation.yaml and the clock may be relied on. 2. It was deployed here, and is not out of
    service yet. 3. Enough people decided so, and nobody said no.
    """
    # (1)
    _ordered(place, reason)
    with place.home.lock(f"deploy-{place.environment}", what=f"a deployment to {place.environment}"):
        state = place.state
        # (2)
        slot = _last(place, state)
        # (3)
        decisions, missing = heard(place.archive, place.system, place.environment, place.organisation)
        if missing:
            raise Waiting(f"{place.system} stays in service: waiting for {missing}.", rule="decommission", value=missing,
                          remedy=f"Each signs: `compliance decommission {place.system} --as YOU --role ROLE --reason '…'`.")
        record = place.archive.append_deployment(DeploymentStep(
            system=place.system, environment=place.environment, action="decommissioned", release=slot.release, staged=slot.staged,
            model=slot.model, approval=slot.approval, slot=slot.name, share="0", step=0,
            previous_model=state.production.model if state.production is not None else "",
            previous_approval=state.production.approval if state.production is not None else "", run=place.driver.run_id,
            launcher=place.driver.launcher, at=rfc3339(place.now()), definition=slot.definition, trust_policy=place.organisation.digest,
            composite_version=slot.composite_version, reason=reason.strip(), demonstration=place.organisation.demonstration,
            evidence={"ordered_by": place.person.id, "decisions": [str(one.digest) for one in decisions]}))
    if state.production is not None:
        registry, (name, version) = Registry(place.home), _registered(place, state.production)
        registry.close(name, version, "archived")
    return record


def _last(place: Place, state: DesiredState) -> Slot:
    """The version that is in production, or was last."""
    if place.system in state.decommissioned:
        raise Misused(f"{place.system} is out of service in {place.environment} already.", rule="decommission", value=place.system,
                      remedy="Nothing is left to be done; how long its evidence is kept: `compliance retention`.")
    if state.production is not None and state.production.system == place.system:
        return state.production
    deployed = [rollout.slot for rollout in state.rollouts.values() if rollout.slot.system == place.system
                and any(happened.action == "full_rollout" for happened in rollout.happened)]
    if not deployed:
        raise Misused(f"{place.system} was never in service in {place.environment}.", rule="decommission", value=place.environment,
                      remedy="A rollout under way ends with `compliance withdraw`; what never served needs no decommissioning.")
    return deployed[-1]
