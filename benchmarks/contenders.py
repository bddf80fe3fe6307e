"""What is measured: each contender prepares outside the clock (imports, opening nothing), then runs inside it.

Run by `run.py`, one process each: `python benchmarks/contenders.py NAME TABLE ROWS REPEATS` prints one JSON line.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import world

RATES = ("selection_rate_ratio", "selection_rate_difference", "equal_opportunity_difference", "false_positive_rate_difference",
         "predictive_parity_difference", "accuracy_difference")
OVER = ("sex", "age_band", "sex*age_band")


def contract_here(table: Path, rows: int) -> Callable[[], Any]:
    """The package's own gate: read parquet, run the suite on Polars, plain results."""
    import polars as pl

    from compliance_assets.sources.expectations import validate

    validate(pl.DataFrame({"a": [1]}), json.dumps({"name": "warm", "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}, "meta": {}}]}).encode())  # imports
    suite = world.contract()
    return lambda: [result["success"] for result in validate(pl.read_parquet(table), suite)["results"]]


def contract_on_pandas(table: Path, rows: int) -> Callable[[], Any]:
    """Great Expectations as its documentation shows it: parquet to pandas, a batch, the suite."""
    import great_expectations as gx
    import pandas as pd
    import polars as pl
    from great_expectations.core import ExpectationSuite
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig

    suite = json.loads(world.contract())
    assert pd.__version__

    def run() -> Any:
        context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False), analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False)))
        asset = context.data_sources.add_pandas("p").add_dataframe_asset("d")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pl.read_parquet(table).to_pandas()})
        numbered = [{**item, "id": str(place)} for place, item in enumerate(suite["expectations"])]
        outcome = batch.validate(ExpectationSuite(name="s", expectations=numbered), result_format={"result_format": "BASIC"})
        return [bool(item.success) for item in sorted(outcome.results, key=lambda item: int(item.expectation_config.id))]

    return run


def contract_by_hand(table: Path, rows: int) -> Callable[[], Any]:
    """The same checks as one hand-written Polars query."""
    return lambda: [bool(world.by_hand(table))]


def contract_on_pandera(table: Path, rows: int) -> Callable[[], Any]:
    """The same checks as a pandera schema on Polars, every failure collected."""
    import pandera.polars as pa
    import polars as pl

    c = pa.Check
    between = {"application_id": (), "monthly_debt": (), "age": (c.in_range(18, 100),), "monthly_income": (c.in_range(300, 90_000),),
               "loan_amount": (c.in_range(500, 60_000),), "duration_months": (c.in_range(3, 84),), "late_payments": (c.in_range(0, 12),),
               "utilisation": (c.in_range(0, 1),), "score": (c.in_range(300, 850),), "sex": (c.isin(["female", "male", "diverse"]),),
               "employment": (c.isin(["permanent", "temporary", "self", "none"]),), "purpose": (c.isin(world.PURPOSES),),
               "branch": (c.notin(["B999", "TEST"]), c.str_matches("^B[0-9]{3}$")),
               "reference": (c.str_matches(r"^REF-\d{10}$"), c.str_length(14, 14))}
    refused = {"application_id", "age", "monthly_income", "sex", "utilisation"}
    schema = pa.DataFrameSchema(
        {name: pa.Column(nullable=name not in refused, unique=name in ("application_id", "reference"), checks=list(checks),
                         dtype={"sex": pl.String, "monthly_income": pl.Float64}.get(name)) for name, checks in between.items()},
        checks=[c(lambda data: data.lazyframe.select(pl.col("monthly_income").mean().is_between(1000, 5000))),
                c(lambda data: data.lazyframe.select(pl.col("score").std().is_between(50, 120)))])

    def run() -> Any:
        try:
            schema.validate(pl.read_parquet(table), lazy=True)
        except pa.errors.SchemaErrors as error:
            return sorted({(one["column"], one["check"]) for one in error.failure_cases.select("column", "check").unique().to_dicts()}, key=str)
        return []

    return run


def contract_on_pointblank(table: Path, rows: int) -> Callable[[], Any]:
    """The same checks as a pointblank plan on Polars; it has no step for a mean or a deviation of a whole column."""
    import pointblank as pb
    import polars as pl

    def run() -> Any:
        plan = pb.Validate(pl.read_parquet(table)).col_count_match(17)
        for name in ("application_id", "age", "monthly_income", "sex", "utilisation", "monthly_debt"):
            plan = plan.col_vals_not_null(name)
        for name in ("application_id", "reference"):
            plan = plan.rows_distinct(columns_subset=name)
        for name, low, high in (("age", 18, 100), ("monthly_income", 300, 90_000), ("loan_amount", 500, 60_000), ("duration_months", 3, 84),
                                ("late_payments", 0, 12), ("utilisation", 0, 1), ("score", 300, 850)):
            plan = plan.col_vals_between(name, low, high, na_pass=True)
        plan = plan.col_vals_in_set("sex", ["female", "male", "diverse"]).col_vals_in_set("employment", ["permanent", "temporary", "self", "none"])
        plan = plan.col_vals_in_set("purpose", [*world.PURPOSES, None]).col_vals_not_in_set("branch", ["B999", "TEST"])
        plan = plan.col_vals_regex("reference", r"^REF-\d{10}$").col_vals_regex("branch", "^B[0-9]{3}$", na_pass=True)
        return [bool(one.all_passed) for one in plan.interrogate(collect_extracts=False).validation_info]

    return run


def fairness_here(table: Path, rows: int) -> Callable[[], Any]:
    """Six comparisons over two attributes and their intersection, each with 1,000 draws, every group with its interval."""
    from compliance_assets.metrics import fairness
    from compliance_assets.metrics.fairness import measure_fairness

    people = world.people(rows)
    small = world.people(1000)
    measure_fairness(RATES, small["y"], small["decision"], small["attributes"], ("sex",))  # imports

    def run() -> Any:
        fairness._fairlearn_rates.cache_clear()  # each repeat computes everything
        return {f"{one.over} {one.metric}": {group.name: group.value for group in one.groups}
                for one in measure_fairness(RATES, people["y"], people["decision"], people["attributes"], OVER)}

    return run


def fairness_by_rows(table: Path, rows: int) -> Callable[[], Any]:
    """fairlearn's MetricFrame on the rows, the same rates by the same groups, with difference and ratio, without any interval."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score, precision_score

    people = world.people(rows)
    attributes = {name: column.to_numpy() for name, column in people["attributes"].items()}  # the form that it takes most quickly
    metrics = {"selection_rate_ratio": selection_rate, "equal_opportunity_difference": true_positive_rate,
               "false_positive_rate_difference": false_positive_rate, "predictive_parity_difference": precision_score,
               "accuracy_difference": accuracy_score}

    def run() -> Any:
        found = {}
        for over in OVER:
            sensitive = {name: attributes[name] for name in over.split("*")}
            frame = MetricFrame(metrics=metrics, y_true=people["y"], y_pred=people["decision"], sensitive_features=sensitive)
            frame.difference(), frame.ratio()
            for metric in metrics:
                found[f"{over} {metric}"] = {"*".join(key) if isinstance(key, tuple) else key: float(value)
                                             for key, value in frame.by_group[metric].items()}
        return found

    return run


CONTENDERS: dict[str, Callable[[Path, int], Callable[[], Any]]] = {
    function.__name__: function for function in (contract_here, contract_on_pandas, contract_by_hand, contract_on_pandera, contract_on_pointblank, fairness_here, fairness_by_rows)}


def main(name: str, table: str, rows: str, repeats: str) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    run = CONTENDERS[name](Path(table), int(rows))
    walls, cpus, peaks, answer = [], [], [], None
    for _ in range(int(repeats)):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    # The first time round: later ones may still hold what an earlier one left.
    print(json.dumps({"wall": min(walls), "cpu": min(cpus), "peak_mb": peaks[0], "answer": answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
