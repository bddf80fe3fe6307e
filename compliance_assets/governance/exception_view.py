"""Exceptions as people read them: what failed, why it may go on, what compensates, until when, and whether it counts now.

The failed verdict is never shown without its exception, nor the exception without the verdict.
"""

from __future__ import annotations

from typing import Any

from compliance_assets.evidence import exceptions
from compliance_assets.evidence.archive import Record
from compliance_assets.pipeline import River


def listed(river: River, system: str) -> list[dict[str, Any]]:
    """Every exception of a system, newest first, and where it stands now."""
    found = [exceptions.standing(river.archive, record, river.now()) for record in river.archive.of_kind("exception", system)]
    return [shown(one) for one in reversed(found)]


def one_shown(river: River, record: Record) -> dict[str, Any]:
    """One exception, and where it stands now."""
    return shown(exceptions.standing(river.archive, record, river.now()))


def shown(one: exceptions.ExceptionStanding) -> dict[str, Any]:
    """One exception as pages and JSON show it. `standing`: "in force", or why it does not count."""
    body = one.record.body
    return {"statement": str(one.record.digest), "ledger_index": one.record.index, "gate": body.gate, "stage": body.stage,
            "findings": [finding["sentence"] for finding in body.findings], "severity": body.severity, "reason": body.reason,
            "compensating": list(body.compensating), "remediation": body.remediation, "root_cause": body.root_cause,
            "requested_by": body.requested_by, "at": body.at, "expires": body.expires, "definition": body.definition,
            "approvers": [{"person": person, "role": role} for person, role in one.approvers],
            "missing": [{"role": role, "people": people} for role, people in one.missing], "standing": one.why or "in force"}
