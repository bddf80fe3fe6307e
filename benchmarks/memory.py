"""How much memory do stages 1 and 2 hold, and which step holds most? Peak resident bytes per row, by number of rows.

    python benchmarks/memory.py                              # 1e6 and 1e7 rows; writes benchmarks/memory.md
    python benchmarks/memory.py --rows 30000000 --most 16    # one more size; ends itself above 16 GB

The table is that of `world.py`: 17 columns of integers, floats, text and a date. Each size runs in a process of its own, which watches its
own resident memory fifty times a second and remembers the highest, with the step that was under way. What the interpreter and the libraries hold
before the first row is read is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
PAGE = HERE / "memory.md"

SYSTEM = """\
system: applications
title: Made-up credit applications
provider: Benchmark
intended_purpose: To measure memory.
risk: {annex_iii: "5(b)", basis: nobody is described}
aisdp: {reference: none, module_2: none}
data:
  source: {kind: parquet, path: applications.parquet, sha256: "SHA256"}
  key: application_id
  target: {column: repaid, favourable: true, prevalence: [0.7, 0.9]}
  protected: {sex: {groups: [female, male, diverse]}}
  used_as_features: none
  split: {train: 0.6, validation: 0.2, holdout: 0.2, by: application_id, seed: 1}
  contract: expectations.json
  reference_population: {shares: {sex: {female: 0.49, male: 0.5, diverse: 0.01}}, tolerance: 0.05, because: drawn in these shares}
  minimum_cell: {rows: 100, positives: 50, negatives: 20}
  provenance: {collected_by: nobody, method: seeded draws, period: none, original_purpose: to measure, legal_basis: none needed,
               licence: same as this repository, contains_personal_data: false}
features:
  build: systems.applications.features:build
  proxy_review_above: 0.5
  proxy_because: nothing is associated here
  registry:
    - {name: debt_to_income, dtype: float64, unit: ratio, range: [0, 2], from: [monthly_debt, monthly_income], nulls: allow}
    - {name: monthly_income, dtype: float64, unit: euro, range: [300, 90_000], from: [monthly_income], nulls: refuse}
    - {name: instalment, dtype: float64, unit: euro, range: [0, 30_000], from: [loan_amount, duration_months], nulls: refuse}
    - {name: late_payments, dtype: int64, unit: count, range: [0, 12], from: [late_payments], nulls: refuse}
    - {name: score, dtype: float64, unit: points, range: [300, 850], from: [score], nulls: refuse}
    - {name: utilisation, dtype: float64, unit: share, range: [0, 1], from: [utilisation], nulls: allow}
    - {name: employment, dtype: category, unit: kind, categories: [permanent, temporary, self, none], from: [employment], nulls: refuse}
"""
FEATURES = '''"""Seven features of an application."""

import polars as pl


def build(applications: pl.LazyFrame) -> pl.LazyFrame:
    """One row for each application."""
    return applications.select(
        (pl.col("monthly_debt") / pl.col("monthly_income")).alias("debt_to_income"), pl.col("monthly_income"),
        (pl.col("loan_amount") / pl.col("duration_months")).alias("instalment"), pl.col("late_payments").cast(pl.Int64), pl.col("score"),
        pl.col("utilisation"), pl.col("employment"))
'''


def prepare(root: Path, rows: int) -> None:
    """A founded project over a table of `rows` rows, by a process that then ends."""
    folder = root / "systems" / "applications"
    folder.mkdir(parents=True)
    made = f"import sys; sys.path.insert(0, {str(HERE)!r}); import world; world.applications({rows}).write_parquet({str(folder / 'applications.parquet')!r})"
    subprocess.run([sys.executable, "-c", made], check=True)
    sys.path[:0] = [str(HERE), str(TOP)]
    import world

    from compliance_assets.trust.canonical import sha256_file

    kinds = {"application_id": "int64", "monthly_income": "float64", "monthly_debt": "float64", "loan_amount": "int64", "duration_months": "int64",
             "late_payments": "int64", "score": "float64", "utilisation": "float64", "employment": "str", "sex": "str", "repaid": "bool"}
    suite = json.loads(world.contract())
    kept = [one for one in suite["expectations"] if one["kwargs"].get("column") not in ("age",) and one["type"] != "expect_column_values_to_be_of_type"
            and not (one["type"].endswith("not_be_null") and one["kwargs"]["column"] in ("utilisation", "age"))]
    kept += [{"type": "expect_column_values_to_be_of_type", "kwargs": {"column": name, "type_": kind}, "meta": {}} for name, kind in kinds.items()]
    kept.append({"type": "expect_column_values_to_be_between", "kwargs": {"column": "monthly_debt", "min_value": 0, "max_value": 90_000}, "meta": {}})
    (folder / "expectations.json").write_text(json.dumps({**suite, "expectations": [{**one, "severity": "critical"} for one in kept]}))
    (folder / "features.py").write_text(FEATURES)
    for package in (folder, folder.parent):
        (package / "__init__.py").write_text("")
    declared = SYSTEM.replace("SHA256", sha256_file(folder / "applications.parquet"))
    rest = (TOP / "systems" / "credit_lending" / "system.yaml").read_text()
    (folder / "system.yaml").write_text(declared + _rest(rest))
    (folder / "golden.json").write_text("[]")
    subprocess.run([sys.executable, "-m", "compliance_assets.cli", "init", str(root)], check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(TOP)})


def _rest(text: str) -> str:
    """Everything from `training:` on, as the example declares it, for what is measured here is over before it."""
    return text[text.index("\ntraining:"):].replace("environment: production", "environment: development").replace("age_band, sex*age_band", "sex").replace(
        "over: [sex, sex]", "over: [sex]")


class Watched:
    """Highest resident memory, and what was under way."""

    def __init__(self, most: float) -> None:
        self.step, self.peak, self.at, self.by_step, self._most, self._stop = "starting", 0, "", {}, most * 2**30, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(0.02):
            held = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.by_step[self.step] = max(held, self.by_step.get(self.step, 0))
            if held > self.peak:
                self.peak, self.at = held, self.step
            if held > self._most:
                print(json.dumps({"ended": f"above {self._most / 2**30:g} GB during {self.step}"}), flush=True)
                os._exit(3)

    def told(self, event: str, facts: Any) -> None:
        named = facts.get("gate") or facts.get("stage", "")
        self.step = f"after {event.replace('_', ' ')}" + (f" ({named})" if named else "")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def one(root: str, most: str) -> None:
    """Stages 1 and 2 in this process."""
    import logging

    logging.disable(logging.CRITICAL)
    sys.path[:0] = [root, str(TOP)]
    import polars as pl

    from compliance_assets.pipeline import drive, open_river
    from compliance_assets.sources.expectations import validate
    from compliance_assets.stages.stage import Driver

    validate(pl.DataFrame({"a": [1]}), json.dumps({"name": "warm", "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}, "meta": {}}]}).encode())
    watched = Watched(float(most))
    time.sleep(0.1)
    before = watched.peak
    began = time.perf_counter()
    opened = open_river(Path(root), listeners=(watched.told,))
    for outcome in drive(opened, "applications", Driver(launcher="benchmark", run_id="memory"), stop="feature_engineering"):
        if not outcome:
            raise SystemExit(f"{outcome.stage.name} did not pass: {outcome.failures}")
    watched.stop()
    print(json.dumps({"before": before, "peak": watched.peak, "at": watched.at, "seconds": time.perf_counter() - began, "by_step": watched.by_step}))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, action="append", help="default: 1e6 and 1e7")
    asked.add_argument("--most", type=float, default=16.0, help="end above so many GB (default: 16)")
    options = asked.parse_args()
    sys.path.insert(0, str(HERE))
    from run import machine

    lines = [] if options.rows and PAGE.exists() else [
        "# What stages 1 and 2 hold in memory", "", "Made by `python benchmarks/memory.py`, whose beginning says how; do not edit.", "", f"Machine: {machine()}.", "",
        "| rows | peak GB | of that before the first row | bytes per row | highest during | seconds |", "|---|---|---|---|---|---|"]
    for rows in options.rows or (1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), rows)
            done = subprocess.run([sys.executable, str(HERE / "memory.py"), "--one", folder, str(options.most)], text=True, capture_output=True, check=False,
                                  env=os.environ | {"COMPLIANCE_HOME": f"{folder}/.compliance", "TQDM_DISABLE": "1"})
        if not done.stdout.strip():
            raise SystemExit(done.stderr[-3000:])
        said = json.loads(done.stdout.strip().splitlines()[-1])
        if "ended" in said or done.returncode:
            raise SystemExit(f"{rows:,} rows: {said}\n{done.stderr[-2000:]}")
        lines.append(f"| {rows:,} | {said['peak'] / 2**30:.2f} | {said['before'] / 2**30:.2f} | {(said['peak'] - said['before']) / rows:.0f} | {said['at']} | {said['seconds']:.0f} |")
        print(lines[-1], json.dumps({name: round(held / 2**30, 2) for name, held in said["by_step"].items()}, indent=1), file=sys.stderr, flush=True)
    text = "\n".join(lines)
    PAGE.write_text((PAGE.read_text() if options.rows and PAGE.exists() else "") + text + "\n")


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
