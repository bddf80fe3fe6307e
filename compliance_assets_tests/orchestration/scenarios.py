"""The three things that must not be possible, each as a world in which somebody is about to try.

Each world has been run by Dagster up to the point where the river said no, so Dagster's event log, the ledger and the artefact
store are what they would be. `target` is what the attempt wants to exist; `barrier` is the asset that stands in its way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from compliance_assets.evidence.decisions import rollout_digest
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named
from compliance_assets.stages.s7_approval import Approval
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.orchestration.dagster_world import DagsterWorld, dagster_world, key
from compliance_assets_tests.project import PEOPLE, SYSTEM, approve_definition, copied, founded


@dataclass(frozen=True)
class Scenario:
    """`prepared`: what is materialised beforehand, the barrier included; `says`: what a refusal must name."""

    name: str
    barrier: str
    target: str
    changes: tuple[tuple[str, object], ...]
    prepared: tuple[str, ...]
    says: str


BAD_DATA = Scenario("training on a dataset whose gate failed", "dataset", "features",
                    (("data.target.prevalence", [0.98, 0.99]),), ("dataset",), "label")
UNFAIR = Scenario("registering a model whose fairness gate failed", "evaluation_report", "staged_model",
                  (("data.source.knobs.bias", 0.35),), ("dataset", "features", "candidate_model", "evaluation_report"), "fairness")
UNAPPROVED = Scenario("deploying without approval", "approval", "deployment_record", (),
                      ("dataset", "features", "candidate_model", "evaluation_report", "staged_model", "integration_report", "approval"),
                      "approval")
SCENARIOS = (BAD_DATA, UNFAIR, UNAPPROVED)


def prepare(root: Path, scenario: Scenario) -> Path:
    """Found the project and let Dagster run into the barrier."""
    root.mkdir(parents=True)
    approve_definition(founded(root, **dict(scenario.changes)))
    with dagster_world(root) as world:
        result = world.materialize(*scenario.prepared)
        run = world.instance.get_run_by_id(result.run_id)
        assert run is not None and not result.success, "the world was meant to be refused"
        reached = {event.step_key for event in world.events(result.run_id) if event.event_type_value == "STEP_FAILURE"}
        assert reached == {f"{SYSTEM}__{scenario.barrier}"}, world.said(result.run_id)
    return root


@dataclass
class Attempt(DagsterWorld):
    """A world in which somebody tries to go around the barrier."""

    scenario: Scenario

    def __init__(self, root: Path, instance: dg.DagsterInstance, scenario: Scenario) -> None:
        super().__init__(root, instance)
        self.scenario = scenario

    @property
    def barrier(self) -> dg.AssetKey:
        return key(self.scenario.barrier)

    @property
    def target(self) -> dg.AssetKey:
        return key(self.scenario.target)

    @property
    def refused_digest(self) -> Digest:
        """The digest of what did not pass; for an approval that nobody gave, one that somebody made up, right in every field."""
        river = self.river
        made = river.archive.made_by(SYSTEM, rule_named(self.scenario.barrier).name)
        if made:
            return Digest.parse(made[-1].body.output)
        assert self.scenario is UNAPPROVED
        return river.archive.artefacts.put_bytes(made_up_approval(river).manifest())

    def prepared_run(self) -> dg.DagsterRun:
        """The run that ended at the barrier."""
        runs = self.instance.get_runs()
        return runs[-1]

    def forge_materialisation(self, digest: str, asset: dg.AssetKey | None = None) -> None:
        """Tell Dagster, without any run, that `asset` (the barrier, if none is named) was published as `digest`."""
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset or self.barrier, tags={"dagster/data_version": digest}))

    def point_at_everything(self) -> None:
        """Tell Dagster of everything that the target needs: the barrier as what did not pass, the rest as it is."""
        river = self.river
        for name in rule_named(self.scenario.target).needs:
            digest = self.refused_digest if name == self.scenario.barrier else river.head(SYSTEM, name)
            assert digest is not None
            self.forge_materialisation(digest, key(name))

    def behind_it_stands_the_wall(self) -> None:
        """Whatever said no to this way, the wall would have: the target alone, with Dagster pointing at what did not pass, is refused too."""
        self.point_at_everything()
        self.refused(self.materialize(self.scenario.target).run_id)

    def nothing_came_of_it(self) -> None:
        """No stage made the target, and no record says that it passed."""
        river = self.river
        made = river.archive.made_by(SYSTEM, rule_named(self.scenario.target).name)
        assert not made, [record.body.outcome for record in made]
        assert river.head(SYSTEM, self.scenario.target) is None

    def refused(self, run_id: str) -> None:
        """The run failed, names rule, value and remedy, and nothing came of it."""
        self.nothing_came_of_it()
        run = self.instance.get_run_by_id(run_id)
        assert run is not None and run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED), run
        said = self.said(run_id)
        assert "rule: " in said and "value: " in said and "remedy: " in said, said
        assert not [event for event in self.events(run_id) if event.event_type_value == "ASSET_MATERIALIZATION"
                    and event.asset_key == self.target]


def made_up_approval(river: River) -> Approval:
    """What stage 7 would have made of this release if its people had approved it. They have not."""
    heads = {name: river.head(SYSTEM, name) for name in ("staged_model", "evaluation_report", "integration_report")}
    staged = river.value("staged_model", heads["staged_model"] or Digest("0" * 64)).model_dump()
    definition = river.definition(SYSTEM)
    return Approval(
        system=SYSTEM, environment=definition.system.deployment.environment, **{name: str(digest) for name, digest in heads.items()},
        model=staged["model"], rollout=rollout_digest(definition.system), definition=definition.digest,
        trust_policy=river.organisation.digest, decisions=("ab" * 32, "cd" * 32),
        approvers=tuple((person, role) for person, role in PEOPLE.items()), expires="2099-01-01T00:00:00Z",
        decided="2026-01-01T00:00:00Z", promotable=True, demonstration=river.organisation.demonstration, change="FIRST")


@contextmanager
def attempt(prepared: Path, scenario: Scenario, root: Path) -> Iterator[Attempt]:
    """A fresh copy of a prepared world."""
    copied(prepared, root)
    before = os.environ.get("COMPLIANCE_ROOT")
    os.environ["COMPLIANCE_ROOT"] = str(root)
    try:
        with dagster_world(root) as world:
            yield Attempt(root, world.instance, scenario)
    finally:
        if before is None:
            del os.environ["COMPLIANCE_ROOT"]
        else:
            os.environ["COMPLIANCE_ROOT"] = before
