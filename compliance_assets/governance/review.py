"""What a person is shown before deciding about a release, as one document whose digest goes into the signed decision.

From records alone: every gate with its findings, what a machine cannot settle, who was heard, what approval authorises and
when the rollout undoes itself. The document is canonical JSON, so that what was shown can be shown again years later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import no_environment
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.change_class import ReleaseChange, release_change
from compliance_assets.evidence.conditions import conditions_of, overdue
from compliance_assets.evidence.decisions import Standing, release_subjects, standing
from compliance_assets.evidence.dossier import Chain
from compliance_assets.evidence.exceptions import standing as standing_of
from compliance_assets.governance.change_control import since_production
from compliance_assets.governance.charts.findings import name_words, plainly
from compliance_assets.governance.charts.reading import is_narrow, words
from compliance_assets.governance.exception_view import shown
from compliance_assets.pipeline import River, require
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    from compliance_assets.policy.system import System


def open_review(river: River, system: str) -> tuple[Chain, dict[str, Digest], Standing]:
    """The release of `system` that waits for people: its chain, what a decision binds, and what was decided so far."""
    return river.archive.once(("review", system), lambda: _opened(river, system))


def _change(river: River, system: str, staged: Digest) -> ReleaseChange:
    definition = river.definition(system)
    key = ("release change", system, staged, definition.digest)
    return river.archive.derived(key, lambda: release_change(river.archive, definition, staged))


def _required(river: River, system: str, inputs: dict[str, Digest]) -> Chain:
    """As `require`. An exception counts for a time; where none was ever asked for, the records and the definition decide alone."""
    rule = rule_named("pre_deployment_approval")
    if river.archive.of_kind("exception", system):
        return require(river, system, rule, inputs)
    key = ("required", system, river.definition(system).digest, tuple(sorted(inputs.items())))
    return river.archive.derived(key, lambda: require(river, system, rule, inputs))


def _opened(river: River, system: str) -> tuple[Chain, dict[str, Digest], Standing]:
    rule = rule_named("pre_deployment_approval")
    inputs = {name: digest for name in rule.needs if (digest := river.head(system, name))}
    chain = _required(river, system, inputs)
    definition = river.definition(system).system
    name = definition.deployment.environment
    environment = river.organisation.environments.get(name)
    if environment is None:
        raise no_environment(name, system, river.organisation.environments)
    model = Digest.parse(str(getattr(river.value("staged_model", chain.digest("staged_model")), "model")))  # noqa: B009
    subjects = release_subjects(chain, chain.digest("staged_model"), chain.digest("integration_report"), model, definition)
    found = standing(river.archive.decisions_on(model, "model"), subjects, definition.approval, river.organisation, environment, name,
                     chain, river.now(), change=_change(river, system, chain.digest("staged_model")).kind,
                     overdue=lambda record: overdue(river.archive, record, river.now()))
    return chain, subjects, found


def review_document(river: River, system: str) -> dict[str, Any]:
    """Everything that the reviewer is shown. Deterministic for a given ledger; carries no moment of its own."""
    chain, subjects, found = open_review(river, system)
    declared = river.definition(system).system
    staged = river.value("staged_model", chain.digest("staged_model"))
    references = chain.records["evaluation_report"].body.references
    return {
        "system": system,
        "title": declared.title,
        "provider": declared.provider,
        "intended_purpose": declared.intended_purpose,
        "release": staged.model_dump()["release"],
        "registry": f"{staged.model_dump()['registry_name']} version {staged.model_dump()['registry_version']}",
        "environment": declared.deployment.environment,
        "demonstration": river.organisation.demonstration,
        "subjects": {name: str(digest) for name, digest in subjects.items()},
        "stages": [_stage(chain.records[rule.makes]) for rule in RIVER if rule.makes in chain.records],
        "judgement": _judgement(chain, river, system, references),
        "change": _change(river, system, chain.digest("staged_model")).as_json(),
        "conditions": [one.as_json() for one in conditions_of(river.archive, found.counted)],
        "exceptions": [shown(standing_of(river.archive, record, river.now())) for record in chain.exceptions],
        "replaces": references["production"] if "production" in references else "",
        "definition_since": since_production(river, system),
        "heard": [{"person": r.body.person, "role": r.body.role, "at": r.body.issued, "rationale": r.body.rationale,
                   "statement": str(r.digest)}
                  for r in found.counted],
        "missing": [{"role": role, "people": people} for role, people in found.missing],
        "not_counted": [{"person": person, "why": why} for person, why in found.refused],
        "rejected": [{"person": r.body.person, "rationale": r.body.rationale, "statement": str(r.digest)} for r in found.rejected],
        "authorises": authorised(declared),
        "undoes_itself": undoes_itself(declared),
        "valid_for": declared.approval.valid_for,
        "separation": list(declared.approval.separation),
        "launchers": list(chain.launchers),
        "authors": list(chain.authors),
    }


def _stage(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "stage": body.stage, "output": body.output, "ledger_index": record.index, "statement": record.digest, "run": body.run,
        "launched_by": body.launcher, "finished": body.finished, "commit": body.code.commit, "dirty": body.code.dirty,
        "gates": [{"gate": report.gate, "verdict": report.verdict.value,
                   "findings": [finding.as_json() | {"sentence": finding.sentence()} for finding in report.findings]}
                  for report in body.reports],
    }


def _judgement(chain: Chain, river: River, system: str, references: dict[str, str]) -> list[str]:
    """What the gates cannot settle, in sentences."""
    said: list[str] = []
    for record in chain.records.values():
        for report in record.body.reports:
            said += [f"{plainly(finding, report.gate)}: passes, but narrowly." for finding in report.findings if is_narrow(finding)]
            said += [f"{_named(finding, report.gate)} is not applicable: {finding.note}." for finding in report.findings
                     if finding.verdict is Verdict.NOT_APPLICABLE]
    failed = [r for r in river.archive.made_by(system, "integration_testing")
              if r.body.outcome != "passed" and r.body.inputs.get("staged_model") == chain.digest("staged_model")]
    if failed:
        said.append(f"Integration testing passed after {len(failed)} failed attempt{'s' if failed[1:] else ''} on the same staged model.")
    evaluated = len(river.archive.made_by(system, "model_evaluation"))
    said.append(f"{evaluated} evaluation{'s' if evaluated != 1 else ''} of this system used a holdout so far.")
    if any(record.body.code.dirty for record in chain.records.values()):
        said.append("The working tree held changes that are in no commit, or was not under version control.")
    if "production" not in references:
        said.append("Nothing is in production: there is no incumbent to compare with.")
    if river.organisation.demonstration:
        said.append("This is a demonstration: people and keys were made by the program.")
    return said


def _named(finding: Finding, gate: str) -> str:
    """The gate and, where it is about a part of it only, that part."""
    what, over = name_words(finding, gate)
    return words(gate) if finding.id == gate else f"{words(gate)}: {', '.join(part for part in (what.lower(), over) if part)}"


def authorised(declared: System) -> list[str]:
    """What an approval lets happen, step by step, in words."""
    return [step_words(step) for step in declared.declaration()["deployment"]["steps"]]


def undoes_itself(declared: System) -> list[str]:
    """What makes the rollout go back to the version before it, in words."""
    return [abort_words(rule) for rule in declared.declaration()["deployment"]["abort_when"]]


def step_words(step: Mapping[str, Any]) -> str:
    """One declared step of a rollout, in words."""
    if "shadow" in step:
        return f"shadow: {step['shadow']['requests']} requests mirrored, no effect on anybody"
    if "canary" in step:
        canary = step["canary"]
        return (f"canary: {float(canary['share']):.0%} of requests, until {canary['requests']} answers, "
                f"with {canary['minimum_group']} or more for each group that is compared")
    return "full rollout"


def abort_words(rule: Mapping[str, Any]) -> str:
    """One declared rule that ends a rollout, in words."""
    over = f" over {words(rule['over']).lower()}" if rule["over"] else ""
    side = "above" if rule["above"] is not None else "below"
    return f"{words(rule['metric']).lower()}{over} {side} {str(rule[side]).removesuffix('.0')}"
