"""The contract on Polars says exactly what Great Expectations' own pandas engine says, and nothing about anybody."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import json
import os
import weakref
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import StageError
from compliance_assets.sources.expectations import validate
from compliance_assets_tests.sources.expectations_on_pandas import compared, on_pandas, polars_engine


def suite(*expected: tuple[str, dict[str, Any]]) -> bytes:
    return json.dumps({"name": "s", "expectations": [{"type": kind, "kwargs": kwargs, "meta": {}} for kind, kwargs in expected]}).encode()


def frame() -> pl.DataFrame:
    return pl.DataFrame({"id": ["p1", "p2", "p3", "p3", None], "age": [20, 30, None, 50, 210], "score": [0.5, float("nan"), 1.5, 2.5, None]})


def test_random_suites_on_random_tables_never_differ_from_pandas() -> None:
    seen, differences = 0, []
    for seed in range(2000, 2013):
        size, found = compared(seed)
        seen, differences = seen + size, differences + found
    assert seen >= 500
    assert not differences, differences[0]


@pytest.mark.slow
def test_many_random_comparisons_never_differ_from_pandas() -> None:
    """COMPLIANCE_GX_COMPARISONS says how many (10000 takes about five minutes; 1000 without it)."""
    wanted = int(os.environ.get("COMPLIANCE_GX_COMPARISONS", "1000"))
    seen, differences = 0, []
    for seed in itertools.count(5000):
        if seen >= wanted:
            break
        size, found = compared(seed)
        seen, differences = seen + size, differences + found
    print(f"{seen:,} comparisons, {len(differences)} differences")
    assert not differences, "\n".join(differences[:3])


def test_no_value_of_anybody_is_in_the_result_or_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    table = pl.DataFrame({"name": ["Ada Secret", "Bob Secret", "Bob Secret"], "age": [1234567, 2, 3]})
    said = validate(table, suite(
        ("expect_column_values_to_be_unique", {"column": "name"}), ("expect_column_values_to_be_in_set", {"column": "name", "value_set": ["x"]}),
        ("expect_column_values_to_match_regex", {"column": "name", "regex": "^x$"}), ("expect_column_values_to_be_between", {"column": "age", "max_value": 9}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "name", "value_set": ["x"]}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "name", "value_set": ["x"]}),
        ("expect_column_mean_to_be_between", {"column": "name", "max_value": 1}),  # its failure quotes the values
        ("expect_column_max_to_be_between", {"column": "age", "max_value": 9}), ("expect_column_median_to_be_between", {"column": "age", "max_value": 9}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["name", "age"]})))
    text = json.dumps(said)
    assert "Secret" not in text
    assert "1234567" not in text
    assert "Secret" not in caplog.text


def test_unexpected_values_are_not_even_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[str]] = []
    whole = polars_engine.PolarsExecutionEngine._collect

    def watched(self: Any, expressions: Any) -> Any:
        found = whole(self, expressions)
        passes.extend([str(type(value)) for value in row] for row in found)
        return found

    monkeypatch.setattr(polars_engine.PolarsExecutionEngine, "_collect", watched)
    monkeypatch.setattr(polars_engine.PolarsExecutionEngine, "_ask_pandas", lambda *_: pytest.fail("pandas was asked"))
    said = validate(frame(), suite(("expect_column_values_to_be_unique", {"column": "id"}), ("expect_column_values_to_be_between", {"column": "age", "max_value": 99})))
    assert [result["unexpected_count"] for result in said["results"]] == [2, 1]
    assert all(kind == "<class 'int'>" for row in passes for kind in row)


def test_a_suite_of_counts_is_one_pass_and_only_a_repeated_key_needs_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[int] = []
    whole = polars_engine.PolarsExecutionEngine._collect
    monkeypatch.setattr(polars_engine.PolarsExecutionEngine, "_collect", lambda self, expressions: collected.append(len(expressions)) or whole(self, expressions))
    checks = [("expect_column_values_to_not_be_null", {"column": name}) for name in ("id", "age", "score")]
    validate(frame().head(3), suite(*checks, ("expect_column_values_to_be_unique", {"column": "id"})))
    assert [size for size in collected if size] == [5]
    collected.clear()
    validate(frame(), suite(*checks, ("expect_column_values_to_be_unique", {"column": "id"})))
    assert [size for size in collected if size] == [5, 1]


def test_the_table_is_let_go_when_the_contract_has_been_judged() -> None:
    table = frame()
    alive = weakref.ref(table)
    gc.disable()
    try:
        validate(table, suite(("expect_column_values_to_not_be_null", {"column": "age"})))
        del table
        assert alive() is None
    finally:
        gc.enable()


def test_one_broken_expectation_does_not_sink_the_others() -> None:
    said = validate(frame(), suite(("expect_column_mean_to_be_between", {"column": "absent", "max_value": 1}),
                                   ("expect_column_values_to_be_between", {"column": "id", "max_value": 1}),
                                   ("expect_table_row_count_to_be_between", {"min_value": 5, "max_value": 5})))
    first, second, third = said["results"]
    assert "absent" in first["error"]
    assert second["error"]
    assert not first["success"]
    assert not second["success"]
    assert third["success"]
    assert not said["success"]


def test_results_come_in_the_order_of_the_suite_even_where_two_expectations_are_alike() -> None:
    wanted = [("expect_column_quantile_values_to_be_between", {"column": "age", "quantile_ranges": {"quantiles": [0.1, 0.5], "value_ranges": [[0, 30], [0, 50]]}}),
              ("expect_column_values_to_not_be_null", {"column": "id"}), ("expect_table_row_count_to_be_between", {"min_value": 1}),
              ("expect_column_values_to_not_be_null", {"column": "id", "mostly": 0.5})]
    said = validate(frame(), suite(*wanted))
    assert [result["type"] for result in said["results"]] == [kind for kind, _ in wanted]
    assert [result["success"] for result in said["results"]] == [True, False, True, True]


def test_decimals_are_judged_the_same_whatever_was_asked_before() -> None:
    """Great Expectations' pandas engine turns decimals into floats in place when it averages: "1.50" becomes "1.5"."""
    table = pl.DataFrame({"amount": pl.Series(["1.50", "2.00"]).cast(pl.Decimal(6, 2))})
    length = ("expect_column_value_lengths_to_equal", {"column": "amount", "value": 4})
    mean = ("expect_column_mean_to_be_between", {"column": "amount", "min_value": 1, "max_value": 2})
    assert validate(table, suite(length))["success"]
    assert validate(table, suite(mean, length))["success"]
    assert validate(table, suite(length, mean))["success"]


def test_the_same_table_gives_the_same_bytes() -> None:
    wanted = suite(("expect_column_mean_to_be_between", {"column": "score", "max_value": 9}), ("expect_column_stdev_to_be_between", {"column": "age", "max_value": 9}),
                   ("expect_column_values_to_be_unique", {"column": "id"}))
    assert len({json.dumps(validate(frame(), wanted)) for _ in range(3)}) == 1


def test_a_huge_pattern_is_left_to_python_and_not_refused() -> None:
    pattern = ("expect_column_values_to_match_regex", {"column": "id", "regex": r"^(?:(?:[a-z]{400}){400}){400}|p\d$"})
    assert validate(frame(), suite(pattern))["results"] == on_pandas(frame(), suite(pattern))["results"]


def test_an_observation_that_cannot_be_written_fails_alone() -> None:
    table = pl.DataFrame({"day": pl.Series([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 5)], dtype=pl.Datetime("ns"))})
    first, second = validate(table, suite(("expect_column_stdev_to_be_between", {"column": "day"}),
                                          ("expect_column_values_to_not_be_null", {"column": "day"})))["results"]
    assert "cannot be written" in first["error"]
    assert not first["success"]
    assert second["success"]


def test_a_contract_that_is_none_is_refused() -> None:
    with pytest.raises(StageError, match="not a Great Expectations suite"):
        validate(frame(), b"[]")
