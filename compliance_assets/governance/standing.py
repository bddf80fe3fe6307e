"""Where a system stands: its stages under the definition at hand, what is in production, and what it waits for."""

from __future__ import annotations

from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.governance.review import open_review
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, rule_named


def standing_of(river: River, system: str) -> dict[str, Any]:
    """One system, as `compliance status` shows it. Unknown is written as unknown."""
    definition = river.definition(system)
    in_force = river.archive.definition_in_force(system) == definition.digest
    stages = [_stage(river, system, rule.name) for rule in RIVER]
    state = river.archive.state(definition.system.deployment.environment)
    production = state.production if state.production is not None and state.production.system == system else None
    return {
        "system": system, "title": definition.system.title, "definition": definition.digest, "in_force": in_force,
        "production": f"release {production.release[:12]}, model {production.model[:12]}" if production else "",
        "stages": stages, "waits_for": _waits_for(river, system, stages, in_force, state.candidate is not None),
    }


def _stage(river: River, system: str, stage: str) -> dict[str, Any]:
    rule = rule_named(stage)
    definition = river.definition(system).digest
    newest = next((record for record in reversed(river.archive.made_by(system, stage)) if record.body.definition == definition), None)
    if newest is None:
        return {"number": rule.number, "stage": stage, "title": rule.title, "state": "not run", "digest": "", "when": "", "failures": []}
    body = newest.body
    failures = [finding.sentence() for report in body.reports if report.verdict.value != "NOT_RUN" for finding in report.failures]
    return {"number": rule.number, "stage": stage, "title": rule.title, "state": body.outcome, "digest": body.output,
            "when": body.finished, "failures": failures}


def _waits_for(river: River, system: str, stages: list[dict[str, Any]], in_force: bool, under_way: bool) -> str:
    """The one next thing, in words."""
    for stage in stages:
        if stage["state"] in ("failed", "error"):
            return f"somebody to mend what {str(stage['title']).lower()} refused"
        if stage["state"] == "passed":
            continue
        rule = rule_named(stage["stage"])
        if rule.kind == "act" and not in_force:
            return f"the approval of its definition: `compliance definition approve {system}`"
        if stage["stage"] == "pre_deployment_approval":
            try:
                _, _, found = open_review(river, system)
            except ComplianceError as error:
                return str(error)
            return f"people: {found.waiting_for()}" if not found else f"its approval to be admitted: `compliance deploy {system}`"
        if stage["stage"] == "deployment" and not under_way:
            # What was approved may have lapsed, or been taken back, since.
            try:
                _, _, found = open_review(river, system)
            except ComplianceError as error:
                return str(error)
            if not found:
                return f"people: {found.waiting_for()}"
        return f"{stage['stage']}: `compliance {'deploy' if stage['stage'] == 'deployment' else 'run'} {system}`"
    return "nothing: it is deployed"
