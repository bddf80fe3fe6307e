"""The forms of the page *Definitions*: who may approve a definition, or organisation.yaml, as its files stand, and what they sign.

The form is there only for what is on record and not in force: pages hold no key, and put nothing into the ledger themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compliance_assets.errors import Misused
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.evidence.records import DefinitionProposed, Statement, TrustPolicy
from compliance_assets.governance.deciding import definition_shown, definition_statement, trust_policy_shown, trust_policy_statement
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import Digest, digest_of
from compliance_assets.web.desk import Sheet, arrived, require_signer
from compliance_assets.web.people import People
from compliance_assets.web.sessions import Session

PAGE = "/definitions"
MOST_SHOWN = 50


def definition_place(river: River, system: str, person: str) -> dict[str, Any]:
    """What this person can do about the definition at hand: their roles that count, what they are shown, and why nothing is asked."""
    digest = river.definition(system).digest
    on_record = any(isinstance(one.body, DefinitionProposed) for one in river.archive.find(digest, "subject:definition"))
    return _place(river, person, system, "definition", digest, river.archive.definition_in_force(system) == digest, on_record,
                  f"compliance definition propose {system}", digest_of(definition_shown(river, system)))


def trust_policy_place(river: River, person: str) -> dict[str, Any]:
    """The same about organisation.yaml at hand."""
    digest = river.organisation.digest
    on_record = any(isinstance(one.body, TrustPolicy) for one in river.archive.find(digest, "subject:trust-policy"))
    return _place(river, person, "", "trust-policy", digest, river.archive.in_force().digest == digest, on_record,
                  "compliance definition propose --trust-policy", digest_of(trust_policy_shown(river)))


def _place(river: River, person: str, system: str, purpose: str, digest: Digest, in_force: bool, on_record: bool, propose: str,
           shown: Digest) -> dict[str, Any]:
    policy = river.archive.in_force()
    roles = [role for role in policy.person(person).roles if role in {need.role for need in policy.definitions.approved_by}]
    waits = any(one.body.person == person and one.subjects[0][1] == digest for one in arrived(river, purpose, system))
    barred = ("it is in force" if in_force else f"it is not on record yet: {propose}" if not on_record
              else "your approval has arrived, and waits to be taken into the ledger" if waits
              else "you have approved it" if _approved(river.archive.decisions_on(digest, purpose), person) else "")
    return {"roles": roles, "barred": barred, "shown": str(shown), "digest": str(digest)}


def _approved(found: tuple[Record, ...], person: str) -> bool:
    decisions = [one for one in found if one.statement.kind == "decision"]
    revoked = taken_back(decisions)
    return any(one.body.decision == "approve" and one.body.person == person and one.digest not in revoked for one in decisions)


def approval(river: River, system: str, session: Session, people: People, form: Mapping[str, str], seconds: int) -> Statement:
    """The statement that follows from the form; `system`: empty for organisation.yaml; `seconds`: how long the page was open."""
    what = f"The definition of {system}" if system else "organisation.yaml"
    place = definition_place(river, system, session.person) if system else trust_policy_place(river, session.person)
    if place["shown"] != form.get("shown", ""):
        raise Misused(f"{what} has changed since you opened it: nothing was signed.", rule="what was shown", value=place["digest"][:12],
                      remedy="Read what is new; then decide.")
    if system:
        river.archive.require_trust_policy()  # a definition is approved under the people in force, not under a draft of others
    if place["barred"]:
        raise Misused(f"Nothing is asked of you: {place['barred']}.", rule="one decision at a time", value=session.person,
                      remedy="An approval is taken back with `compliance revoke`.")
    role = form.get("role", "").strip()
    require_signer(river, people, session, role)
    if role not in place["roles"]:
        raise Misused(f"{what} is not approved as {role}.", rule="role", value=role,
                      remedy=f"It needs {', '.join(need.role for need in river.archive.in_force().definitions.approved_by)}.")
    said = form.get("reason", "")
    if not system:
        return trust_policy_statement(river, session.person, role, "approve", said, opened_seconds=seconds)
    return definition_statement(river, system, session.person, role, "approve", said, opened_seconds=seconds)


def sheet_of(river: River, statement: Statement) -> Sheet:
    """How the statement is put before whoever signs it."""
    body, digest = statement.body, str(statement.subjects[0][1])
    system, role = body.scope.system, body.role.replace("_", " ")
    if not system:
        return Sheet(PAGE, "Definitions", "Approve organisation.yaml?", "pass", "You approve", f"the people, keys and environments of "
                     f"organisation.yaml as it stands, as {role}. Once enough people of the policy before it have, it decides who counts.",
                     (("Trust policy", digest), ("Takes the place of", str(river.archive.in_force().digest))))
    compared = definition_shown(river, system)["compared"]
    facts = [("Definition", digest), ("Takes the place of", str(river.archive.definition_in_force(system) or "none: it is the first"))]
    if compared is not None:
        facts += [("Taken together, its changes", f"{compared['direction']} (proposed class {compared['class']}; a person determines it)"),
                  ("To be looked at by", ", ".join(compared["review"]) or "nobody in particular")]
        for number, one in enumerate(compared["changes"][:MOST_SHOWN], 1):
            said = f"{one['where']}: {one['what']}: {one['before']} → {one['after']}"
            facts.append((f"Change {number}", f"{one['direction']}, {one['class']}: {said}"))
        if (left := len(compared["changes"]) - MOST_SHOWN) > 0:
            facts.append(("And more", f"{left} further changes, on the page of the definition"))
    title = river.definition(system).system.title
    return Sheet(f"{PAGE}/{system}", title, "Approve this definition?", "pass", "You approve",
                 f"the definition of {title} as its files stand, as {role}. Once enough people have, it binds every new run.", tuple(facts))
