"""Fixtures named for what they are. The expensive worlds are made once and copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.pop("COMPLIANCE_HOME", None)
os.environ.pop("COMPLIANCE_ROOT", None)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets that nobody here made; beside the repository, never in it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def founded_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A founded project whose definition is approved and of which nothing has run."""
    from compliance_assets_tests.project import approve_definition, founded

    root = tmp_path_factory.mktemp("founded")
    approve_definition(founded(root))
    return root


@pytest.fixture(scope="session")
def reviewed_world(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, run up to integration testing: its release waits for people."""
    from compliance_assets.pipeline import open_river
    from compliance_assets_tests.project import copied, run_to

    root = copied(founded_world, tmp_path_factory.mktemp("reviewed") / "world")
    outcomes = run_to(open_river(root), "integration_testing")
    failed = [sentence for outcome in outcomes for sentence in outcome.failures]
    assert not failed, failed
    return root


@pytest.fixture
def project(founded_world: Path, tmp_path: Path) -> Path:
    """A fresh copy of the founded project."""
    from compliance_assets_tests.project import copied

    return copied(founded_world, tmp_path / "world")


@pytest.fixture
def in_review(reviewed_world: Path, tmp_path: Path) -> Path:
    """A fresh copy of the project whose release waits for people."""
    from compliance_assets_tests.project import copied

    return copied(reviewed_world, tmp_path / "world")


LONGEST = ("test_kills.py", "test_s8_deployment.py", "test_bypasses.py", "test_bypasses_served.py", "test_verify_bundle.py", "test_supervisor.py", "test_a_month.py",
           "test_s8_kills.py", "test_expectations.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two workers (`--no-loadscope-reorder`) end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
