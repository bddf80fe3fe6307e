"""A founded project driven by a real Dagster instance on disk, as the tests of this room use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from compliance_assets.orchestration.assets import build_system_assets
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.definition import load_definition
from compliance_assets_tests.project import SYSTEM


def key(asset: str, system: str = SYSTEM) -> dg.AssetKey:
    return dg.AssetKey([system, asset])


class DagsterWorld:
    """One project, one Dagster instance: what people do in Python, notebooks and scripts."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.root = root
        self.instance = instance

    @property
    def river(self) -> River:
        return open_river(self.root)

    def assets(self, system: str = SYSTEM) -> list[dg.AssetsDefinition]:
        return build_system_assets(load_definition(self.root / "systems" / system))

    def materialize(self, *names: str, system: str = SYSTEM, **options: Any) -> dg.ExecuteInProcessResult:
        """Materialise exactly these assets (all of them, if none is named); never raises."""
        selection = [key(name, system) for name in names] or None
        return dg.materialize(self.assets(system), selection=selection, instance=self.instance, raise_on_error=False, **options)

    def materialised(self, asset: str, system: str = SYSTEM) -> Sequence[dg.EventLogRecord]:
        """Every materialisation that Dagster knows of, newest first."""
        return self.instance.fetch_materializations(key(asset, system), limit=100).records

    def events(self, run_id: str) -> list[Any]:
        return [entry.dagster_event for entry in self.instance.all_logs(run_id) if entry.is_dagster_event]

    def refusals(self, run_id: str) -> list[dg.Failure | Any]:
        """What each failed step of a run said, as Dagster stores it."""
        return [event.step_failure_data for event in self.events(run_id) if event.event_type_value == "STEP_FAILURE"]

    def said(self, run_id: str) -> str:
        """Everything that the failed steps of a run said: description, rule, value, remedy."""
        found = []
        for data in self.refusals(run_id):
            if data.user_failure_data is not None:
                found.append(str(data.user_failure_data.description))
                found += [f"{name}: {value.value}" for name, value in data.user_failure_data.metadata.items()]
            elif data.error is not None:
                found.append(data.error.to_string())
        return "\n".join(found)

    def checks(self, run_id: str) -> dict[str, bool]:
        return {event.event_specific_data.check_name: event.event_specific_data.passed for event in self.events(run_id)
                if event.event_type_value == "ASSET_CHECK_EVALUATION"}


@contextmanager
def dagster_world(root: Path) -> Iterator[DagsterWorld]:
    """The project at `root` with Dagster's storage in its home."""
    folder = root / ".compliance" / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}}) as instance:
        yield DagsterWorld(root, instance)
