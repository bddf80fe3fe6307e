"""Which reviews wait for people: definitions, releases, exceptions, emergency acts; since when, for whom, and with which command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import exceptions
from compliance_assets.evidence.alerts import alerts_of
from compliance_assets.evidence.records import DefinitionProposed
from compliance_assets.governance.review import open_review
from compliance_assets.pipeline import River


@dataclass(frozen=True)
class Pending:
    """One review that waits. `entry`: the ledger index of what is to be reviewed."""

    what: str
    about: str
    since: str
    waits_for: str
    how: str
    entry: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def pending(river: River, system: str) -> tuple[Pending, ...]:
    """Every review of a system that waits for people, oldest first."""
    kinds = (_definition, _release, _exceptions, _returns, _alerts)
    return tuple(sorted((one for kind in kinds for one in kind(river, system)), key=lambda one: one.since))


def _definition(river: River, system: str) -> Iterator[Pending]:
    digest = river.definition(system).digest
    if river.archive.definition_in_force(system) == digest:
        return
    proposed = [one for one in river.archive.find(digest, "subject:definition") if isinstance(one.body, DefinitionProposed)]
    if proposed:
        roles = ", ".join(f"{need.people} × {need.role}" for need in river.archive.in_force().definitions.approved_by)
        yield Pending("definition", digest.short, proposed[-1].body.at, roles, f"compliance definition approve {system}",
                      proposed[-1].index)


def _release(river: River, system: str) -> Iterator[Pending]:
    try:
        chain, _, found = open_review(river, system)
    except ComplianceError:
        return  # nothing has come as far as people
    if not found and not found.rejected:
        ready = chain.records["integration_report"]
        yield Pending("release", str(chain.digest("staged_model"))[:12], ready.body.finished, found.waiting_for(),
                      f"compliance review {system}", ready.index)


def _exceptions(river: River, system: str) -> Iterator[Pending]:
    for record in river.archive.of_kind("exception", system):
        one = exceptions.standing(river.archive, record, river.now())
        if one.missing and record.body.expires > river.now().isoformat():
            yield Pending("exception", record.body.gate, record.body.at, ", ".join(f"{people} × {role}" for role, people in one.missing),
                          f"compliance exception approve {system} {record.digest}", record.index)


def _returns(river: River, system: str) -> Iterator[Pending]:
    environment = river.definition(system).system.deployment.environment
    for record in river.archive.deployments(environment):
        body = record.body
        if body.system == system and "emergency" in body.evidence and body.evidence["emergency"] \
                and not river.archive.decisions_on(record.digest, "return"):
            yield Pending("emergency act", body.action.replace("_", " "), body.at, f"anybody but {body.launcher}",
                          f"compliance review-return {system} {record.digest}", record.index)


def _alerts(river: River, system: str) -> Iterator[Pending]:
    for one in alerts_of(river.archive, system):
        if one.state == "open":
            yield Pending("alert", f"{one.opened.body.rule} {one.opened.body.about}", one.opened.body.at, one.opened.body.owner,
                          f"compliance alerts acknowledge {one.opened.index}", one.opened.index)
