"""Is the place itself sound? A few quick questions, each with an answer, a problem, or unknown; the long one is `verification`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import inbox
from compliance_assets.evidence.archive import CLOCK_TOLERANCE
from compliance_assets.governance.overview import newest_moment
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import parse_rfc3339

LOW_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """One question about the place. `state`: well, problem, or unknown."""

    asks: str
    state: Literal["well", "problem", "unknown"]
    said: str


def checks(river: River) -> tuple[Check, ...]:
    """Every quick check, each answered even where another refuses."""
    asked: tuple[tuple[str, Callable[[River], Check]], ...] = (
        ("Is the ledger's newest head signed by the log's key?", _ledger), ("Is organisation.yaml the one that counts?", _people),
        ("Can every declaration be read?", _declarations), ("Is the clock after the newest entry?", _clock),
        ("Is every deployment entry obeyed?", _deployments), ("Was every decision in the inbox authentic?", _inbox),
        ("Is there room to write evidence?", _room))
    return tuple(_answered(river, question, ask) for question, ask in asked)


def _answered(river: River, question: str, ask: Callable[[River], Check]) -> Check:
    try:
        found = ask(river)
    except ComplianceError as error:
        return Check(question, "problem", str(error))
    return Check(question, found.state, found.said)


def _ledger(river: River) -> Check:
    head = river.archive.ledger.head()
    return Check("", "well", f"{head.size} entries, root {head.root.hex()}. The head only: verify everything for the rest.")


def _people(river: River) -> Check:
    return Check("", "well", f"Trust policy {river.archive.require_trust_policy().digest.short} is in force.")


def _declarations(river: River) -> Check:
    for name in river.systems:
        river.definition(name)
    return Check("", "well", ", ".join(river.systems)) if river.systems else Check("", "unknown", "No system is declared.")


def _clock(river: River) -> Check:
    newest = newest_moment(river)
    if newest is None:
        return Check("", "unknown", "The ledger is empty.")
    late = parse_rfc3339(newest) - river.now()
    if late > CLOCK_TOLERANCE:
        return Check("", "problem", f"The newest entry was made at {newest}, after this clock's now.")
    return Check("", "well", f"The newest entry is of {newest}, {_ago(-late)} ago.")


def _ago(passed: timedelta) -> str:
    minutes = int(passed.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _deployments(river: River) -> Check:
    ignored = [f"entry {index}: {why}" for name in river.organisation.environments
               for index, why in river.archive.state(name).ignored]
    if ignored:
        return Check("", "problem", "; ".join(ignored))
    return Check("", "well", "Yes. Whether servers answer is for `compliance serve`.")


def _inbox(river: River) -> Check:
    refused = sorted((river.home.inbox / "refused").glob("*.json"))
    if refused:
        return Check("", "problem", f"{len(refused)} set aside as not authentic, with their reasons, in inbox/refused.")
    return Check("", "well", f"{len(inbox.waiting(river.home.inbox))} waiting to be admitted, none set aside.")


def _room(river: River) -> Check:
    free = shutil.disk_usage(river.home.path).free
    return Check("", "well" if free >= LOW_BYTES else "problem", f"{free / (1 << 30):.1f} GiB free where the home is.")
