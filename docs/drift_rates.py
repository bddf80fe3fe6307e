"""How often does the drift rule start a retraining that nobody needed, and how soon does it find drift? By simulation.

`python docs/drift_rates.py` writes docs/drift-rates.md beside it: the same seeds, the same table. The statistic is the monitor's own
(`governance.monitoring.measured`), the rule the sensor's own (`policy.watching.is_drift`), bound and windows the example's declaration;
only the requests are made up, by the example's simulator. DRIFT_SEEDS says how many months each row has (100 for the page).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import polars as pl

from compliance_assets.governance import monitoring
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.watching import is_drift

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("drift-rates.md")
DAYS, TRAINING = 30, 30_000
SEEDS = int(os.environ.get("DRIFT_SEEDS", "100"))
PER_DAY = (300, 1_000)
ENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the world has drifted on the last day; it drifts evenly from the first."""


def month(reference: monitoring.Reference, rows: int, end: float, seed: int) -> tuple[int | None, int]:
    """The first day on which the rule fires (None: never), and how many single days were above the bound."""
    declared = reference.definition.system.retraining.on_drift
    assert declared is not None
    simulate = reference.definition.load_code("systems.credit_lending.simulator:simulate")
    build = reference.definition.load_code("systems.credit_lending.features:build")
    seen: list[bool | None] = []
    first: int | None = None
    for day in range(1, DAYS + 1):
        raw = simulate(rows=rows, seed=1_000_000 + seed * 1_000 + day, drift=end * day / DAYS)
        found = monitoring.measured(reference, str(day), build(raw.lazy()).collect().select(NAMES), [{}] * rows)
        seen.append(found.drifted)
        if first is None and is_drift(seen, declared):
            first = day
    return first, sum(one is True for one in seen)


def table(seeds: int) -> str:
    """The rows of the page."""
    definition = load_definition(ROOT / "systems" / "credit_lending")
    NAMES[:] = [feature.name for feature in definition.system.features.registry]
    raw = definition.load_code("systems.credit_lending.simulator:simulate")(rows=TRAINING, seed=7)
    frame = definition.load_code("systems.credit_lending.features:build")(raw.lazy()).collect().select(NAMES)
    # The features alone: a score is a function of them, and no model is trained here.
    reference = monitoring.profiled(frame, pl.DataFrame({name: [None] * TRAINING for name in definition.system.data.protected},
                                                        schema=dict.fromkeys(definition.system.data.protected, pl.String)), definition)
    lines = ["| drift on day 30 | requests a day | months | months in which the rule fired | first day: median (range) | "
             "single days above the bound |", "|---|---|---|---|---|---|"]
    for rows in PER_DAY:
        for end in ENDS:
            found = [month(reference, rows, end, seed) for seed in range(seeds)]
            fired = sorted(first for first, _ in found if first is not None)
            when = f"{fired[len(fired) // 2]} ({fired[0]} to {fired[-1]})" if fired else "none"
            days = sum(above for _, above in found)
            lines.append(f"| {end:g} | {rows:,} | {seeds} | {len(fired)} | {when} | {days} of {seeds * DAYS} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


NAMES: list[str] = []
HEAD = """# How often the drift rule is wrong

Made by `python docs/drift_rates.py`. Each row simulates months of requests to the example system: the example's own simulator, another
seed for every day. Drift grows evenly from none to the figure in the first column (1 is the simulator's recession: incomes 25 %
lower, debts 40 % higher). The rule is the declared one: the population stability index of any feature above 0.25 in 3 of the last 5
days and on the last. Features only: a model's score, which the monitor watches too, is left out here.

"""

if __name__ == "__main__":
    PAGE.write_text(HEAD + table(SEEDS) + "\n")
