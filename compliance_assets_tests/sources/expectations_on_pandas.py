"""The yardstick: Great Expectations on its own pandas engine, by its public interface, and random tables to hold ours against it."""

from __future__ import annotations

import datetime as dt
import json
import random
import warnings
from decimal import Decimal
from typing import Any
from unittest import mock

import polars as pl

from compliance_assets.sources import expectations

with warnings.catch_warnings():
    # The library's own imports use deprecated modules of the standard library.
    warnings.simplefilter("ignore", DeprecationWarning)
    from compliance_assets.sources import polars_engine

TEXTS = ["", " ", "a", "ab", "a\n", "abc\n", "A1", "id-0042", "Zürich", "naïve", "日本", "٣٤", "0", "12", "12.5", "nan", "None", "x" * 30, "😀", "a b", "\x1c"]
REGEXES = [r"^[a-z]+$", r"\d+", r"^\w+$", r"a|b$", r"^id-\d{4}$", r"[^a-z]", r"^$", r"(?i)A", r"\s", r"^(?:a|ab)$", r"\bA", r"a.", r"(?=a)", r"^.{2,5}$", r"^A\d\Z",
           r"ü", r"a$b"]


def on_pandas(frame: pl.DataFrame, suite: bytes) -> dict[str, Any]:
    """What Great Expectations says with its pandas engine, in the shape of `expectations.validate`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations.core import ExpectationSuite

        body = json.loads(suite)
        context = gx.get_context(mode="ephemeral", project_config=expectations._quiet())
        definition = context.data_sources.add_pandas("p").add_dataframe_asset("d").add_batch_definition_whole_dataframe("all")
        numbered = [{**item, "id": str(place)} for place, item in enumerate(body["expectations"])]
        # That engine turns a decimal column into floats in place when it averages it, so its answers on one table depend on the
        # order of a set. Held against it is what it says of an untouched table: each expectation that sees decimals by itself.
        decimals = [name for name, dtype in frame.schema.items() if dtype.is_decimal()]
        alone = [item for item in numbered if any(f'"{name}"' in json.dumps(item) for name in decimals)]
        outcomes = []
        for group in [[item for item in numbered if item not in alone], *([item] for item in alone)]:
            batch = definition.get_batch({"dataframe": polars_engine.pandas_table(frame)})
            outcome = batch.validate(ExpectationSuite(name=body["name"], expectations=group), result_format=dict(expectations.RESULT_FORMAT))
            outcomes += outcome.results
    plain = sorted((expectations.plain_result(item) for item in outcomes), key=lambda item: int(item["expectation_config"]["id"]))
    results = [expectations._result(item) for item in plain]
    return {"success": all(item["success"] for item in results), "results": results}


def column(kind: str, name: str, rows: int, rng: random.Random) -> pl.Series:
    """A random column of a kind, with gaps of a random frequency (sometimes none, sometimes nothing but gaps)."""
    gaps = rng.choice([0.0, 0.0, 0.1, 0.5, 1.0 if rng.random() < 0.2 else 0.2])
    few = rng.random() < 0.5

    def value() -> Any:
        match kind:
            case "int" | "small" | "unsigned":
                low = 0 if kind == "unsigned" else -5
                return rng.randint(low, 5) if few else rng.randint(low, 100) if kind != "int" else rng.choice([rng.randint(-10**6, 10**6), 2**53 + rng.randint(0, 3)])
            case "float" | "float32":
                return rng.choice([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.5, 2.0, -3.25]) if few else rng.uniform(-50, 50)
            case "text":
                return rng.choice(TEXTS) if few else rng.choice(TEXTS) + str(rng.randint(0, 99))
            case "ascii":
                return rng.choice(["a", "b", "A1", "id-0042", "", "a\n", "12"])
            case "bool":
                return rng.random() < 0.5
            case "enum" | "categorical":
                return rng.choice(["red", "green", "blue"])
            case "decimal":
                return Decimal(rng.randint(-500, 500)) / 100
            case "date":
                return dt.date(2020, 1, 1) + dt.timedelta(days=rng.randint(0, 9 if few else 900))
            case "datetime" | "datetime_ns":
                return dt.datetime(2020, 1, 1) + dt.timedelta(seconds=rng.randint(0, 9 if few else 10**7))
            case "zoned":
                return dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=rng.randint(0, 9 if few else 9000))
        raise AssertionError(kind)

    dtype = {"int": pl.Int64, "small": rng.choice([pl.Int8, pl.Int16, pl.Int32]), "unsigned": rng.choice([pl.UInt8, pl.UInt32, pl.UInt64]), "float": pl.Float64,
             "float32": pl.Float32, "text": pl.String, "ascii": pl.String, "bool": pl.Boolean, "enum": pl.Enum(["red", "green", "blue", "unused"]),
             "categorical": pl.Categorical(), "decimal": pl.Decimal(12, 2), "date": pl.Date, "datetime": pl.Datetime("us"), "datetime_ns": pl.Datetime("ns"),
             "zoned": pl.Datetime("us", "Europe/Berlin")}[kind]
    values = [None if rng.random() < gaps else value() for _ in range(rows)]
    if kind == "zoned":
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Europe/Berlin")
    return pl.Series(name, values, dtype=dtype)


KINDS = ("int", "small", "unsigned", "float", "float32", "text", "ascii", "bool", "enum", "categorical", "decimal", "date", "datetime", "datetime_ns", "zoned")


def table(rng: random.Random) -> pl.DataFrame:
    """One to seven random columns, none to 60 rows; the column's kind is its name's first part."""
    rows = rng.choice([0, 1, 2, 5, 20, 60])
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(2, 7))]
    return pl.DataFrame([column(kind, f"{kind}.{place}" if rng.random() < 0.9 else f"{kind} {place}", rows, rng) for place, kind in enumerate(kinds)])


def bounds(kind: str, rng: random.Random) -> dict[str, Any]:
    def one() -> Any:
        if rng.random() < 0.15:
            return None
        if kind in ("text", "ascii", "enum", "categorical") and rng.random() < 0.8:
            return rng.choice(["", "a", "b", "Z", "日"])
        if kind in ("date", "datetime", "datetime_ns", "zoned") and rng.random() < 0.9:
            return rng.choice(["2020-01-01", "2020-01-05", "2021-06-01T00:00:00", "2020-01-01T05:00:00+00:00"])
        return rng.choice([rng.randint(-6, 6), rng.uniform(-5, 5), 2.0, 100, 2**53 + 1, 1e18])
    found: dict[str, Any] = {name: value for name, value in (("min_value", one()), ("max_value", one())) if value is not None}
    if rng.random() < 0.3:
        found["strict_min"] = True
    if rng.random() < 0.3:
        found["strict_max"] = True
    return found


def values_for(kind: str, rng: random.Random) -> list[Any]:
    pool: list[Any] = {"text": TEXTS, "ascii": ["a", "b", "A1", "12", ""], "enum": ["red", "green", "brown"], "categorical": ["red", "blue", "brown"], "bool": [True, False],
                       "float": [0.0, 1.5, 2.0, 7.25], "float32": [0.0, 1.5, 2.0], "decimal": [1.5, 2.0]}.get(kind, list(range(-5, 6)))
    if kind in ("date", "datetime", "datetime_ns", "zoned"):
        pool = ["2020-01-01", "2020-01-02", "2020-01-01T00:00:05"]
    if rng.random() < 0.1:
        pool = [*pool, "other", 3, 2.5]
    return rng.sample(pool, rng.randint(1, min(6, len(pool))))


def expectation(frame: pl.DataFrame, rng: random.Random) -> dict[str, Any]:
    """One random expectation on a random column: mostly sensible, sometimes of the wrong kind or on an absent column."""
    name = rng.choice(frame.columns)
    kind = name.replace(" ", ".").split(".")[0]
    kwargs: dict[str, Any] = {"column": name if rng.random() < 0.97 else "absent"}
    type_ = rng.choice([
        "expect_column_values_to_not_be_null", "expect_column_values_to_be_null", "expect_column_values_to_be_unique", "expect_column_values_to_be_between",
        "expect_column_values_to_be_between", "expect_column_values_to_be_in_set", "expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_match_regex", "expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex", "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal", "expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list", "expect_column_mean_to_be_between",
        "expect_column_median_to_be_between", "expect_column_stdev_to_be_between", "expect_column_sum_to_be_between", "expect_column_min_to_be_between",
        "expect_column_max_to_be_between", "expect_column_unique_value_count_to_be_between", "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_distinct_values_to_be_in_set", "expect_column_quantile_values_to_be_between", "expect_table_row_count_to_be_between", "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list", "expect_table_columns_to_match_set", "expect_column_to_exist", "expect_compound_columns_to_be_unique",
        "expect_column_pair_values_a_to_be_greater_than_b", "expect_column_pair_values_to_be_equal", "expect_select_column_values_to_be_unique_within_record",
        "expect_multicolumn_sum_to_equal", "expect_column_most_common_value_to_be_in_set", "expect_column_values_to_match_regex_list"])
    if "value_lengths_to_be_between" in type_:
        kwargs |= {"min_value": rng.randint(0, 3), "max_value": rng.randint(3, 6)}
    elif "value_lengths" in type_:
        kwargs["value"] = rng.randint(0, 4)
    elif type_ == "expect_column_quantile_values_to_be_between":
        kwargs["quantile_ranges"] = {"quantiles": [0.1, 0.5, 0.9], "value_ranges": [[-5, 5], [None, 10], [0, None]]}
    elif type_.startswith("expect_table_row"):
        kwargs = {"min_value": rng.randint(0, 10), "max_value": rng.randint(10, 60)}
    elif type_.startswith("expect_table_column_count"):
        kwargs = {"value": rng.randint(2, 7)}
    elif type_.startswith("expect_table_columns_to_match_ordered"):
        kwargs = {"column_list": frame.columns if rng.random() < 0.5 else frame.columns[::-1]}
    elif type_.startswith("expect_table_columns_to_match_set"):
        kwargs = {"column_set": frame.columns if rng.random() < 0.5 else frame.columns[1:], "exact_match": rng.random() < 0.5}
    elif "between" in type_:
        kwargs |= bounds(kind if type_.startswith(("expect_column_values", "expect_column_min", "expect_column_max")) else "int", rng)
    elif "in_set" in type_:
        kwargs["value_set"] = values_for(kind, rng)
    elif type_.endswith("regex_list"):
        kwargs |= {"regex_list": rng.sample(REGEXES, 2), "match_on": "any"}
    elif "regex" in type_:
        kwargs["regex"] = rng.choice(REGEXES)
    elif type_.endswith("of_type"):
        kwargs["type_"] = rng.choice(["str", "int64", "Int64", "float64", "bool", "object", "datetime64", "Decimal", "int"])
    elif type_.endswith("type_list"):
        kwargs["type_list"] = rng.choice([["str", "int64"], ["float64"], ["object"], ["int", "bool"]])
    elif "pair" in type_:
        kwargs = {"column_A": name, "column_B": rng.choice(frame.columns),
                  "ignore_row_if": rng.choice(["both_values_are_missing", "either_value_is_missing", "neither"])}
    elif "compound" in type_ or "within_record" in type_ or "multicolumn" in type_:
        kwargs = {"column_list": rng.sample(frame.columns, min(rng.randint(2, 3), frame.width)),
                  "ignore_row_if": rng.choice(["all_values_are_missing", "any_value_is_missing", "never"])}
        if "sum" in type_:
            kwargs["sum_total"] = rng.randint(-5, 5)
    if "column" in kwargs and type_.startswith("expect_column_value") and rng.random() < 0.3:
        kwargs["mostly"] = rng.choice([0.0, 0.5, 0.9, 0.95])
    plain = [other for other in frame.columns if other.startswith(("int.", "float.", "ascii."))]
    if plain and rng.random() < 0.12 and not type_.startswith("expect_table_col") and type_ != "expect_column_to_exist":
        asked = rng.choice(plain)
        kwargs["row_condition"] = rng.choice([
            {"type": "comparison", "column": {"name": asked}, "operator": ">", "parameter": 1} if not asked.startswith("ascii") else
            {"type": "comparison", "column": {"name": asked}, "operator": "==", "parameter": "a"},
            {"type": "nullity", "column": {"name": asked}, "is_null": rng.random() < 0.5}])
    return {"type": type_, "kwargs": kwargs, "meta": {}}


def compared(seed: int, size: int = 40) -> tuple[int, list[str]]:
    """How many expectations of one random suite were compared, and every difference in words."""
    rng = random.Random(seed)
    frame = table(rng)
    wanted: dict[str, dict[str, Any]] = {}
    while len(wanted) < size:
        item = expectation(frame, rng)
        if understood(item):
            wanted[json.dumps([item["type"], item["kwargs"]], sort_keys=True, default=str)] = item
    suite = json.dumps({"name": "random", "expectations": list(wanted.values())}).encode()
    with mock.patch.object(expectations, "_SHOWS_ONE_ROW", ()):  # compared as well, though evidence does not keep them
        ours, theirs = expectations.validate(frame, suite), on_pandas(frame, suite)
    assert len(ours["results"]) == len(theirs["results"]) == size
    return size, [f"seed {seed}: {json.dumps(mine)} IS NOT {json.dumps(yours)} ON {frame.schema}"
                  for mine, yours in zip(ours["results"], theirs["results"], strict=True) if shown(mine) != shown(yours)]


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """Everything that evidence keeps of a result. Of a failure only that there is one: messages may quote what was attempted."""
    return {name: value if name != "error" else True for name, value in result.items()}


def understood(item: dict[str, Any]) -> bool:
    """Whether Great Expectations accepts the arguments at all (it leaves out of a suite what it does not)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from great_expectations.core import ExpectationSuite

        try:
            return len(ExpectationSuite(name="one", expectations=[item]).expectations) == 1
        except (ValueError, TypeError):
            return False
