"""Nothing goes around the gates from outside either: the real webserver, daemon and command lines, without the guard.

One world (training on a dataset whose gate failed) behind a real dagster-webserver and a real dagster-daemon, configured by this
repository's own dagster.yaml. What the webserver lets anybody do, it does here: the river says no all the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from compliance_assets.policy.river import rule_named
from compliance_assets_tests.orchestration.dagster_world import key
from compliance_assets_tests.orchestration.scenarios import BAD_DATA, Attempt, prepare
from compliance_assets_tests.project import SYSTEM
from compliance_assets_tests.web.serving_asgi import free_socket

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH = """mutation L($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename ... on LaunchRunSuccess { run { runId } }
... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } } ... on InvalidSubsetError { message } } }"""
AGAIN = """mutation R($p: ReexecutionParams) { launchRunReexecution(reexecutionParams: $p) { __typename
... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BACKFILL = """mutation B($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename
... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
REPORT = "mutation E($p: ReportRunlessAssetEventsParams!) { reportRunlessAssetEvents(eventParams: $p) { __typename } }"


@dataclass
class Served:
    """The world, its instance and where its webserver answers."""

    root: Path
    home: Path
    port: int
    environment: dict[str, str]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=120, trust_env=False)
        body: dict[str, Any] = answer.json()
        assert "errors" not in body, body
        return next(iter(body["data"].values()))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], cwd=self.root, env=self.environment, text=True,
                              capture_output=True, timeout=180, check=False)

    def ended(self, run_id: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                run = instance.get_run_by_id(run_id)
            if run is not None and run.is_finished:
                return
            assert time.monotonic() < deadline, run
            time.sleep(0.5)

    def runs(self) -> list[str]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [run.run_id for run in instance.get_runs()]

    def refused(self, run_id: str) -> str:
        """The run ended refused, with rule, value and remedy. Gives everything that it said."""
        self.ended(run_id)
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            world = Attempt(self.root, instance, BAD_DATA)
            world.refused(run_id)
            return world.said(run_id)

    def point(self) -> str:
        """Have Dagster point at the dataset that did not pass, so that nothing but the wall is in the way. Gives its digest."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            world = Attempt(self.root, instance, BAD_DATA)
            world.point_at_everything()
            return str(world.refused_digest)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = prepare(tmp_path_factory.mktemp("s") / "world", BAD_DATA)
    home = root / ".compliance" / "served"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    shutil.copy(REPOSITORY / "workspace.yaml", root)
    with dg.DagsterInstance.from_config(str(home)) as instance:  # its SQLite files, before two processes race to make them
        instance.get_runs_count()
    probe = free_socket()
    port = probe.getsockname()[1]
    probe.close()
    environment = {**os.environ, "DAGSTER_HOME": str(home), "COMPLIANCE_ROOT": str(root), "PYTHONPATH": os.pathsep.join(
        [*filter(None, [os.environ.get("PYTHONPATH")]), str(REPOSITORY)])}
    scripts = Path(sys.executable).parent
    processes = [subprocess.Popen([str(scripts / words[0]), *words[1:]], cwd=root, env=environment, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
                 for words in (("dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"),
                               ("dagster-daemon", "run", "-w", "workspace.yaml"))]
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/server_info", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline, "dagster-webserver did not start"
            time.sleep(0.3)
        yield Served(root, home, port, environment)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


def selector(job: str, *assets: str) -> dict[str, Any]:
    found: dict[str, Any] = {"repositoryLocationName": "compliance_assets", "repositoryName": "__repository__", "pipelineName": job}
    return {**found, "assetSelection": [{"path": [SYSTEM, name]} for name in assets], "assetCheckSelection": None} if assets else found


def launch(served: Served, *assets: str, **extra: Any) -> str:
    said = served.ask(LAUNCH, p={"selector": selector("__ASSET_JOB", *assets), "mode": "default", "runConfigData": {},
                                 "executionMetadata": {"tags": []}, **extra})
    assert said["__typename"] == "LaunchRunSuccess", said
    return str(said["run"]["runId"])


def behind_it_stands_the_wall(served: Served) -> None:
    """Whatever was refused or taken in before: with Dagster pointing at what did not pass, the target alone is refused."""
    served.point()
    served.refused(launch(served, "features"))


def test_launch_run_of_the_downstream_asset_is_refused(served: Served) -> None:
    served.point()
    said = served.refused(launch(served, "features"))
    assert "label.prevalence" in said
    served.refused(launch(served, "candidate_model"))


def test_launch_run_without_the_middle_is_refused(served: Served) -> None:
    behind_it_stands_the_wall(served)
    served.refused(launch(served, "dataset", "candidate_model"))


def test_launch_run_with_checks_deselected_is_refused(served: Served) -> None:
    said = served.ask(LAUNCH, p={"selector": {**selector("__ASSET_JOB", "dataset", "features"), "assetCheckSelection": []},
                                 "mode": "default", "runConfigData": {}})
    assert said["__typename"] != "LaunchRunSuccess" or served.refused(said["run"]["runId"])
    behind_it_stands_the_wall(served)


def test_run_config_from_the_launchpad_is_refused_or_ignored(served: Served) -> None:
    served.point()
    config = {"resources": {f"{SYSTEM}__dataset__io_manager": {"config": {"enforce": False}}},
              "ops": {f"{SYSTEM}__features": {"config": {"minimum": 0}}}}
    said = served.ask(LAUNCH, p={"selector": selector("__ASSET_JOB", "features"), "mode": "default", "runConfigData": config})
    assert said["__typename"] != "LaunchRunSuccess" or served.refused(said["run"]["runId"])
    behind_it_stands_the_wall(served)


def test_running_again_from_failure_and_from_a_step_is_refused(served: Served) -> None:
    first = served.ask(LAUNCH, p={"selector": selector(f"{SYSTEM}_release"), "mode": "default", "runConfigData": {}})["run"]["runId"]
    served.ended(first)
    with dg.DagsterInstance.from_config(str(served.home)) as instance:
        run = instance.get_run_by_id(first)
        assert run is not None and run.status is dg.DagsterRunStatus.FAILURE and run.tags["user"].startswith("unknown")
    for strategy in ("FROM_FAILURE", "FROM_ASSET_FAILURE"):
        said = served.ask(AGAIN.replace("$p: ReexecutionParams", "$p: ReexecutionParams"), p={"parentRunId": first, "strategy": strategy})
        if said["__typename"] == "LaunchRunSuccess":
            served.ended(said["run"]["runId"])
    served.point()
    tags = [{"key": "dagster/parent_run_id", "value": first}, {"key": "dagster/root_run_id", "value": first}]
    said = served.ask(LAUNCH.replace("launchRun(", "launchRunReexecution("),
                      p={"selector": selector(f"{SYSTEM}_release"), "mode": "default", "runConfigData": {},
                         "stepKeys": [f"{SYSTEM}__features"],
                         "executionMetadata": {"parentRunId": first, "rootRunId": first, "tags": tags}})
    assert said["__typename"] == "LaunchRunSuccess", said
    served.refused(said["run"]["runId"])


def test_an_asset_backfill_is_refused(served: Served) -> None:
    served.point()
    before = set(served.runs())
    said = served.ask(BACKFILL, p={"assetSelection": [{"path": [SYSTEM, "features"]}], "allPartitions": True})
    assert said["__typename"] == "LaunchBackfillSuccess", said
    deadline = time.monotonic() + 120
    while not (new := set(served.runs()) - before):
        assert time.monotonic() < deadline, "the daemon did not start the backfill"
        time.sleep(0.5)
    for run_id in new:
        served.refused(run_id)


def test_events_reported_over_rest_and_graphql_are_refused(served: Served) -> None:
    digest, address = served.point(), f"http://127.0.0.1:{served.port}"
    said = [httpx.post(f"{address}/report_asset_materialization/{SYSTEM}/dataset", json={"data_version": digest}, trust_env=False),
            httpx.post(f"{address}/report_asset_observation/{SYSTEM}/dataset", json={"data_version": digest}, trust_env=False)]
    said += [httpx.post(f"{address}/report_asset_check/{SYSTEM}/dataset", json={"check_name": gate, "passed": True}, trust_env=False)
             for gate in rule_named("dataset").gate_names]
    assert {answer.status_code for answer in said} == {200}, "without a guard the webserver takes them"
    served.ask(REPORT, p={"eventType": "ASSET_MATERIALIZATION", "assetKey": {"path": [SYSTEM, "dataset"]}, "partitionKeys": None})
    httpx.post(f"{address}/report_asset_materialization/{SYSTEM}/dataset", json={"data_version": digest}, trust_env=False)
    with dg.DagsterInstance.from_config(str(served.home)) as instance:
        assert instance.fetch_materializations(key("dataset"), limit=9).records
    text = served.refused(launch(served, "features"))
    assert digest[:12] in text


def test_deleting_runs_and_wiping_assets_is_refused(served: Served) -> None:
    for run_id in served.runs():
        served.ask("mutation D($r: String!) { deletePipelineRun(runId: $r) { __typename } }", r=run_id)
    served.ask("mutation W($p: [PartitionsByAssetSelector!]!) { wipeAssets(assetPartitionRanges: $p) { __typename } }".replace(
        "PartitionsByAssetSelector", "PartitionsByAssetSelector"), p=[{"assetKey": {"path": [SYSTEM, "dataset"]}}])
    behind_it_stands_the_wall(served)


@pytest.mark.parametrize("words", [
    ("dagster", "asset", "materialize", "--select", f"key:{SYSTEM}/features", "-m", "compliance_assets.definitions"),
    ("dg", "launch", "--assets", f"{SYSTEM}/features"),
])
def test_the_command_lines_are_refused(served: Served, words: tuple[str, ...]) -> None:
    served.point()
    before = set(served.runs())
    if words[0] == "dg":
        shutil.copy(REPOSITORY / "pyproject.toml", served.root)
        shutil.copytree(REPOSITORY / "compliance_assets", served.root / "compliance_assets", dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
    done = served.command(*words)
    new = set(served.runs()) - before
    assert done.returncode != 0, done.stdout[-2000:]
    assert len(new) == 1, done.stderr[-2000:] + done.stdout[-2000:]
    served.refused(new.pop())
