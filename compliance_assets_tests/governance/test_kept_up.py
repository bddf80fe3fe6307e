"""What pages keep up with each new entry is what somebody finds who reads all of them at once: random ledgers, looked at anywhere."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.records import DeploymentStep, StageExecution, StageReuse, Statement
from compliance_assets.evidence.remembered import Remembered
from compliance_assets.governance import engineering
from compliance_assets.governance.candidates import candidates
from compliance_assets.governance.documents import documents
from compliance_assets.governance.questions.catalogue import EVERYTHING_READ, QUESTIONS, ask
from compliance_assets.governance.stage_facts import stage_facts
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest, digest_of, rfc3339
from compliance_assets_tests.project import SYSTEM

ACTIONS = ("intent", "intent", "shadow_started", "canary_started", "full_rollout", "full_rollout", "aborted", "rolled_back", "withdrawn")


class Drawn:
    """Writes records into a real ledger, with the home's own keys: nothing that a pipeline would do, and anything that could be there."""

    def __init__(self, river: River, seed: int) -> None:
        self.river, self.draw = river, random.Random(seed)
        self.templates = [record.body for record in river.archive.stages(SYSTEM)]
        self.at = max(record.moment for record in river.archive.entries())
        self.made: dict[str, list[str]] = {}
        for body in self.templates:
            self.made.setdefault(rule_named(body.stage).makes, []).append(body.output)
        self.approvals: list[DeploymentStep] = []
        self.count = 0

    def moment(self) -> str:
        """Mostly later than before; clocks may go back a little."""
        self.at += timedelta(seconds=self.draw.choice((-2, 0, 1, 60, 4000)))
        return rfc3339(self.at)

    def one(self) -> None:
        self.count += 1
        self.river.archive.append(self.draw.choice((self.stage, self.stage, self.stage, self.reuse, self.deployment))())

    def digest(self) -> str:
        return str(digest_of(["drawn", self.count, self.draw.random().hex()]))

    def stage(self) -> Statement:
        body: StageExecution = self.draw.choice(self.templates)
        rule = rule_named(body.stage)
        outcome = self.draw.choice(("passed", "passed", "failed", "error"))
        output = self.digest() if outcome == "error" else self.draw.choice((self.digest(), self.draw.choice(self.made[rule.makes])))
        finished = self.moment()
        made = body.model_copy(update={
            "outcome": outcome, "output": output, "finished": finished, "started": finished, "run": f"run-{self.count}", "key": self.digest(),
            "inputs": {name: self.draw.choice(self.made[name]) for name in body.inputs},
            "definition": self.draw.choice((body.definition, body.definition, self.digest())), "computed": self.draw.random() < 0.7,
            "definition_in_force": self.draw.random() < 0.8, "gates": body.gates if outcome != "error" else (),
            "environment": self.draw.choice((body.environment, self.digest()))})
        if outcome != "error":
            self.made[rule.makes].append(output)
        return Statement((("error" if outcome == "error" else rule.makes, Digest.parse(output)),), made)

    def reuse(self) -> Statement:
        body = self.draw.choice(self.templates)
        return Statement(((rule_named(body.stage).makes, Digest.parse(body.output)),), StageReuse(
            system=SYSTEM, stage=body.stage, run=f"run-{self.count}", dagster_run=None, launcher="engineer", at=self.moment(), key=body.key,
            output=body.output, original_index=0, original_statement="0" * 64))

    def deployment(self) -> Statement:
        known = self.approvals[-1] if self.approvals and self.draw.random() < 0.8 else None
        action = self.draw.choice(ACTIONS) if known is not None else "intent"
        template = self.templates[0]
        body = known.model_copy(update={"action": action, "run": f"deploy-{self.count}", "at": self.moment(), "step": self.count, "share": "0.5"}) \
            if known is not None else DeploymentStep(
                system=SYSTEM, environment="production", action="intent", release=self.digest(), staged=self.draw.choice(self.made["staged_model"]),
                model=self.digest(), approval=self.draw.choice((self.digest(), self.draw.choice(self.made["integration_report"]))),
                slot=self.draw.choice(("blue", "green")), share="0", step=self.count, previous_model="", previous_approval="",
                run=f"deploy-{self.count}", launcher="engineer", at=self.moment(), definition=template.definition,
                trust_policy=str(self.river.organisation.digest), composite_version=self.digest(), demonstration=True)
        self.approvals.append(body)
        return Statement((("model", Digest.parse(body.model)),), body)


def everything(river: River, as_of: datetime) -> dict[str, Any]:
    """Whatever pages keep up, as plain values."""
    known = candidates(river, SYSTEM)
    found: dict[str, Any] = {
        "candidates": [(one.index, [(asset, record.index) for asset, record in one.chain.items()]) for one in known],
        "candidate records": sorted(known.by_index), "engineering": engineering.as_json(river, SYSTEM),
        "stages": [record.index for record in river.archive.stages(SYSTEM)], "stopped": [record.index for record in river.archive.stopped(SYSTEM)],
        "steps": [record.index for record in river.archive.steps("production", SYSTEM)], "state": river.archive.state("production"),
        "documents": _documents(river)}
    for one in QUESTIONS:
        if one.number != EVERYTHING_READ:
            found[one.number] = [ask(river, SYSTEM, one.number, as_of=moment).as_json() for moment in (river.now(), as_of)]
    return found


def _documents(river: River) -> Any:
    """All of them, or why they cannot be made: what was drawn lies in no store."""
    try:
        return [paper.as_json() for paper in documents(river, SYSTEM)]
    except ComplianceError as error:
        return str(error)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_kept_up_is_what_is_found_anew(in_review: Path, seed: int) -> None:
    river = open_river(in_review)
    drawn, remembered = Drawn(river, seed), Remembered((stage_facts,))
    now = drawn.at + timedelta(days=30)
    looks = 0
    while looks < 6:
        for _ in range(drawn.draw.choice((1, 2, 7, 15))):
            drawn.one()
        looks += 1
        earlier = drawn.at - timedelta(seconds=drawn.draw.choice((1, 100, 9000)))

        def reading(of: Remembered | None) -> River:
            return replace(river, archive=river.archive.for_one_reading(of), now=lambda: now)

        kept, anew, unremembered = everything(reading(remembered), earlier), everything(reading(Remembered((stage_facts,))), earlier), \
            everything(reading(None), earlier)
        for name, value in anew.items():
            assert kept[name] == value, name
            assert unremembered[name] == value, name
