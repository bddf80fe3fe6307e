"""Where everything stands: what is in production since when and on whose word, what waits for whom, what is stale.

The first page of governance, as plain data. Nothing is guessed: what the records do not say is None here and written as unknown.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import inbox
from compliance_assets.evidence.deployments import DesiredState
from compliance_assets.governance.candidates import Fate, answering, approvers, candidates, fate, refused_since
from compliance_assets.governance.standing import standing_of
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER
from compliance_assets.trust.canonical import Digest, parse_rfc3339

LOOKS_BACK, MOST_REFUSED = timedelta(days=30), 25
_UNFINISHED = ("intent", "shadow_started", "canary_started")


def overview(river: River) -> dict[str, Any]:
    """Every declared system, and what concerns all of them."""
    systems = [_system(river, name) for name in river.systems]
    readable = [one["system"] for one in systems if "unreadable" not in one]
    now = river.now()
    refused, of = refused_since(river, readable, now - LOOKS_BACK, MOST_REFUSED)
    return {
        "organisation": river.organisation.name, "demonstration": river.organisation.demonstration, "profile": river.organisation.profile,
        "systems": systems,
        "refused": [{"candidate": one, "fate": said} for one, said in refused], "refused_of": of,
        "refused_since": now - LOOKS_BACK,
        "concerns": _concerns(river),
    }


def _system(river: River, name: str) -> dict[str, Any]:
    try:
        definition = river.definition(name)
        standing = standing_of(river, name)
        state = answering(river, name)
        newest = next(iter(candidates(river, name)), None)
        said = fate(river, newest, state) if newest is not None else None
        return {**standing, "risk": definition.system.risk.annex_iii, "environment": definition.system.deployment.environment,
                "production": _production(river, name, state), "candidate": newest, "fate": said,
                "stale": _stale(river, name, state, said)}
    except ComplianceError as error:
        return {"system": name, "unreadable": str(error)}


def _production(river: River, system: str, state: DesiredState) -> dict[str, Any] | None:
    """What answers, since when, on whose approval, and the ledger entries that say so; None where nothing does."""
    slot = state.production
    if slot is None or slot.system != system:
        return None
    rollout = state.rollouts[slot.approval]
    since = next((h for h in reversed(rollout.happened) if h.action in ("full_rollout", "rolled_back")), None)
    approval = [record for record in river.archive.executions_of(Digest.parse(slot.approval)) if record.body.outcome == "passed"]
    return {"release": slot.release, "model": slot.model, "since": since.at if since else None,
            "said_by": since.index if since else slot.intent, "approved_by": approvers(river, slot.approval),
            "approval_entry": approval[-1].index if approval else None,
            "definition": slot.definition}


def _stale(river: River, system: str, state: DesiredState, newest: Fate | None) -> list[str]:
    """What was true once and may not be now, in sentences."""
    definition = river.definition(system)
    found: list[str] = []
    force = river.archive.definition_in_force(system)
    if force is None:
        found.append(f"No definition of it is approved; the one at hand is {definition.digest.short}.")
    elif force != definition.digest:
        found.append(f"The files on disk are another definition ({definition.digest.short}) than the approved one ({force.short}): "
                     "verdicts under the old one no longer count for new work.")
    slot = state.production
    if slot is not None and slot.system == system and force is not None and slot.definition != force:
        found.append(f"What answers was judged under definition {slot.definition[:12]}, which is not the approved one any more.")
    if slot is not None and slot.system == system:
        taken = [record for digest in river.value("approval", Digest.parse(slot.approval)).model_dump()["decisions"]
                 for record in river.archive.find(Digest.parse(digest), "revoked")]
        found += [f"{record.body.person} took back the approval of what answers (entry {record.index}): {record.body.rationale}"
                  for record in taken]
    older = [rule.title for rule in RIVER if (made := river.archive.made_by(system, rule.name))
             and made[-1].body.outcome == "passed" and made[-1].body.definition != definition.digest]
    if older:
        found.append(f"Judged under an earlier definition only: {', '.join(older)}.")
    if newest is not None and newest.state == "expired":
        found.append(newest.sentence)
    unfinished = [r for r in state.rollouts.values() if r.slot.system == system and r.last.action in _UNFINISHED]
    found += [f"A rollout that began at {r.happened[0].at} has no end on record (last: {r.last.action.replace('_', ' ')})."
              for r in unfinished]
    return found + [f"Deployment entry {index} is not obeyed: {why}." for index, why in state.ignored
                    if river.archive.authentic(river.archive.ledger.entry(index)).body.system == system]


def _concerns(river: River) -> list[str]:
    """What concerns every system: the trust policy, the inbox, the newest entry."""
    found: list[str] = []
    try:
        river.archive.require_trust_policy()
    except ComplianceError as error:
        found.append(str(error))
    arrived = len(inbox.waiting(river.home.inbox))
    if arrived:
        found.append(f"{arrived} signed decision{'s have' if arrived > 1 else ' has'} arrived and "
                     f"{'are' if arrived > 1 else 'is'} not in the ledger yet; the approval stage admits what is authentic.")
    return found


def newest_moment(river: River) -> str | None:
    """When the newest ledger entry says that it was made; None for an empty ledger."""
    last = river.archive.ledger.last()
    if last is None:
        return None
    body = river.archive.authentic(last).body
    said = next((str(getattr(body, name)) for name in ("finished", "at", "issued") if hasattr(body, name)), None)
    return said if said is not None and parse_rfc3339(said) else None
