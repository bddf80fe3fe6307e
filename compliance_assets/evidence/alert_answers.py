"""Which answers of people to an alert count: who acknowledged it, who closed it, and why another word does not count. Pure.

An answer is a decision of purpose `alert`: signed by the person's own key, its one subject the statement that opened the alert, under a
name that says what they do (`ANSWERS`). The exported `verify.py` holds this module's text, so readers here and the auditor count alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ANSWERS: Mapping[str, str] = {"alert-acknowledged": "acknowledged", "alert-closed": "closed"}
"""What a person does, by the name of the subject that they sign."""


@dataclass(frozen=True)
class OpenedAlert:
    """An alert as its opening says it. `shown`: the digest of `shown_alert`, which whoever answers it signs with it."""

    index: int
    digest: str
    owners: frozenset[str]
    shown: str


@dataclass(frozen=True)
class SignedAnswer:
    """A decision about alerts, its signature verified. `governing`: the roles that approved definitions when it was recorded."""

    index: int
    digest: str
    subjects: tuple[tuple[str, str], ...]
    decision: str
    person: str
    role: str
    shown: str
    revokes: str
    governing: frozenset[str]


def shown_alert(index: int, digest: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a person is shown who answers an alert: where it stands and the whole of what the rule found, from its opening alone."""
    return {"form": "alert", "ledger_index": index, "statement": digest, "alert": dict(body)}


def answers_counted(opened: Iterable[OpenedAlert], said: Iterable[SignedAnswer]) -> tuple[
        dict[tuple[str, str], SignedAnswer], tuple[tuple[SignedAnswer, str], ...]]:
    """The answers that count, by opening and `acknowledged` or `closed`; and the others, each with the reason. Oldest first.

    Each is held against these, in order; the first that it fails is its reason:
    1. its one subject is an answer to an alert of this system that was opened before it;
    2. it says so (`approve`), and its maker was shown that very alert;
    3. it comes from a role that owns the alert, or that approves definitions;
    4. its maker has not taken it back;
    5. the alert still waited for it.
    """
    alerts = {one.digest: one for one in opened}
    decisions = sorted(said, key=lambda one: one.index)
    made = {one.digest: one.person for one in decisions}
    revoked = {one.revokes for one in decisions if one.decision == "revoke" and made.get(one.revokes) == one.person}
    counted: dict[tuple[str, str], SignedAnswer] = {}
    refused: list[tuple[SignedAnswer, str]] = []
    for one in decisions:
        if one.decision == "revoke":
            continue
        why = _not_an_answer(one, alerts) or ("they took it back" if one.digest in revoked else "")  # (1) to (4)
        if not why:
            (name, digest), = one.subjects
            # (5)
            closed = (digest, "closed") in counted
            if closed or (digest, ANSWERS[name]) in counted:
                why = f"the alert was {'closed' if closed else 'acknowledged'} already"
            else:
                counted[digest, ANSWERS[name]] = one
        if why:
            refused.append((one, why))
    return counted, tuple(refused)


def _not_an_answer(one: SignedAnswer, alerts: Mapping[str, OpenedAlert]) -> str:
    # (1)
    if len(one.subjects) != 1 or one.subjects[0][0] not in ANSWERS:
        return "it is about something else than one alert"
    digest = one.subjects[0][1]
    if digest not in alerts or alerts[digest].index >= one.index:
        return "no alert of this system with that digest was opened before it"
    # (2)
    if one.decision != "approve":
        return "it neither acknowledges nor closes"
    if one.shown != alerts[digest].shown:
        return "its maker was shown another alert"
    # (3)
    if one.role not in alerts[digest].owners | one.governing:
        return f"the role {one.role} does not own this alert"
    return ""
