"""The monitors in Dagster: one asset with its checks for each system, and the sensors that drift and silence set off.

The monitor is no gate: nothing is refused by it, it shows. What it finds in k of the last n days starts a run up to the review, where it
waits for people as every other. A version that drifted sets off one run; another only after as many further days as a decision takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from compliance_assets.errors import ComplianceError, OutOfTurn
from compliance_assets.evidence.conditions import overdue
from compliance_assets.evidence.exceptions import excuse_for
from compliance_assets.governance import monitoring
from compliance_assets.governance.alerts.keeping import look
from compliance_assets.governance.review import open_review
from compliance_assets.orchestration.resources import TAG_SYSTEM, opened
from compliance_assets.policy.definition import Definition
from compliance_assets.policy.gates import Verdict, judge
from compliance_assets.policy.watching import is_drift
from compliance_assets.trust.canonical import Digest, parse_canonical

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as Job

    from compliance_assets.evidence.deployments import Slot
    from compliance_assets.orchestration.jobs import SystemJobs
    from compliance_assets.pipeline import River

SHOWN_DAYS = 30
EVER = "9999-12-31"
"""Before this day: the day that is still going on is shown as far as it has come."""
CHECKS = {"feature_drift": "Do today's applicants still look like the training rows?",
          "group_drift": "And within each protected group?",
          "calibration": "Do the scores hold for those whose outcome is known by now?",
          "override_rate": "Do people decide otherwise about as often as declared? Never is as telling as often."}
Tick: TypeAlias = dg.SensorResult | dg.SkipReason


def monitor_of(definition: Definition) -> dg.AssetsDefinition:
    """The asset `<system>/monitor` over the inference log, with a check for each question."""
    system, root = definition.system.system, definition.root
    key = dg.AssetKey([system, "monitor"])

    @dg.asset(key=key, group_name=f"{system}_watched", description=monitoring.__doc__,
              check_specs=[dg.AssetCheckSpec(name, asset=key, description=asks) for name, asks in CHECKS.items()])
    def monitor() -> Iterator[Any]:
        river = opened(root)
        slot = monitoring.in_production(river, system)
        if slot is None:
            raise dg.Failure(f"Nothing of {system} is in production, so nothing can be watched.", allow_retries=False)
        found = monitoring.windows(river, system, slot, SHOWN_DAYS, EVER)
        yield dg.MaterializeResult(metadata={"model": slot.model, "days": len(found), "windows": dg.MetadataValue.json(
            [{"day": one.day, "rows": one.rows, "drifted": one.drifted, "note": one.note, "psi": dict(one.psi)} for one in found])})
        yield from _checks(river, system, slot, found)

    return monitor


def _checks(river: River, system: str, slot: Slot, found: tuple[monitoring.Window, ...]) -> Iterator[dg.AssetCheckResult]:
    declared = river.definition(system).system
    bound = declared.retraining.on_drift
    last = found[-1] if found else None
    if bound is None or last is None or last.largest is None:
        why = "no bound is declared" if bound is None else "no answers are logged" if last is None else last.note
        yield _shown("feature_drift", False, {"why": f"not measured: {why}"})
        yield _shown("group_drift", False, {"why": f"not measured: {why}"})
    else:
        yield _shown("feature_drift", last.drifted is False, {"largest": last.psi[0][0], "value": last.largest, "threshold": bound.psi,
                                                              "day": last.day})
        known = [(name, value) for name, _, value in last.groups if value is not None]
        few = [f"{name} ({rows} rows)" for name, rows, value in last.groups if value is None]
        worst = max(known, key=lambda pair: pair[1], default=None)
        yield _shown("group_drift", worst is not None and worst[1] <= bound.psi and not few, {
            "worst": worst[0] if worst else "none", "value": worst[1] if worst else 0.0, "threshold": bound.psi,
            "too few rows": ", ".join(few) or "nowhere"})
    try:
        measured = monitoring.calibration(list(monitoring.labelled(river, system, slot)), declared)
        bounds = {one.metric: one for one in monitoring.watched_bounds(declared)}
        unwatched = ", ".join(one.metric for one in declared.evaluation.calibration if one not in monitoring.watched_bounds(declared))
        findings = [judge(f"calibration.{one.metric}", one, bounds[one.metric]) for one in measured]
        yield _shown("calibration", bool(findings) and all(f.verdict is Verdict.PASS for f in findings),
                     {**{f.id: f"{f.value} ({f.verdict})" for f in findings}, "not watched": unwatched or "nothing"})
    except ComplianceError as error:
        yield _shown("calibration", False, {"why": f"not measured: {error.message}"})
    found_of_people = monitoring.overrides(river, system, slot)
    why, outside = monitoring.overridden(found_of_people, declared.deployment.overrides)
    against, of, interval = found_of_people
    yield _shown("override_rate", of > 0 and not outside, {"overridden": against, "answered": of, "interval": str(interval), "why": why})


def _shown(name: str, passed: bool, metadata: dict[str, object]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=metadata)  # type: ignore[arg-type]


def watch_job(definition: Definition) -> Job:
    """`<system>_watch`: the monitor alone."""
    system = definition.system.system
    return dg.define_asset_job(f"{system}_watch", selection=dg.AssetSelection.assets(dg.AssetKey([system, "monitor"])),
                               description="Looks at the inference log of the version in production.",
                               executor_def=dg.in_process_executor, tags={TAG_SYSTEM: system})


def watching_sensors(definition: Definition, jobs: SystemJobs, watch: Job) -> list[dg.SensorDefinition]:
    """The alerts, and the drift sensor where the declaration says what drift is."""
    told = [check_alerts(definition, watch), absence_sensor(definition, jobs), trend_sensor(definition)]
    return [drift_sensor(definition, jobs, watch), *told] if definition.system.retraining.on_drift else told


def drift_sensor(definition: Definition, jobs: SystemJobs, watch: Job) -> dg.SensorDefinition:
    """Once a day that is over: the monitor runs; drift in k of the last n days, and on the last, starts a run up to the review."""
    system, root = definition.system.system, definition.root

    @dg.sensor(name=f"{system}_drift", jobs=[watch, jobs.to_review], minimum_interval_seconds=300,
               default_status=dg.DefaultSensorStatus.RUNNING, description=drift_sensor.__doc__)
    def drift(context: dg.SensorEvaluationContext) -> Tick:
        return after_drift(context, opened(root), system, watch.name, jobs.to_review.name)

    return drift


def after_drift(context: dg.SensorEvaluationContext, river: River, system: str, watch: str, retrain: str) -> Tick:
    """The decision of one tick. The cursor holds the day looked at, and for which model a run was last started, on which day."""
    from compliance_assets.orchestration.sensors import TAG_BECAUSE

    declared = river.definition(system).system.retraining.on_drift
    slot = monitoring.in_production(river, system)
    if declared is None or slot is None:
        return dg.SkipReason("No drift is declared to start a run." if declared is None else "Nothing is in production.")
    today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
    before = json.loads(context.cursor) if context.cursor else {"day": "", "model": "", "fired": ""}
    if before["day"] == today:
        return dg.SkipReason("The days that are over were looked at.")
    found = monitoring.windows(river, system, slot, declared.windows[1], today)
    asked = [dg.RunRequest(run_key=f"watch:{slot.model}:{today}", job_name=watch, tags={TAG_SYSTEM: system})]
    again = before["model"] != slot.model or _days(before["fired"], today) > declared.windows[1]
    after = {**before, "day": today}
    if is_drift([one.drifted for one in found], declared) and again:
        last = found[-1]
        above = sum(one.drifted is True for one in found)
        because = f"drift of {last.psi[0][0]} ({last.largest:.3f} > {declared.psi}) in {above} of {len(found)} days"
        asked.append(dg.RunRequest(run_key=f"drift:{slot.model}:{today}", job_name=retrain,
                                   tags={TAG_SYSTEM: system, TAG_BECAUSE: because[:200]}))
        after.update(model=slot.model, fired=today)
        context.log.warning(because)
    return dg.SensorResult(run_requests=asked, cursor=json.dumps(after))


def _days(then: str, now: str) -> int:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(then)).days


def check_alerts(definition: Definition, watch: Job) -> dg.SensorDefinition:
    """Checks of the monitor that did not pass become an alert: what drifted, and what could not be measured."""
    system, root = definition.system.system, definition.root

    @dg.run_status_sensor(name=f"{system}_checks_to_alerts", run_status=dg.DagsterRunStatus.SUCCESS, monitored_jobs=[watch],
                          minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING, description=check_alerts.__doc__)
    def failed_checks(context: dg.RunStatusSensorContext) -> None:
        from compliance_assets.orchestration.sensors import tell

        tell(root, list(failed_checks_of(context.instance, context.dagster_run.run_id, system)))

    return failed_checks


def failed_checks_of(instance: dg.DagsterInstance, run_id: str, system: str) -> Iterator[dict[str, object]]:
    """One alert for each check of a run that did not pass, with the numbers that it showed."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        told = entry.dagster_event.asset_check_evaluation_data if entry.dagster_event else None
        if told is not None and not told.passed:
            facts = {name: value.value for name, value in told.metadata.items()}
            yield {"event": "monitor_check_failed", "system": system, "run": run_id, "check": told.check_name,
                   "said": f"{told.check_name}: " + ", ".join(f"{name} {value}" for name, value in facts.items())}


def absence_sensor(definition: Definition, jobs: SystemJobs) -> dg.SensorDefinition:
    """Once an hour: what should have happened by itself and did not becomes an alert, once a day for each thing."""
    system, root = definition.system.system, definition.root

    @dg.sensor(name=f"{system}_absent", minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING,
               description=absence_sensor.__doc__)
    def absent(context: dg.SensorEvaluationContext) -> Tick:
        from compliance_assets.orchestration.sensors import tell

        river = opened(root)
        found = list(missing(river, system, context.instance, jobs.to_review.name))
        today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
        told = json.loads(context.cursor) if context.cursor else {}
        fresh = [one for one in found if told.get(str(one["event"])) != today]
        tell(root, fresh)
        cursor = json.dumps({str(one["event"]): today for one in found}, sort_keys=True)
        said = "; ".join(str(one["said"]) for one in found) or "Nothing is missing."
        return dg.SensorResult(skip_reason=dg.SkipReason(said), cursor=cursor)

    return absent


def trend_sensor(definition: Definition) -> dg.SensorDefinition:
    """Once an hour: the rules T1 to T8 over the records, and once a day a verification of everything; what is new becomes an alert."""
    system, root = definition.system.system, definition.root

    @dg.sensor(name=f"{system}_trends", minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING,
               description=trend_sensor.__doc__)
    def trends(context: dg.SensorEvaluationContext) -> Tick:
        from compliance_assets.orchestration.sensors import tell

        river = opened(root)
        today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
        found = look(river, system, thorough=context.cursor != today)
        tell(root, found)
        said = "; ".join(str(one["said"]) for one in found) or "Nothing new."
        return dg.SensorResult(skip_reason=dg.SkipReason(said[:2000]), cursor=today)

    return trends


def missing(river: River, system: str, instance: dg.DagsterInstance, retrain: str) -> Iterator[dict[str, object]]:
    """What was expected and is not there: a scheduled run, answers in the log, a decision on a release within its time."""
    declared, now = river.definition(system).system, river.now().astimezone(UTC)
    if declared.retraining.schedule is not None:
        due = due_before(declared.retraining.schedule, now - timedelta(hours=2))
        begun = instance.get_run_records(dg.RunsFilter(job_name=retrain, created_after=due), limit=1)
        first = river.archive.made_by(system, "data_preparation")
        if not begun and first and _moment(first[0].body.finished) < due:
            yield {"event": "expected_run_absent", "system": system,
                   "said": f"no run of {retrain} since {due:%Y-%m-%d %H:%M} UTC, when one was due"}
    slot = monitoring.in_production(river, system)
    yesterday = (now - timedelta(days=1)).strftime("%Y-%m-%d")
    if slot is not None and not monitoring.has_answered(river, system, slot, yesterday):
        yield {"event": "expected_answers_absent", "system": system,
               "said": f"the model in production has no logged answer since {yesterday}"}
    if slot is not None:
        yield from _no_longer_covered(river, system, slot)
    staged = [record for record in river.archive.made_by(system, "model_registration") if record.body.outcome == "passed"]
    deployed = {record.body.staged for record in river.archive.deployments(declared.deployment.environment)}
    if staged and staged[-1].body.output not in deployed and not _rejected(river, system):
        waited = now - _moment(staged[-1].body.finished)
        if waited.total_seconds() > declared.approval.valid_seconds:
            yield {"event": "staged_model_stale", "system": system,
                   "said": f"release {staged[-1].body.output[:12]} has waited {waited.days} days for people"}


def _no_longer_covered(river: River, system: str, slot: Slot) -> Iterator[dict[str, object]]:
    """The model in production rests on an exception that lapsed, or on an approval whose condition was not met on its day.

    Nothing is switched off by this: whether to go back, to mend or to renew is for people, who are told every day.
    """
    approval = parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(slot.approval)))
    evaluated = river.archive.executions_of(Digest.parse(approval["evaluation_report"]))[-1]
    excuse = excuse_for(river.archive, evaluated, river.now())
    if evaluated.body.outcome == "failed" and not excuse:
        yield {"event": "exception_expired", "system": system,
               "said": f"the model in production failed a gate and is no longer excepted: {'; '.join(excuse.because)}. Roll back "
                       f"(`compliance rollback {system}`), or bring a mended release"}
    for digest in approval["decisions"]:
        for record in river.archive.find(Digest.parse(digest), "statement"):
            why = overdue(river.archive, record, river.now())
            if why:
                yield {"event": "condition_overdue", "system": system,
                       "said": f"the model in production was approved by {record.body.person} under a condition, but {why}"}


def _rejected(river: River, system: str) -> bool:
    try:
        return bool(open_review(river, system)[2].rejected)
    except ComplianceError:
        return False  # not in review, and so not rejected: it waits


def due_before(cron: str, moment: datetime) -> datetime:
    """The last moment, not after `moment`, at which the schedule asks for a run (UTC)."""
    # Dagster's own reading of the schedule, through its public door: a window between two ticks ends at a tick.
    windows = dg.TimeWindowPartitionsDefinition(start=datetime(1970, 1, 1, tzinfo=UTC), fmt="%Y-%m-%d %H:%M", cron_schedule=cron,
                                                timezone="UTC")
    with dg.partition_loading_context(effective_dt=moment):
        last = windows.get_last_partition_window()
    if last is None:
        raise OutOfTurn(f"The schedule {cron} never asks for anything.", rule="schedule", value=cron, remedy="Write another.")
    return last.end


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
