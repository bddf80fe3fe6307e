"""The data contract is read from the suite that stage 1 runs, and must bound every column that a feature is computed from."""

from __future__ import annotations

import json

import pytest

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.contract import ColumnContract, check_contract, read_contract
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import System
from compliance_assets_tests.small_lender import SYSTEM, expectations


def expectation(kind, column="age", **kwargs):
    return {"type": f"expect_column_values_to_{kind}", "kwargs": {"column": column, **kwargs}, "meta": {}}


def contract(tmp_path, *expected, text=None):
    path = tmp_path / "expectations.json"
    path.write_text(json.dumps({"name": "x", "expectations": list(expected)}, indent=1) if text is None else text)
    return read_contract(path)


def problems(tmp_path, *expected, text=None):
    with pytest.raises(DeclarationError) as error:
        contract(tmp_path, *expected, text=text)
    return [problem.removeprefix(f"{tmp_path}/") for problem in error.value.problems]


def test_the_small_lenders_contract_says_what_a_server_may_accept(tmp_path):
    columns = {c.name: c for c in contract(tmp_path, *expectations()["expectations"])}
    assert list(columns) == [
        "application_id",
        "sex",
        "age",
        "monthly_income",
        "monthly_debt",
        "late_payments",
        "employment",
        "repaid",
    ]
    assert columns["age"] == ColumnContract("age", "int64", 18.0, 100.0, nullable=False)
    assert columns["employment"].categories == ("permanent", "temporary", "none")
    assert not columns["employment"].nullable
    assert columns["repaid"].type == "bool"
    assert (
        columns["age"].line
        == 1
        + (tmp_path / "expectations.json")
        .read_text()[: (tmp_path / "expectations.json").read_text().index('"column": "age"')]
        .count("\n")
        - 2
    )


def test_a_suite_that_great_expectations_wrote_is_read(tmp_path):
    """The form of `ExpectationSuite.to_json_dict()` in Great Expectations 1.x, as observed."""
    suite = {
        "name": "x",
        "id": None,
        "notes": None,
        "meta": {"great_expectations_version": "1.24.1"},
        "expectations": [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "a", "min_value": 0.0, "max_value": 1.0, "strict_min": True},
                "meta": {},
                "severity": "critical",
            },
            {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {}, "severity": "critical"},
        ],
    }
    (column,) = contract(tmp_path, text=json.dumps(suite))
    assert column == ColumnContract("a", None, 0.0, 1.0, strict_minimum=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("int64", "int64"),
        ("Int64", "int64"),
        ("float32", "float64"),
        ("object", "str"),
        ("String", "str"),
        ("bool_", "bool"),
        ("datetime64[ns]", "date"),
    ],
)
def test_types_of_every_library_become_one_of_five(tmp_path, name, kind):
    assert contract(tmp_path, expectation("be_of_type", type_=name))[0].type == kind
    assert contract(tmp_path, expectation("be_in_type_list", type_list=[name]))[0].type == kind


def test_several_ranges_hold_together(tmp_path):
    (column,) = contract(
        tmp_path,
        expectation("be_between", min_value=0, max_value=90),
        expectation("be_between", min_value=18, max_value=100),
        expectation("be_between", min_value=18, strict_min=True),
    )
    assert (column.minimum, column.maximum, column.strict_minimum, column.strict_maximum) == (18, 90, True, False)


def test_what_holds_for_most_or_some_rows_binds_no_single_request(tmp_path):
    (column,) = contract(
        tmp_path, expectation("be_between", min_value=0, max_value=1, mostly=0.95), expectation("not_be_null", mostly=0.95)
    )
    assert column == ColumnContract("age")
    assert contract(tmp_path, expectation("be_between", min_value=0, max_value=1, row_condition='sex=="x"')) == ()


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ([expectation("be_of_type", type_="int46")], "unknown type int46"),
        ([expectation("be_of_type")], "unknown type None"),
        ([expectation("be_in_type_list", type_list=["int64", "str"])], "several types at once"),
        ([expectation("be_of_type", type_="int64"), expectation("be_of_type", type_="str")], "is str here and int64 above"),
        ([expectation("be_between")], "neither min_value nor max_value"),
        ([expectation("be_between", min_value="18")], "must be a number"),
        ([expectation("be_between", min_value=True)], "must be a number"),
        ([expectation("be_between", min_value=2, max_value=1)], "no value lies between 2 and 1"),
        ([expectation("be_between", min_value=1, max_value=1, strict_max=True)], "no value lies between"),
        ([expectation("be_between", min_value=5), expectation("be_between", max_value=4)], "no value lies between 5 and 4"),
        ([expectation("be_in_set", value_set=[])], "value_set is empty"),
        ([expectation("be_in_set", value_set=[0.5])], "categories are text"),
        (
            [expectation("be_in_set", value_set=["a"]), expectation("be_in_set", value_set=["b"])],
            "no category is in every value_set",
        ),
        ([expectation("be_of_type", type_="str"), expectation("be_in_set", value_set=[1])], "but a category is not"),
        ([{"type": "expect_column_values_to_be_between", "kwargs": {"min_value": 1}}], "names no column"),
        (
            [{"expectation_type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}}],
            "the form of Great Expectations 1.x",
        ),
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused_with_its_position(tmp_path, expected, words):
    (problem,) = problems(tmp_path, *expected)
    assert words in problem
    assert problem.startswith("expectations.json:")
    assert f": expectations[{len(expected) - 1}]: " in problem


def test_the_line_is_that_of_the_expectation(tmp_path):
    (problem,) = problems(tmp_path, expectation("not_be_null"), expectation("be_of_type", type_="int46"))
    lines = (tmp_path / "expectations.json").read_text().split("\n")
    assert "be_of_type" in lines[int(problem.split(":")[1]) - 1]


def test_all_wrong_expectations_are_told_at_once(tmp_path):
    assert (
        len(problems(tmp_path, expectation("be_between"), expectation("not_be_null"), expectation("be_in_set", value_set=[]))) == 2
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[]", "no Great Expectations suite"),
        ('{"expectations": {}}', "no Great Expectations suite"),
        ('{"expectations": []}', "expects nothing"),
        ('{"expectations": [], "expectations": []}', "a key occurs twice"),
        ('{"expectations": [NaN]}', "NaN is not JSON"),
        ('{"expectations": [1]}', "needs a type and kwargs"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path, text, words):
    assert words in problems(tmp_path, text=text)[0]


# ------------------------------------------------------------------------------------------------- against the declaration


@pytest.fixture
def system(tmp_path):
    (tmp_path / "system.yaml").write_text(SYSTEM)
    return read_declared(tmp_path / "system.yaml", System)


def gaps(tmp_path, system, *, drop):
    kept = [
        item
        for item in expectations()["expectations"]
        if not drop(item["type"].removeprefix("expect_column_values_to_"), item["kwargs"]["column"])
    ]
    return [str(problem) for problem in check_contract(system, contract(tmp_path, *kept))]


def test_the_healthy_contract_has_no_gap(tmp_path, system):
    assert gaps(tmp_path, system, drop=lambda kind, column: False) == []


@pytest.mark.parametrize(
    ("kind", "column", "key", "words"),
    [
        (None, "application_id", "data.key", "does not speak of the key"),
        (None, "repaid", "data.target.column", "speak of the target"),
        (None, "sex", "data.protected.sex", "the protected attribute sex"),
        (None, "age", "data.protected.age_band", "column age"),
        (None, "late_payments", "features.registry[2].from", "does not speak of column late_payments"),
        ("be_of_type", "late_payments", "features.registry[2].from", "no type"),
        ("be_between", "late_payments", "features.registry[2].from", "no range"),
        ("be_in_set", "employment", "features.registry[3].from", "no categories"),
    ],
)
def test_a_column_that_is_needed_must_be_bounded(tmp_path, system, kind, column, key, words):
    told = gaps(tmp_path, system, drop=lambda k, c: c == column and kind in (None, k))
    assert any(problem.startswith(f"{key}: ") and words in problem for problem in told), told


def test_half_a_range_is_no_range(tmp_path, system):
    body = expectations()
    for item in body["expectations"]:
        if item["type"].endswith("be_between") and item["kwargs"]["column"] == "late_payments":
            del item["kwargs"]["max_value"]
    (problem,) = check_contract(system, contract(tmp_path, *body["expectations"]))
    assert "no range" in problem.rule
