"""A run is made again from its record alone, or it is said exactly what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compliance_assets.errors import Misused
from compliance_assets.governance import reproducing
from compliance_assets.governance.reproducing import reproduce
from compliance_assets.pipeline import open_river
from compliance_assets_tests.project import SYSTEM


def test_every_digest_of_a_run_is_made_again_though_the_system_folder_is_gone(in_review: Path, tmp_path: Path) -> None:
    features = in_review / "systems" / SYSTEM / "features.py"
    features.write_text(features.read_text(encoding="utf-8").replace("clip(0, 2)", "clip(0, 1)"), encoding="utf-8")
    found = reproduce(open_river(in_review, writer=False), "test-run", tmp_path / "again")
    assert found, found.differences
    assert [asset for asset, _, _ in found.stages] == ["dataset", "features", "candidate_model", "evaluation_report"]
    assert all(was == now for _, was, now in found.stages)
    assert found.same_environment and found.compared > 1000
    assert {one.level for one in found.differences} <= {"effort"}
    assert json.loads(json.dumps(found.as_json()))["reproduced"] is True


def test_another_library_is_named_and_bytes_are_then_not_claimed(in_review: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = dict(reproducing.environment())
    present["libraries"] = [line if not line.startswith("numpy==") else "numpy==0.0.1" for line in present["libraries"]]
    monkeypatch.setattr(reproducing, "environment", lambda: present)
    monkeypatch.setattr(reproducing, "environment_digest", lambda: reproducing.Digest("0" * 64))
    river = open_river(in_review, writer=False)
    dataset = river.archive.made_by(SYSTEM, "data_preparation")[-1].body.output
    found = reproduce(river, dataset, tmp_path / "again")
    assert found and not found.same_environment
    assert [(one.where, one.now, one.claimed) for one in found.differences] == [("environment.numpy", "0.0.1", False)]


def test_what_the_code_now_makes_otherwise_is_reported_with_its_level(in_review: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.sources import simulator

    fetch = simulator.fetch_simulator

    def one_row_less(source, **more):  # type: ignore[no-untyped-def]
        return fetch(source.model_copy(update={"rows": source.rows - 1}), **more)

    monkeypatch.setattr(simulator, "fetch_simulator", one_row_less)
    river = open_river(in_review, writer=False)
    dataset = river.archive.made_by(SYSTEM, "data_preparation")[-1].body.output
    found = reproduce(river, dataset, tmp_path / "again")
    levels = {one.where: one.level for one in found.differences}
    assert not found and levels["dataset.source"] == "bytes" and "content" in levels.values()
    assert found.stages[0][1] != found.stages[0][2]


def test_a_folder_with_something_in_it_and_a_run_that_nobody_made_are_refused(in_review: Path, tmp_path: Path) -> None:
    river = open_river(in_review, writer=False)
    with pytest.raises(Misused, match="not empty"):
        reproduce(river, "test-run", in_review)
    with pytest.raises(Misused):
        reproduce(river, "no-such-run", tmp_path / "again")
