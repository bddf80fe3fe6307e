"""Whichever executor runs the steps, and whichever of them: one Dagster run is one MLflow run, ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from compliance_assets.pipeline import open_river
from compliance_assets.registry import Registry
from compliance_assets_tests.orchestration.dagster_world import dagster_world
from compliance_assets_tests.project import SYSTEM

MULTIPROCESS = f"""
from pathlib import Path
import dagster as dg
from compliance_assets.orchestration.assets import system_definitions

defs = dg.Definitions.merge(system_definitions(Path(__file__).parent / "systems" / "{SYSTEM}"),
                            dg.Definitions(executor=dg.multiprocess_executor))
"""


def mlflow_runs(root: Path) -> dict[str, list[str]]:
    """Status of every MLflow run, by the Dagster run that it belongs to."""
    home = open_river(root, writer=False).home
    with dg.DagsterInstance.from_config(str(home.dagster)) if (home.dagster / "dagster.yaml").exists() else \
            dg.DagsterInstance.local_temp(str(home.dagster)) as instance:
        runs = [run.run_id for run in instance.get_runs()]
    return {run: [status for _, status in Registry(home).runs_of(SYSTEM, run)] for run in runs}


@pytest.mark.slow
def test_the_multiprocess_executor_makes_one_mlflow_run_for_one_dagster_run(project: Path) -> None:
    (project / "multi.py").write_text(MULTIPROCESS)
    home = project / ".compliance" / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                   "COMPLIANCE_ROOT": str(project)}
    selection = ",".join(f"{SYSTEM}/{name}" for name in ("dataset", "features", "candidate_model"))
    done = subprocess.run((sys.executable, "-m", "dagster", "asset", "materialize", "-f", "multi.py", "--select", selection), cwd=project,
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "multiprocess" in done.stderr.lower() or "subprocess" in done.stderr.lower()
    assert list(mlflow_runs(project).values()) == [["FINISHED"]]
    record = open_river(project).archive.made_by(SYSTEM, "model_training")[-1]
    assert record.body.dagster_run == next(iter(mlflow_runs(project)))


def test_a_stage_materialised_alone_makes_one_ended_mlflow_run(project: Path) -> None:
    with dagster_world(project) as world:
        assert world.materialize("dataset", "features").success
        alone = world.materialize("candidate_model")
        assert alone.success
        registry = Registry(world.river.home)
        assert [status for _, status in registry.runs_of(SYSTEM, alone.run_id)] == ["FINISHED"]
        again = world.materialize("candidate_model")
        assert again.success
        # Nothing was trained again, so nothing new is listed; the record points at the training that answered.
        assert registry.runs_of(SYSTEM, again.run_id) == ()
