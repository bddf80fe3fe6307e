"""What does the river cost beside the bare work? Stages 1 to 5 against a script that only trains a model, in one run.

    python benchmarks/river.py                          # 1e6 rows, three of each, and 2e6 for the margin; writes benchmarks/river.md
    python benchmarks/river.py --rows 100000 --repeats 1 --print

The bare script is what somebody writes without any of this: read the parquet file, split it at random, compute the features with
the same code, fit the same estimator with the same seed on all cores (as the declaration is made to say too), score validation and holdout, AUC, accuracy and the selection rate by sex, keep the features
as parquet and the model as a skops file. It checks nothing, measures no interval, keeps no evidence.

Cold is a fresh process, imports included, with bytecode. Warm is the same process after a run on 20,000 rows. Both sides take turns, each in a
process of its own; the least wall and the least CPU of the repeats count. The project is founded before the clock starts, MLflow's tables
included (which a project's first run makes: about a second).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
PAGE = HERE / "river.md"
WARMING = 20_000
LAST = "model_registration"
JUDGED = ("data_preparation", "feature_engineering", "model_evaluation")


def prepare(root: Path, rows: int) -> dict[str, Any]:
    """A project with two systems, the book of `rows` applications and the small one that warms the process."""
    sys.path.insert(0, str(TOP))
    from compliance_assets.evidence.home import Home
    from compliance_assets.registry import Registry
    from compliance_assets.trust.canonical import sha256_file
    from systems.credit_lending.simulator import simulate

    for name, size, seed in (("book", rows, 7), ("small_book", WARMING, 8)):
        folder = root / "systems" / name
        shutil.copytree(TOP / "systems" / "credit_lending", folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        data = folder / "book.parquet"
        simulate(rows=size, seed=seed).write_parquet(data)
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".yaml", ".json"):
                path.write_text(path.read_text().replace("credit_lending", name))
        declared = (folder / "system.yaml").read_text()
        source = f'source: {{kind: parquet, path: book.parquet, sha256: "{sha256_file(data)}"}}'
        declared, found = re.subn(r"source: \{kind: simulator.*\}", source, declared)
        assert found, "the example declares its source elsewhere"
        declared = declared.replace("environment: production", "environment: development").replace("threads: 1,", f"threads: {os.cpu_count()},")
        (folder / "system.yaml").write_text(declared)
    subprocess.run([sys.executable, "-m", "compliance_assets.cli", "init", str(root)], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"PYTHONPATH": str(TOP)})
    Registry(Home.open(root / ".compliance")).prepare()
    return {"rows": rows}


def bare(folder: Path, place: Path) -> dict[str, float]:
    """The work alone. `folder` is a declared system's; nothing but its file, its features and its estimator is used."""
    import importlib

    import numpy as np
    import polars as pl
    import skops.io
    import yaml
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import accuracy_score, roc_auc_score

    clock = Clock()
    declared = yaml.safe_load((folder / "system.yaml").read_text())
    build = importlib.import_module(f"systems.{folder.name}.features").build
    book = pl.read_parquet(folder / "book.parquet")
    clock("read")
    part = np.random.default_rng(declared["data"]["split"]["seed"]).choice(3, len(book), p=[0.6, 0.2, 0.2])
    types = {one["name"]: pl.Enum(one["categories"]) for one in declared["features"]["registry"] if one["dtype"] == "category"}
    parts, labels = [], []
    for number in range(3):
        mine = book.filter(pl.Series(part == number))
        features = build(mine.lazy()).collect().with_columns(pl.col(name).cast(kind) for name, kind in types.items())
        features.write_parquet(place / f"features-{number}.parquet")
        parts.append(features.to_pandas())
        labels.append(mine["repaid"].to_numpy().astype(np.int8))
    clock("features")
    training = declared["training"]
    model = HistGradientBoostingClassifier(**training["hyperparameters"], random_state=training["seed"]).fit(parts[0], labels[0])
    clock("training")
    scores = [model.predict_proba(rows)[:, 1] for rows in parts[1:]]
    decided = scores[1] >= declared["evaluation"]["decision_threshold"]
    said = {"auc": roc_auc_score(labels[2], scores[1]), "accuracy": accuracy_score(labels[2], decided)}
    sex = book.filter(pl.Series(part == 2))["sex"].to_numpy()
    said |= {f"selected {group}": decided[sex == group].mean() for group in ("female", "male")}
    clock("scoring and four metrics")
    skops.io.dump(model, place / "model.skops")
    (place / "metrics.json").write_text(json.dumps({name: float(value) for name, value in said.items()}))
    clock("keeping the model")
    return clock.laps


def river(folder: Path, place: Path) -> dict[str, float]:
    """Stages 1 to 5, as `compliance run` drives them."""
    from compliance_assets.pipeline import drive, open_river
    from compliance_assets.stages.stage import Driver

    clock, judging = Clock(), Clock()

    def heard(event: str, facts: dict[str, Any]) -> None:
        """CPU of judging: the contract with the profiles and the sort before it, and everything between made and recorded."""
        if event == "stage_entered" or facts["stage"] not in JUDGED:
            judging("elsewhere")
        elif event in ("validated", "stage_completed", "gate_failed"):
            judging(f"judging, {facts['stage']}")
        elif event in ("fetched", "split", "produced"):
            judging("elsewhere")

    opened = replace(open_river(folder.parents[1]), listeners=(heard,))
    for outcome in drive(opened, folder.name, Driver(launcher="benchmark", run_id=f"benchmark-{time.time_ns()}"), stop=LAST):
        if not outcome and outcome.stage.name != "model_evaluation":
            raise SystemExit(f"{outcome.stage.name} did not pass: {outcome.failures}")
        clock(outcome.stage.name)
    return clock.laps | {f"{name}, judging CPU": judging.laps[f"judging, {name} CPU"] for name in JUDGED}


class Clock:
    """Wall and CPU seconds of each part, the children's CPU included."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime

    def __call__(self, name: str) -> None:
        now = self._now()
        for what, place in ((name, 0), (f"{name} CPU", 1)):
            self.laps[what] = self.laps.get(what, 0.0) + now[place] - self._last[place]
        self._last = now


def one(side: str, root: str, warm: str) -> None:
    """One measurement, in this process."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.path[:0] = [root, str(TOP)]
    run = {"bare": bare, "river": river}[side]
    with tempfile.TemporaryDirectory() as place:
        if warm == "warm":
            run(Path(root) / "systems" / "small_book", Path(place))
        whole = Clock()
        laps = run(Path(root) / "systems" / "book", Path(place))
        whole("all")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**whole.laps, "laps": laps, "peak_mb": peak}))


def measured(side: str, prepared: Path, warm: bool) -> dict[str, Any]:
    """One measurement in a process of its own, on a copy of the founded project (so that nothing can be reused)."""
    with tempfile.TemporaryDirectory(dir=prepared.parent) as folder:
        root = Path(folder) / "project"
        shutil.copytree(prepared, root, copy_function=_linked)
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, str(HERE / "river.py"), "--one", side, str(root), "warm" if warm else "cold"], text=True, capture_output=True,
                              check=False, env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
                              | {"COMPLIANCE_HOME": str(root / ".compliance"), "TQDM_DISABLE": "1"})
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    said = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    if not warm:
        said["all"], said["all CPU"] = wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{side:<6} {'warm' if warm else 'cold'} {said['all']:8.2f} s wall {said['all CPU']:8.2f} s CPU {said['peak_mb']:8.0f} MB", file=sys.stderr, flush=True)
    return said


def _linked(source: str, target: str) -> None:
    """Data files are linked, everything else copied."""
    os.link(source, target) if source.endswith(".parquet") else shutil.copy2(source, target)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--print", action="store_true", help="print the table only")
    asked.add_argument("--no-margin", action="store_true", help="leave out the run on twice the rows")
    options = asked.parse_args()
    sizes = (options.rows,) if options.no_margin else (options.rows, 2 * options.rows)
    found: dict[tuple[str, bool, int], dict[str, Any]] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared"
            prepared.mkdir()
            prepare(prepared, rows)
            for warm in ((False, True) if rows == options.rows else (True,)):
                for _ in range(options.repeats):
                    for side in ("bare", "river"):
                        again = measured(side, prepared, warm)
                        best = found.get((side, warm, rows))
                        if best is None or again["all"] < best["all"]:
                            found[side, warm, rows] = {**again, "all CPU": min(again["all CPU"], best["all CPU"] if best else again["all CPU"])}
                        else:
                            best["all CPU"] = min(best["all CPU"], again["all CPU"])
    text = "\n".join(page(found, options.rows, options.repeats))
    print(text)
    if not options.print:
        PAGE.write_text(text + "\n")


def page(found: dict[tuple[str, bool, int], dict[str, Any]], rows: int, repeats: int) -> list[str]:
    """The results as a page."""
    sys.path.insert(0, str(HERE))
    from run import machine

    lines = ["# What the river costs", "", "Made by `python benchmarks/river.py`, whose beginning says what each side does; do not edit.", "",
             f"Machine: {machine()}. Both sides in one run, the least of {repeats}.", "",
             "| what | rows | bare: wall s | CPU s | peak MB | river: wall s | CPU s | peak MB | wall, as a multiple | CPU, as a multiple |", "|---|---|---|---|---|---|---|---|---|---|"]
    for (side, warm, size), bare_side in found.items():
        if side == "bare":
            ours = found["river", warm, size]
            lines.append(f"| {'warm' if warm else 'cold'} | {size:,} | {bare_side['all']:.2f} | {bare_side['all CPU']:.2f} | {bare_side['peak_mb']:.0f} | {ours['all']:.2f} | "
                         f"{ours['all CPU']:.2f} | {ours['peak_mb']:.0f} | **{ours['all'] / bare_side['all']:.2f}** | {ours['all CPU'] / bare_side['all CPU']:.2f} |")
    if (("bare", True, 2 * rows)) in found:
        more = {side: {what: found[side, True, 2 * rows][what] - found[side, True, rows][what] for what in ("all", "all CPU")} for side in ("bare", "river")}
        lines.append(f"| each further {rows:,} rows, warm | | {more['bare']['all']:.2f} | {more['bare']['all CPU']:.2f} | | {more['river']['all']:.2f} | {more['river']['all CPU']:.2f} | | "
                     f"**{more['river']['all'] / more['bare']['all']:.2f}** | {more['river']['all CPU'] / more['bare']['all CPU']:.2f} |")
    laps, work = found["river", True, rows]["laps"], found["bare", True, rows]["laps"]
    gates = sum(laps[f"{name}, judging CPU"] for name in JUDGED)
    each = ", ".join(f"{name} {laps[f'{name}, judging CPU']:.2f}" for name in JUDGED)
    bare_work = sum(work[f"{name} CPU"] for name in ("features", "training", "scoring and four metrics"))
    lines += ["", f"All gates of stages 1, 2 and 4 took {gates:.2f} s CPU ({each}; the contract's with the "
              f"profiles and the sort before it): **{gates / bare_work:.2f}** of the {bare_work:.2f} s that features, training and scoring take in the script."]
    lines += ["", f"Where the seconds go ({rows:,} rows, warm; wall, CPU):", "", "| side | part | wall s | CPU s |", "|---|---|---|---|"]
    for side in ("bare", "river"):
        laps = found[side, True, rows]["laps"]
        lines += [f"| {side} | {name} | {laps[name]:.2f} | {laps[f'{name} CPU']:.2f} |" for name in laps if not name.endswith(" CPU")]
    return lines


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
