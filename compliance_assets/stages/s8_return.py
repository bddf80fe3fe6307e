"""Production goes back to a version that was in production before, or stops: by a person's order, the ledger first.

Going back needs no fresh approval, because the version had one: it is judged by the definition and the trust policy recorded at its
own decision. What was aborted, withdrawn or taken back never answers again, nor what somebody has rejected or revoked since. Where
nothing can be gone back to, withdraw: better no answer than an unapproved one. In an emergency the lock of a rollout under way is
not waited for, the state before is kept by digest, and somebody else must review the act in time; an overdue review blocks further
deployments. Art. 17(1)(a), Art. 20, Art. 73(6) (nothing that explains an incident is lost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from compliance_assets.errors import ArtefactCorrupt, Misused, OutOfTurn
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.authority import serving_authority
from compliance_assets.evidence.deployments import DesiredState, Slot, desired_state
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.policy.organisation import Organisation, Person
from compliance_assets.registry import Registry
from compliance_assets.stages.s5_model_registration import StagedModel
from compliance_assets.stages.stage import Driver
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical, parse_rfc3339, rfc3339

REVIEW_WORKING_DAYS = 2
"""Until an emergency act must have been reviewed by somebody else. The law names no number; this one is the project's."""
SHORTEST_REASON = 20


@dataclass(frozen=True)
class Place:
    """One system in one environment, and who acts."""

    archive: Archive
    organisation: Organisation
    home: Home
    system: str
    environment: str
    driver: Driver
    now: Callable[[], datetime]

    @property
    def state(self) -> DesiredState:
        return desired_state(self.environment, self.archive.deployments(self.environment))

    @property
    def person(self) -> Person:
        """Who gives the order; a refusal if organisation.yaml knows nobody under this user name."""
        for person in self.organisation.people:
            if self.driver.launcher in person.launchers:
                return person
        raise OutOfTurn(f"organisation.yaml knows nobody who works as {self.driver.launcher}.", rule="known person",
                        value=self.driver.launcher, remedy="Name the user under `launchers` of somebody there, and have it approved.")


@dataclass(frozen=True)
class ReviewDue:
    """An emergency act that somebody else has not reviewed yet."""

    statement: Digest
    index: int
    action: str
    launcher: str
    due: datetime


def roll_back(place: Place, reason: str, *, emergency: bool = False, to: str = "") -> Record:
    """Record that an earlier version answers again, then act on it. `to`: beginning of its release, model or approval.

    1. There is a reason and a known person; organisation.yaml and the clock may be relied on. 2. Something of this system is in
    production. 3. The target was fully rolled out here and was neither aborted, withdrawn nor taken back. 4. Its approval, with
    everything under it, passed under the definition and trust policy recorded then. 5. Nobody has rejected or revoked it since.
    6. Its bytes are there. 7. No rollout is under way (an emergency does not wait). 8. The ledger first, then the registry; servers
    follow the ledger.
    """
    # (1)
    _ordered(place, reason)
    with _place_held(place, emergency):
        state = place.state
        # (2)
        production = _production(place, state)
        # (3)
        target = _target(place, state, production, to)
        # (4), (5), (6)
        _require_authority(place, target)
        # (8)
        record = place.archive.append_deployment(_step(place, "rolled_back", target, reason, emergency, state, production))
    registry, (name, version) = Registry(place.home), _registered(place, target)
    registry.rollback(name, version, leaving="quarantined" if emergency else "archived")
    return record


def withdraw(place: Place, reason: str, *, emergency: bool = False, what: str = "") -> Record:
    """Record that a version stops answering for good and nothing takes its place; default: the one in production."""
    _ordered(place, reason)
    with _place_held(place, emergency):
        state = place.state
        running = [slot for slot in (state.production, state.candidate, state.standby) if slot is not None and slot.system == place.system]
        named = [slot for slot in running if _is_named(slot, what)] if what else [s for s in running if s == state.production]
        if len(named) != 1:
            raise Misused(f"{len(named)} versions of {place.system} that run in {place.environment} are meant.", rule="withdraw",
                          value=what or "production", remedy=f"Running: {_listed(running)}. Name one with --version.")
        record = place.archive.append_deployment(_step(place, "withdrawn", named[0], reason, emergency, state, state.production))
    registry, (name, version) = Registry(place.home), _registered(place, named[0])
    registry.close(name, version, "withdrawn")
    return record


def reviews_due(archive: Archive, organisation: Organisation, environment: str) -> tuple[ReviewDue, ...]:
    """Emergency acts in an environment that nobody but their author has reviewed, oldest first."""
    found: list[ReviewDue] = []
    for record in archive.deployments(environment):
        if "review_due" not in record.body.evidence or not record.body.evidence["review_due"]:
            continue
        author = {person.id for person in organisation.people if record.body.launcher in person.launchers}
        reviewed = any(decision.body.person not in author for decision in archive.decisions_on(record.digest, "return")
                       if decision.statement.kind == "decision" and decision.body.scope.purpose == "return")
        if not reviewed:
            found.append(ReviewDue(record.digest, record.index, record.body.action, record.body.launcher,
                                   parse_rfc3339(record.body.evidence["review_due"])))
    return tuple(found)


# ---------------------------------------------------------------------------------------------------------------- the parts


def _ordered(place: Place, reason: str) -> None:
    if len(reason.strip()) < SHORTEST_REASON:
        raise Misused(f"A reason of at least {SHORTEST_REASON} characters is part of the record.", rule="reason", value=reason.strip(),
                      remedy="Say what happened and why this is the answer.")
    place.archive.require_trust_policy()
    place.archive.check_clock(place.now())
    _ = place.person


@contextmanager
def _place_held(place: Place, emergency: bool) -> Iterator[None]:
    """Alone in the environment; an emergency does not wait for the rollout that may be the reason for it (appends are atomic)."""
    if emergency:
        yield
        return
    with place.home.lock(f"deploy-{place.environment}", what=f"a deployment to {place.environment}; in an emergency, --emergency goes on"):
        yield


def _production(place: Place, state: DesiredState) -> Slot:
    if state.production is None or state.production.system != place.system:
        raise Misused(f"Nothing of {place.system} answers in {place.environment}.", rule="rollback", value=place.environment,
                      remedy="A candidate under way ends with `compliance withdraw`.")
    return state.production


def _target(place: Place, state: DesiredState, production: Slot, to: str) -> Slot:
    """The version to go back to: the latest that was fully rolled out before, or the one that is named."""
    done = {rollout.approval: max(h.index for h in rollout.happened if h.action == "full_rollout")
            for rollout in state.rollouts.values()
            if any(h.action == "full_rollout" for h in rollout.happened) and not rollout.ended and rollout.approval != production.approval}
    known = [state.rollouts[approval].slot for approval in sorted(done, key=lambda approval: -done[approval])]
    found = [slot for slot in known if _is_named(slot, to)] if to else known[:1]
    if len(found) != 1:
        raise OutOfTurn(
            f"There is {'no' if not found else 'more than one'} version of {place.system}{f' called {to}' if to else ''} to go back to in "
            f"{place.environment}.", rule="rollback target", value=to or "the one before",
            remedy=f"Fully rolled out here, and not ended: {_listed(known)}. Or stop it: `compliance withdraw {place.system}`.")
    return found[0]


def _is_named(slot: Slot, text: str) -> bool:
    return len(text) >= 6 and any(digest.startswith(text) for digest in (slot.release, slot.model, slot.approval))


def _listed(slots: list[Slot]) -> str:
    return ", ".join(f"release {slot.release[:12]}" for slot in slots) or "none"


def _require_authority(place: Place, target: Slot) -> None:
    # (4)
    serving_authority(place.archive, place.environment, Digest.parse(target.model), "rollout", target.approval)
    approval = parse_canonical(place.archive.artefacts.get_bytes(Digest.parse(target.approval)))
    # (5)
    said_no = [r.body.person for r in place.archive.decisions_on(Digest.parse(target.model), "model") if (
        (r.body.decision == "revoke" and r.body.revokes in approval["decisions"])
        or (r.body.decision == "reject" and r.body.scope.environment == place.environment))]
    if said_no:
        raise OutOfTurn(f"Release {target.release[:12]} may not answer again: {', '.join(said_no)} revoked or rejected it.",
                        rule="rollback target", value=target.release, remedy=f"Stop instead: `compliance withdraw {place.system}`.")
    # (6)
    try:
        place.archive.artefacts.open_path(Digest.parse(target.model))
    except ArtefactCorrupt as error:
        raise OutOfTurn(f"Release {target.release[:12]} cannot answer again: {error.message}", rule="rollback target", value=target.model,
                        remedy=f"Stop instead: `compliance withdraw {place.system}`.") from error


def _step(place: Place, action: Literal["rolled_back", "withdrawn"], slot: Slot, reason: str, emergency: bool, state: DesiredState,
          before: Slot | None) -> DeploymentStep:
    now = place.now()
    evidence: dict[str, Any] = {"ordered_by": place.person.id, "emergency": emergency,
                                "snapshot": place.archive.artefacts.put_bytes(canonical_json(_snapshot(place, state))),
                                "review_due": rfc3339(_working_days_after(now, REVIEW_WORKING_DAYS)) if emergency else ""}
    return DeploymentStep(
        system=slot.system, environment=place.environment, action=action, release=slot.release, staged=slot.staged, model=slot.model,
        approval=slot.approval, slot=slot.name, share="1" if action == "rolled_back" else "0", step=0,
        previous_model=before.model if before is not None else "", previous_approval=before.approval if before is not None else "",
        run=place.driver.run_id, launcher=place.driver.launcher, at=rfc3339(now), definition=slot.definition,
        trust_policy=place.organisation.digest, composite_version=slot.composite_version, evidence=evidence, reason=reason.strip(),
        demonstration=place.organisation.demonstration)


def _snapshot(place: Place, state: DesiredState) -> dict[str, Any]:
    """What ran and who got which share, before anything is changed; with the ledger's head, so that it can be placed."""
    return {"environment": state.environment, "head": place.archive.head().model_dump(),
            "production": _slot(state.production), "candidate": _slot(state.candidate), "standby": _slot(state.standby),
            "candidate_share": state.candidate_share, "shadow": state.shadow, "record": state.index}


def _slot(slot: Slot | None) -> dict[str, Any] | None:
    return {**asdict(slot), "evidence": dict(slot.evidence)} if slot is not None else None


def _working_days_after(moment: datetime, days: int) -> datetime:
    while days:
        moment += timedelta(days=1)
        days -= moment.weekday() < 5
    return moment


def _registered(place: Place, slot: Slot) -> tuple[str, str]:
    staged = StagedModel.model_validate(parse_canonical(place.archive.artefacts.get_bytes(Digest.parse(slot.staged))))
    return staged.registry_name, staged.registry_version
