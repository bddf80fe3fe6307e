"""How much does judging cost? Ratios between this package and what one would otherwise use, measured in one run.

    python benchmarks/run.py                    # prints the table and writes benchmarks/results.md
    python benchmarks/run.py --rows 10000000 --fairness-rows 0 --repeats 1 --keep   # the contract only, appended

Every contender runs in a process of its own, its imports outside the clock; wall and CPU seconds are the least of the repeats,
memory is the process's peak in the first of them. Absolute seconds depend on the machine and on who else uses it; the ratios are what is claimed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "results.md"


_OTHERS = tuple(f"contract_on_{name}" for name in ("pandera", "pointblank") if importlib.util.find_spec(name) is not None)
"""What is only measured where it is installed: `pip install -e '.[bench]'`."""


def measured(name: str, table: Path, rows: int, repeats: int) -> dict[str, Any]:
    print(f"{name}, {rows:,} rows …", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(HERE / "contenders.py"), name, str(table), str(rows), str(repeats)], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(HERE.parent), "TQDM_DISABLE": "1"})
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1])) | {"name": name, "repeats": repeats, "rows": rows}


def machine() -> str:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.processor())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")) / 2**20
    from importlib.metadata import version

    libraries = ", ".join(f"{name} {version(name)}" for name in ("great-expectations", "polars", "pandas", "fairlearn", "scikit-learn", "numpy"))
    return f"{os.cpu_count()} cores, {memory:.0f} GB memory, {model}; Python {platform.python_version()}; {libraries}"


def table_of(results: list[dict[str, Any]], base: str, words: dict[str, str]) -> list[str]:
    ours = next(one for one in results if one["name"] == base)
    lines = ["| what | rows | repeats | wall s | CPU s | peak MB | wall, as a multiple | CPU, as a multiple | peak, as a multiple |", "|---|---|---|---|---|---|---|---|---|"]
    for one in results:
        lines.append(f"| {words[one['name']]} | {one['rows']:,} | {one['repeats']} | {one['wall']:.2f} | {one['cpu']:.2f} | {one['peak_mb']:.0f} | "
                     f"{one['wall'] / ours['wall']:.2f} | {one['cpu'] / ours['cpu']:.2f} | {one['peak_mb'] / ours['peak_mb']:.2f} |")
    return lines


def quality(rows: int, repeats: int) -> list[str]:
    import world

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "applications.parquet"
        world.applications(rows).write_parquet(table)
        results = [measured(name, table, rows, repeats) for name in ("contract_here", "contract_by_hand", "contract_on_pandas", *_OTHERS)]
    ours, _, pandas, *_ = results
    assert ours["answer"] == pandas["answer"], "the two engines disagree"
    return [f"## The data contract, {rows:,} rows", "",
            f"28 expectations on 17 columns, from a parquet file to results; both engines of Great Expectations give the same {len(ours['answer'])} verdicts "
            f"({sum(ours['answer'])} hold).", "",
            *table_of(results, "contract_here", {
                "contract_here": "the package's gate (Great Expectations on Polars)", "contract_by_hand": "the same checks as one hand-written Polars query (bare numbers)",
                "contract_on_pandas": "Great Expectations on pandas (conversion counted)",
                "contract_on_pandera": "pandera on Polars", "contract_on_pointblank": "pointblank on Polars"}), "",
            "pandera and pointblank check the same columns, but leave other evidence: pandera's schema has no share of gaps that is allowed, pointblank no step for "
            "the mean or deviation of a column, and neither writes a Great Expectations result.", "",
            f"Great Expectations on pandas takes **{pandas['cpu'] / ours['cpu']:.1f}×** the CPU; the gate takes **{ours['cpu'] / results[1]['cpu']:.2f}×** the CPU of "
            f"the hand-written query and **{ours['peak_mb'] / pandas['peak_mb']:.2f}×** the peak memory of Great Expectations on pandas (whole processes, libraries included).", ""]


def fairness(rows: int, repeats: int) -> list[str]:
    nowhere = Path(os.devnull)
    ours = measured("fairness_here", nowhere, rows, repeats)
    theirs = measured("fairness_by_rows", nowhere, rows, 1)
    gap = max(abs(ours["answer"][key][group] - value) for key, groups in theirs["answer"].items() for group, value in groups.items())
    return [f"## Fairness, {rows:,} rows", "",
            "Two attributes (3 and 5 groups) and their intersection; here six comparisons, each with an interval of 1,000 draws, and every group's rate with its own; "
            "there fairlearn's MetricFrame on the rows with difference and ratio, and no interval. The row-wise side is slow, so it ran once.", "",
            *table_of([ours, theirs], "fairness_here", {"fairness_here": "the package, with intervals", "fairness_by_rows": "MetricFrame on rows, without"}), "",
            f"MetricFrame on rows takes **{theirs['wall'] / ours['wall']:.0f}×** the wall and **{theirs['cpu'] / ours['cpu']:.0f}×** the CPU. Largest difference "
            f"between the two in any group's rate: {gap:.1e}.", ""]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1_000_000, help="rows of the contract's table; 0 leaves it out")
    asked.add_argument("--fairness-rows", type=int, default=1_000_000, help="rows of the fairness comparison; 0 leaves it out")
    asked.add_argument("--repeats", type=int, default=3, help="the least of how many repeats")
    asked.add_argument("--keep", action="store_true", help="append to results.md instead of writing it anew")
    given = asked.parse_args()
    head = [] if given.keep else ["# Benchmarks", "", "Made by `python benchmarks/run.py`; do not edit. Wall and CPU seconds are the least of the repeats, both sides in one run.", "",
                                  f"Machine: {machine()}. Other work ran beside it: seconds vary, ratios within one run are what counts.", ""]
    body = (quality(given.rows, given.repeats) if given.rows else []) + (fairness(given.fairness_rows, given.repeats) if given.fairness_rows else [])
    text = "\n".join([*head, *body])
    print(text)
    PAGE.write_text((PAGE.read_text(encoding="utf-8").rstrip("\n") + "\n\n" if given.keep else "") + text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
