"""One private Postgres server for all tests of this folder that want one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compliance_assets_tests.evidence.ledger_places import Cluster, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as made:
        yield made
