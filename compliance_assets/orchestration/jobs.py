"""Three jobs for each system: up to the review, from the approval to production, and the whole release; and its schedule.

The river is linear, so steps run one after another in the run's own process: the multiprocess executor would load every
library eight times. Nothing in a job decides anything; each step asks the dossier again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from compliance_assets.orchestration.resources import TAG_DEFINITION, TAG_SYSTEM
from compliance_assets.policy.definition import Definition
from compliance_assets.policy.river import RIVER, rule_named

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as Job


@dataclass(frozen=True)
class SystemJobs:
    """The jobs of one system, by what they are for."""

    to_review: Job
    deploy: Job
    release: Job

    @property
    def every(self) -> list[Job]:
        return [self.to_review, self.deploy, self.release]


def jobs_of(definition: Definition) -> SystemJobs:
    """`<system>_to_review` (stages 1 to 7), `<system>_deploy` (7 and 8), `<system>_release` (all)."""
    system = definition.system.system
    approval = rule_named("approval").number

    def job(name: str, first: int, last: int, what: str) -> Job:
        keys = [dg.AssetKey([system, rule.makes]) for rule in RIVER if first <= rule.number <= last]
        return dg.define_asset_job(f"{system}_{name}", selection=dg.AssetSelection.assets(*keys), description=what,
                                   executor_def=dg.in_process_executor,
                                   tags={TAG_SYSTEM: system, TAG_DEFINITION: str(definition.digest)})

    return SystemJobs(
        to_review=job("to_review", 1, approval, "Everything up to the review; ends *waiting for* the people whom it needs."),
        deploy=job("deploy", approval, len(RIVER), "Counts people's signed decisions, then deploys: shadow, canary, full."),
        release=job("release", 1, len(RIVER), "All eight stages; ends at the approval while people are still to be heard."))


def schedules_of(definition: Definition, jobs: SystemJobs) -> list[dg.ScheduleDefinition]:
    """The declared retraining schedule (UTC); none where none is declared. Declared is switched on."""
    cron = definition.system.retraining.schedule
    if cron is None:
        return []
    return [dg.ScheduleDefinition(
        name=f"{definition.system.system}_retraining", job=jobs.to_review, cron_schedule=cron, execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="retraining.schedule of the declaration. What did not change is reused, not computed again.")]
