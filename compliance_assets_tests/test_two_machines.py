"""Two folders, two homes, two processes, the same seed: the same dataset, features, model and report, to the byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from compliance_assets_tests.project import SYSTEM, approve_definition, founded
from compliance_assets_tests.test_cli import compliance


@pytest.mark.slow
def test_the_same_declaration_gives_the_same_digests_in_two_fresh_places(tmp_path: Path) -> None:
    digests = []
    for name, hash_seed, cores in (("here", "1", "0"), ("there/elsewhere", "2", "0,1")):
        root = tmp_path / name
        root.mkdir(parents=True)
        approve_definition(founded(root))
        os.utime(root / "systems" / SYSTEM / "system.yaml", (1, 1))
        said = compliance("run", SYSTEM, "--to", "evaluation_report", "--json", cwd=root, PYTHONHASHSEED=hash_seed,
                          POLARS_MAX_THREADS=str(1 + cores.count(",")), TZ="Asia/Tokyo" if name == "here" else "UTC",
                          LC_ALL="C" if name == "here" else "C.UTF-8")
        digests.append({stage["asset"]: stage["digest"] for stage in json.loads(said.stdout)["stages"]})
    assert digests[0] == digests[1]
    assert set(digests[0]) == {"dataset", "features", "candidate_model", "evaluation_report"}
