"""What starts a run by itself: a signed decision that arrived, a raw file that changed, a commit that changed a definition.

A sensor only asks for a run; what the run may consume is decided where it is consumed. Each tick compares a cheap marker with
the one before, so that a quiet project costs nothing. A failed run becomes one structured line in `alerts.jsonl` of the home.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import inbox
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.evidence.surroundings import working_tree
from compliance_assets.governance.delivering import deliver
from compliance_assets.governance.review import open_review
from compliance_assets.orchestration.resources import TAG_SYSTEM, opened
from compliance_assets.pipeline import River
from compliance_assets.policy.definition import Definition
from compliance_assets.policy.system import CsvSource, ParquetSource
from compliance_assets.sources.snapshot import located
from compliance_assets.trust.canonical import digest_of, rfc3339, sha256_file

if TYPE_CHECKING:
    from compliance_assets.orchestration.jobs import SystemJobs

TAG_BECAUSE = "compliance/because"
Tick: TypeAlias = dg.SensorResult | dg.SkipReason


def sensors_of(definition: Definition, jobs: SystemJobs) -> list[dg.SensorDefinition]:
    """The sensors of one system, each switched on where the declaration or the river asks for it."""
    system, root = definition.system.system, definition.root

    @dg.sensor(name=f"{system}_approval_arrived", job=jobs.deploy, minimum_interval_seconds=5,
               default_status=dg.DefaultSensorStatus.RUNNING,
               description="Takes signed decisions from the inbox into the ledger; deploys once nobody is left to be heard.")
    def approval_arrived(context: dg.SensorEvaluationContext) -> Tick:
        return _after_approval(context, opened(root), system)

    @dg.sensor(name=f"{system}_definition_changed", job=jobs.to_review, minimum_interval_seconds=30,
               default_status=dg.DefaultSensorStatus.RUNNING,
               description="Judges again when a commit changed what the definition covers (declaration, gates, code).")
    def definition_changed(context: dg.SensorEvaluationContext) -> Tick:
        return _after_change(context, opened(root), system)

    watched = [approval_arrived, definition_changed]
    if definition.system.retraining.on_new_data and _raw_files(definition):
        @dg.sensor(name=f"{system}_new_data", job=jobs.to_review, minimum_interval_seconds=30,
                   default_status=dg.DefaultSensorStatus.RUNNING,
                   description="Runs when the raw files changed. Bytes that nobody declared fail the gate `source`, on record.")
        def new_data(context: dg.SensorEvaluationContext) -> Tick:
            return _after_new_bytes(context, definition)

        watched.append(new_data)
    return watched


def _after_approval(context: dg.SensorEvaluationContext, river: River, system: str) -> Tick:
    arrived = ",".join(path.name for path in inbox.waiting(river.home.inbox))
    if context.cursor == f"{river.archive.ledger.size}:{arrived}":
        return dg.SkipReason("Nothing has arrived, and nothing has happened, since the last look.")
    if arrived:
        admitted, refused = inbox.admit(river.archive)
        context.log.info(json.dumps({"event": "inbox_read", "admitted": len(admitted), "refused": refused}))
    cursor = f"{river.archive.ledger.size}:"
    try:
        chain, _, found = open_review(river, system)
        deployed = river.head(system, "deployment_record")
        done = deployed is not None and any(record.body.inputs["staged_model"] == chain.digest("staged_model")
                                            for record in river.archive.executions_of(deployed))
    except ComplianceError as error:
        context.update_cursor(cursor)
        return dg.SkipReason(str(error))
    if not found and not done and _under_way(river, system):
        # The rollout that was approved stands no longer on anybody's word: stage 8 alone is asked, and ends it.
        key = digest_of([chain.digest("staged_model"), "ended", river.archive.ledger.size])
        return dg.SensorResult(cursor=cursor, run_requests=[dg.RunRequest(
            run_key=str(key), asset_selection=[dg.AssetKey([system, "deployment_record"])],
            tags={TAG_SYSTEM: system, TAG_BECAUSE: "the approval of a rollout under way no longer stands"})])
    if not found or done:
        context.update_cursor(cursor)
        return dg.SkipReason("This release is deployed." if done else "Somebody rejected this release." if found.rejected else
                             f"Waiting for {found.waiting_for()}.")
    # One run for one release and the decisions that carry it; a renewed approval after expiry is another key.
    subject = chain.digest("staged_model")
    key = digest_of([subject, *(record.digest for record in found.counted)])
    approvers = ", ".join(record.body.person for record in found.counted)
    return dg.SensorResult(cursor=cursor, run_requests=[dg.RunRequest(
        run_key=str(key), tags={TAG_SYSTEM: system, TAG_BECAUSE: f"approved by {approvers}"[:200],
                                "compliance/staged_model": str(subject)})])


def _under_way(river: River, system: str) -> bool:
    """Whether a version of `system` is being rolled out and has not reached everybody."""
    environment = river.definition(system).system.deployment.environment
    candidate = desired_state(environment, river.archive.deployments(environment)).candidate
    return candidate is not None and candidate.system == system and candidate.approval == river.head(system, "approval")


def _after_change(context: dg.SensorEvaluationContext, river: River, system: str) -> Tick:
    try:
        definition = river.definition(system)
    except ComplianceError as error:
        return dg.SkipReason(f"The declaration cannot be read: {error}"[:2000])
    judged = river.archive.made_by(system, "data_preparation")
    if not judged:
        return dg.SkipReason("This system has never run; a first run is started by a person.")
    if any(record.body.definition == definition.digest for record in judged):
        return dg.SkipReason(f"Definition {definition.digest.short} has been run.")
    tree = working_tree(river.root, definition.covered, "sensor")
    if tree.under_version_control and tree.dirty:
        return dg.SkipReason("The changed definition is not committed yet.")
    return dg.SensorResult(run_requests=[dg.RunRequest(
        run_key=str(definition.digest), tags={TAG_SYSTEM: system, TAG_BECAUSE: f"definition {definition.digest.short} is new"})])


def _raw_files(definition: Definition) -> tuple[tuple[str, str], ...]:
    """Path and declared digest of each raw file of a system; none for a simulator or a source behind a network."""
    source = definition.system.data.source
    if isinstance(source, CsvSource):
        return tuple((file.path, file.sha256) for file in source.files)
    if isinstance(source, ParquetSource):
        return ((source.path, source.sha256),)
    return ()


def _after_new_bytes(context: dg.SensorEvaluationContext, definition: Definition) -> Tick:
    declared = _raw_files(definition)
    try:
        paths = [located(path, definition.folder, definition.root) for path, _ in declared]
    except ComplianceError as error:
        return dg.SkipReason(str(error))
    stamps = json.dumps([(path.stat().st_size, path.stat().st_mtime_ns) for path in paths])
    if context.cursor == stamps:
        return dg.SkipReason("The raw files were not touched.")
    found = [sha256_file(path) for path in paths]
    if found == [digest for _, digest in declared]:
        context.update_cursor(stamps)
        return dg.SkipReason("The raw files are the declared ones.")
    return dg.SensorResult(cursor=stamps, run_requests=[dg.RunRequest(
        run_key=str(digest_of(found)), tags={TAG_SYSTEM: definition.system.system, TAG_BECAUSE: "raw files changed"})])


# --------------------------------------------------------------------------------------------------------------- alerts


def alert_sensor(root: Path) -> dg.SensorDefinition:
    """One alert for every failed step of a failed run: a line of JSON in the home's logs, and through the declared channels."""

    @dg.run_failure_sensor(name="failed_runs_to_alerts", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=10,
                           description="A failed gate or stage becomes a line in logs/alerts.jsonl and goes through the declared channels.")
    def failed_runs(context: dg.RunFailureSensorContext) -> None:
        found = list(alerts(context))
        failed = tell(root, found)
        context.log.warning(json.dumps({"alerts": len(found), "not_delivered": failed}, default=str))

    return failed_runs


def tell(root: Path, found: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Write alerts down and send them through the channels of organisation.yaml; what did not arrive.

    A trust policy that nobody approved yet names no channels that count: then the alerts are written down only.
    """
    river = opened(root)
    try:
        channels = river.archive.in_force().alerts
    except ComplianceError as error:
        channels = ()
        found = [*found, {"event": "alert_channels_unknown", "said": str(error)}]
    return deliver(river.home.logs, channels, found)


def alerts(context: dg.RunFailureSensorContext) -> Iterator[dict[str, object]]:
    """What went wrong in a failed run, one object for each failed step: rule, value and remedy where the stage gave them."""
    from datetime import UTC, datetime

    run = context.dagster_run
    told = {"time": rfc3339(datetime.now(UTC)), "event": "run_failed", "run": run.run_id, "job": run.job_name,
            **{name.removeprefix("compliance/"): value for name, value in run.tags.items() if name.startswith("compliance/")}}
    steps = context.get_step_failure_events()
    for event in steps:
        data = event.step_failure_data
        said = data.user_failure_data
        facts = {name: str(value.value) for name, value in said.metadata.items()} if said is not None else {}
        text = said.description if said is not None else data.error.to_string()[:1000] if data.error is not None else ""
        yield {**told, "step": event.step_key, "said": text, **facts}
    if not steps:
        yield {**told, "said": context.failure_event.message}
