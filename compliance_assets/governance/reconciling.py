"""What serves is held against what the ledger says, and a disagreement goes on record, once, until it changes or is gone."""

from __future__ import annotations

import time
from collections.abc import Callable

from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.evidence.records import Reconciliation, Statement, environment
from compliance_assets.pipeline import River
from compliance_assets.serving.reconciling import Compared, compare
from compliance_assets.serving.supervisor import ports_of
from compliance_assets.stages.stage import Driver
from compliance_assets.trust.canonical import rfc3339

PATIENCE_SECONDS = 15.0
"""A step that was just recorded is put into force by the supervisor in this time; a version that starts takes longer, and is said."""


def look(river: River, name: str, patience: float = PATIENCE_SECONDS, sleep: Callable[[float], None] = time.sleep) -> Compared:
    """Compare, again and again while there is a difference and patience is left: servers follow the ledger, not at once."""
    ports = ports_of(river.organisation, name)
    until = time.monotonic() + patience
    while True:
        found = compare(river.archive, river.home, ports, desired_state(name, river.archive.deployments(name)))
        if found or time.monotonic() >= until:
            return found
        sleep(1.0)


def record(river: River, found: Compared, driver: Driver) -> Record | None:
    """Put a disagreement on record, or its end; None where the ledger says so already, or where nothing was ever wrong."""
    last = latest(river, found.environment)
    before = tuple(last.body.differences) if last is not None else ()
    if before == found.differences:
        return None
    state = desired_state(found.environment, river.archive.deployments(found.environment))
    body = Reconciliation(
        system=state.system, environment=found.environment, agrees=bool(found), wanted=found.wanted, seen=found.seen,
        differences=found.differences, stopped=found.stopped, ledger=river.archive.head(), run=driver.run_id, launcher=driver.launcher,
        at=rfc3339(river.now()), trust_policy=river.organisation.digest, demonstration=river.organisation.demonstration)
    return river.archive.append(Statement((("environment", environment(found.environment)),), body))


def latest(river: River, name: str) -> Record | None:
    """The last reconciliation on record of an environment."""
    found = [one for one in river.archive.find(environment(name), "subject:environment") if isinstance(one.body, Reconciliation)]
    return found[-1] if found else None


def alert(found: Compared, entry: Record) -> dict[str, object]:
    """What people are told of a disagreement."""
    return {"event": "serving_disagrees", "system": entry.body.system, "environment": found.environment, "ledger_index": entry.index,
            "said": f"what answers in {found.environment} is not what the ledger says: {'; '.join(found.differences)}"}
