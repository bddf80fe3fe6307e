"""The runbook of a system, rendered from its definition: for each stage the command, what comes out, how it is verified, and by whom.

There is no second source: stages, gates and files come from the same river and declaration that the pipeline is driven by, so the runbook's
digest changes with the definition, and a run by hand under another definition is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, StageRule
from compliance_assets.trust.canonical import Digest, digest_of

QUARTER = timedelta(days=91)
SECOND_PERSON = ("model_evaluation", "pre_deployment_approval")
"""Stages whose step somebody else than the operator verifies."""
_FILES: Mapping[str, str] = {
    "dataset": "train, validation and holdout tables and dataset/quality_report.json",
    "features": "feature tables and features/report.json",
    "candidate_model": "model/model.skops, model/probe, model/training_record.json",
    "evaluation_report": "evaluation/report.json and the scores",
    "staged_model": "the registered version's metadata", "integration_report": "the report of the integration test",
    "approval": "the decisions that were counted", "deployment_record": "the steps of the rollout",
}


@dataclass(frozen=True)
class Step:
    """One stage as a person does it."""

    number: int
    stage: str
    title: str
    makes: str
    after: str
    command: str
    expected: str
    gates: tuple[str, ...]
    verified: tuple[str, ...]
    done_by: str
    verified_by: str
    on_failure: str
    articles: tuple[str, ...]


@dataclass(frozen=True)
class Runbook:
    """The whole runbook. `in_force`: people approved this definition, so stages 5 to 8 may act."""

    system: str
    title: str
    definition: str
    in_force: bool
    driven_by: str
    steps: tuple[Step, ...]

    @property
    def digest(self) -> Digest:
        """Of what the steps say; part of every log entry."""
        return digest_of({"system": self.system, "definition": self.definition, "steps": [_plain(step) for step in self.steps]})

    def as_json(self) -> dict[str, Any]:
        return {"system": self.system, "title": self.title, "definition": self.definition, "definition_in_force": self.in_force,
                "driven_by": self.driven_by, "digest": self.digest, "at_most": "once a quarter (convention)",
                "steps": [_plain(step) for step in self.steps]}

    def as_text(self) -> str:
        """For a terminal."""
        said = [f"Runbook: {self.title} ({self.system})", f"Definition {self.definition[:12]} "
                f"({'approved' if self.in_force else 'NOT approved: stages 5 to 8 wait'}); runbook digest {self.digest}",
                f"Begin: compliance runbook start {self.system} --as YOU --role ROLE --reason '…'"]
        for step in self.steps:
            said += ["", f"{step.number}  {step.title} → {step.makes}   after: {step.after}", f"   do        {step.command}",
                     f"   expect    {step.expected}", f"   gates     {', '.join(step.gates)}",
                     *(f"   verify    {line}" for line in step.verified), f"   who       {step.done_by}; verified by {step.verified_by}",
                     f"   if not    {step.on_failure}"]
        said += ["", f"End: compliance runbook finish {self.system} --as YOU --role ROLE --reason '…'"]
        return "\n".join(said)


def _plain(step: Step) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(step).items()}


def runbook(river: River, system: str) -> Runbook:
    """The runbook of a system's definition as its files stand."""
    definition = river.definition(system)
    return Runbook(system, definition.system.title, definition.digest, river.archive.definition_in_force(system) == definition.digest,
                   definition.system.retraining.driven_by, tuple(_step(system, rule) for rule in RIVER))


def _step(system: str, rule: StageRule) -> Step:
    second = rule.name in SECOND_PERSON
    verified = ["the record stands in the ledger, is signed by the pipeline's and the gate's key, and rests on steps that passed",
                f"its {len(rule.gates)} gates are those of the definition, and each may be passed",
                "every file of its output is hashed again by the command and has its digest"]
    if second:
        verified.append(f"compliance runbook verify {system} {rule.name} --as ANOTHER --role ROLE --reason '…'")
    return Step(
        rule.number, rule.name, rule.title, rule.makes, ", ".join(rule.needs) or "nothing; it is the first",
        f"compliance runbook step {system} {rule.name} --as YOU --role ROLE --reason 'what you saw; anomalies, or that there were none'",
        f"{rule.makes}: {_FILES[rule.makes]}", tuple(f"{gate.name} v{gate.version}" for gate in rule.gates), tuple(verified),
        "somebody whom organisation.yaml gives a key, on an account that it lists as theirs",
        "the command, and another person than the operator" if second else "the command",
        f"it halts: {rule.refuses}. The failed step is recorded. Mend the cause, then do the same step again", rule.articles)
