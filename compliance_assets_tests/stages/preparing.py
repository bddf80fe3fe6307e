"""Stages 1 and 2 of the small lender, standing alone: run, judged, and their verdicts by gate."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import GateReport
from compliance_assets.stages import s1_data_preparation as s1
from compliance_assets.stages import s2_feature_engineering as s2
from compliance_assets.stages.stage import Draft, Driver, Work
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.small_lender import write_small_lender

SIMULATOR = '''"""The rows that a test wrote down."""
import polars as pl
from pathlib import Path

def simulate(*, rows, seed, **knobs):
    return pl.read_parquet(Path(__file__).with_name("rows.parquet"))
'''


def work_on(folder: Path, store: Path) -> Work:
    """A stage's surroundings, as far as computing stages use them."""
    return Work(definition=load_definition(folder), artefacts=ArtefactStore(store), scratch=store.parent / "scratch",
                tell=lambda event, **facts: None, driver=Driver("run-1", "tester"), home=cast(Any, None),
                organisation=cast(Any, None), archive=cast(Any, None), now=lambda: dt.datetime(2026, 11, 25, tzinfo=dt.UTC))


@dataclass(frozen=True)
class Prepared:
    """Stage 1, done and judged."""

    work: Work
    draft: Draft
    gates: dict[str, GateReport]

    @property
    def dataset(self) -> s1.Dataset:
        return cast(s1.Dataset, self.draft.value)

    @property
    def report(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.work.artefacts.get_bytes(Digest(self.dataset.quality_report))))

    def failed(self) -> dict[str, list[str]]:
        """Gate to the ids of the findings that failed; only gates that did."""
        return failed(self.gates)


def failed(gates: dict[str, GateReport]) -> dict[str, list[str]]:
    return {name: [finding.id for finding in report.failures] for name, report in gates.items() if not report}


def prepared(root: Path, *, rows: pl.DataFrame | None = None, **changes: Any) -> Prepared:
    """The small lender with these changes; `rows`: these instead of the simulator's."""
    if rows is not None:
        changes = {"simulator.py": SIMULATOR, "data.source.rows": rows.height} | changes
    folder = write_small_lender(root, **changes)
    if rows is not None:
        rows.write_parquet(folder / "rows.parquet")
    work = work_on(folder, root / "store")
    draft = s1.produce(work)
    return Prepared(work, draft, {report.gate: report for report in s1.judge(work, draft)})


def simulated(root: Path) -> pl.DataFrame:
    """The healthy rows, to break one thing in."""
    definition = load_definition(write_small_lender(root / "healthy"))
    source = definition.system.data.source
    return cast(pl.DataFrame, definition.load_code(source.build)(rows=source.rows, seed=source.seed, **source.knobs))


def computed(done: Prepared) -> tuple[Draft, dict[str, GateReport]]:
    """Stage 2 on what stage 1 made."""
    draft = s2.produce(done.work, done.dataset)
    return draft, {report.gate: report for report in s2.judge(done.work, draft, done.dataset)}
