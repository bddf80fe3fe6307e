"""The sensor that holds what serves against the ledger, and alerts a disagreement that lasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import dagster as dg

from compliance_assets.errors import ComplianceError
from compliance_assets.governance import reconciling
from compliance_assets.orchestration.resources import opened
from compliance_assets.pipeline import River
from compliance_assets.policy.definition import Definition
from compliance_assets.serving.supervisor import is_supervised
from compliance_assets.stages.stage import Driver

Tick: TypeAlias = dg.SensorResult | dg.SkipReason


def reconciliation_sensor(definition: Definition) -> dg.SensorDefinition:
    """Every minute: what answers is held against the ledger; what differs at two looks in a row goes on record and becomes an alert."""
    system, root = definition.system.system, definition.root

    @dg.sensor(name=f"{system}_reconciled", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
               description=reconciliation_sensor.__doc__)
    def reconciled(context: dg.SensorEvaluationContext) -> Tick:
        from compliance_assets.orchestration.sensors import tell

        river = opened(root)
        return after_look(context, river, river.definition(system).system.deployment.environment, lambda found: tell(root, found))

    return reconciled


def after_look(context: dg.SensorEvaluationContext, river: River, environment: str,
               tell: Callable[[Sequence[Mapping[str, object]]], object]) -> Tick:
    """The decision of one tick. The cursor holds what differed at the look before: a step under way differs once, not twice."""
    if not is_supervised(river.home, environment) and not river.archive.deployments(environment):
        return dg.SkipReason(f"Nothing was ever deployed to {environment}.")
    try:
        found = reconciling.look(river, environment, patience=0.0)
    except ComplianceError as error:
        return dg.SkipReason(str(error))
    before = json.loads(context.cursor) if context.cursor else []
    cursor = json.dumps(found.differences)
    if found or list(found.differences) == before:
        record = reconciling.record(river, found, Driver(f"sensor-{environment}", "sensor"))
        if record is not None and not found:
            tell([reconciling.alert(found, record)])
    said = "; ".join(found.differences) or f"What answers in {environment} is what the ledger says."
    return dg.SensorResult(skip_reason=dg.SkipReason(said[:2000]), cursor=cursor)
