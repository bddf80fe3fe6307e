"""The data contract of a system, read from its Great Expectations suite without loading Great Expectations.

Stage 1 runs the suite itself. Here its expectations become one `ColumnContract` for each column, which says what a server
may accept as input (type, range, categories, nulls): what data was trained on and what is asked in production are bound by
the same file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.declared import Problem, plain
from compliance_assets.policy.reading import read_text

if TYPE_CHECKING:
    from compliance_assets.policy.system import System

ColumnType = Literal["int64", "float64", "str", "bool", "date"]

_TYPES: Mapping[str, ColumnType] = {
    "int64": "int64", "int": "int64", "Int64": "int64", "int32": "int64", "Int32": "int64", "INTEGER": "int64",
    "float64": "float64", "float": "float64", "Float64": "float64", "float32": "float64", "Float32": "float64",
    "str": "str", "String": "str", "string": "str", "object": "str", "Utf8": "str", "category": "str",
    "bool": "bool", "Boolean": "bool", "boolean": "bool", "bool_": "bool",
    "date": "date", "Date": "date", "datetime64[ns]": "date", "datetime64": "date", "Datetime": "date",
}
"""Type names as suites write them (numpy, pandas, polars, Python), and the five kinds that a server tells apart."""


@dataclass(frozen=True)
class ColumnContract:
    """What one raw column may hold. A bound is inclusive unless it is strict; None means that nothing is promised."""

    name: str
    type: ColumnType | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str | int | bool, ...] | None = None
    nullable: bool = True
    strict_minimum: bool = False
    strict_maximum: bool = False
    line: int = field(default=1, compare=False)
    """Where the suite first speaks of the column."""

    @property
    def numeric(self) -> bool:
        return self.type in ("int64", "float64")


class _WrongError(Exception):
    """One expectation that cannot be read: rule and remedy."""


def read_contract(path: Path) -> tuple[ColumnContract, ...]:
    """Every column that the suite at `path` speaks of, in its order.

    DeclarationError, naming file, line and the expectation's position, for a file that is no suite, an expectation that
    contradicts an earlier one, or bounds that no value can meet. Expectations of other kinds are left to stage 1.
    """
    text = read_text(path)
    suite = _parsed(path, text)
    columns: dict[str, ColumnContract] = {}
    problems: list[str] = []
    lines = _expectation_lines(text, len(suite))
    for index, expectation in enumerate(suite):
        try:
            told = _read_one(expectation, columns, lines[index])
        except _WrongError as wrong:
            problems.append(f"{path}:{lines[index]}: expectations[{index}]: {wrong}")
            continue
        if told is not None:
            columns[told.name] = told
    if problems:
        raise _refused(path, problems)
    return tuple(columns.values())


def _refused(path: Path, problems: Sequence[str]) -> DeclarationError:
    return DeclarationError(f"{path} cannot be read as a data contract.", problems=tuple(problems), rule="data contract",
                            value=str(path))


def _parsed(path: Path, text: str) -> list[Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _WrongError(f"a key occurs twice among {', '.join(sorted(key for key, _ in pairs))}. Keep one of the two.")
        return found

    def constant(name: str) -> float:
        raise _WrongError(f"{name} is not JSON. Leave the bound out where there is none.")

    try:
        suite = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _refused(path, [f"{path}:{error.lineno}: is not JSON: {error.msg}. Save the suite with to_json_dict()."]) from None
    except RecursionError:
        raise _refused(path, [f"{path}:1: is nested too deeply. Save the suite with to_json_dict()."]) from None
    except _WrongError as wrong:
        raise _refused(path, [f"{path}:1: {wrong}"]) from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise _refused(path, [f"{path}:1: is no Great Expectations suite: it needs a list of expectations. "
                              "Save the suite with to_json_dict()."])
    if not suite["expectations"]:
        raise _refused(path, [f"{path}:1: expects nothing, so it admits everything. Say what every column may hold."])
    return list(suite["expectations"])


def _expectation_lines(text: str, count: int) -> list[int]:
    """The line of each expectation: where its `"type"` stands outside of strings' contents; the first line if in doubt."""
    found = [number for number, line in enumerate(text.split("\n"), start=1) for _ in range(line.count('"type": "expect_'))]
    return found if len(found) == count else [1] * count


def _read_one(expectation: Any, columns: Mapping[str, ColumnContract], line: int) -> ColumnContract | None:
    """The column's contract with what this expectation adds; None if it speaks of nothing that a server checks."""
    if not isinstance(expectation, dict) or not isinstance(expectation.get("type"), str) or not isinstance(
            expectation.get("kwargs"), dict):
        raise _WrongError("needs a type and kwargs (the form of Great Expectations 1.x). Save the suite with to_json_dict().")
    kind, kwargs = expectation["type"], expectation["kwargs"]
    if kind not in _READERS:
        return None
    name = kwargs.get("column")
    if not isinstance(name, str) or not name:
        raise _WrongError(f"{kind} names no column. Give kwargs.column.")
    if kwargs.get("row_condition") is not None:
        return None  # holds for some rows only, so it does not bound the column
    if kwargs.get("mostly", 1) != 1:
        return columns.get(name, ColumnContract(name, line=line))  # a share may break it, so a server cannot refuse by it
    return _READERS[kind](columns.get(name, ColumnContract(name, line=line)), kwargs)


def _type(column: ColumnContract, kwargs: Mapping[str, Any]) -> ColumnContract:
    return _with_type(column, [kwargs.get("type_")])


def _type_list(column: ColumnContract, kwargs: Mapping[str, Any]) -> ColumnContract:
    return _with_type(column, kwargs.get("type_list") or [])


def _with_type(column: ColumnContract, names: Sequence[Any]) -> ColumnContract:
    unknown = [str(name) for name in names if name not in _TYPES]
    if unknown or not names:
        raise _WrongError(f"column {column.name}: unknown type {', '.join(unknown) or 'nothing'}. "
                          f"Known: {', '.join(sorted(_TYPES))}.")
    kinds = {_TYPES[name] for name in names}
    if kinds == {"int64", "float64"}:
        kinds = {"float64"}
    if len(kinds) != 1:
        raise _WrongError(f"column {column.name}: {', '.join(sorted(kinds))} are several types at once. Name one.")
    kind = kinds.pop()
    if column.type not in (None, kind):
        raise _WrongError(f"column {column.name} is {kind} here and {column.type} above. Keep one.")
    return _consistent(replace(column, type=kind))


def _between(column: ColumnContract, kwargs: Mapping[str, Any]) -> ColumnContract:
    for end in ("min_value", "max_value"):
        value = kwargs.get(end)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            raise _WrongError(f"column {column.name}: {end} must be a number (got {value!r:.40}). "
                              "Declare the range in the column's unit.")
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        raise _WrongError(f"column {column.name}: neither min_value nor max_value. Give at least one.")
    strict_low, strict_high = kwargs.get("strict_min") is True, kwargs.get("strict_max") is True
    # Several ranges hold together: the narrowest counts.
    if low is not None and (column.minimum is None or (low, strict_low) > (column.minimum, column.strict_minimum)):
        column = replace(column, minimum=float(low), strict_minimum=strict_low)
    if high is not None and (column.maximum is None or (-high, strict_high) > (-column.maximum, column.strict_maximum)):
        column = replace(column, maximum=float(high), strict_maximum=strict_high)
    return _consistent(column)


def _in_set(column: ColumnContract, kwargs: Mapping[str, Any]) -> ColumnContract:
    values = kwargs.get("value_set")
    if not isinstance(values, list) or not values:
        raise _WrongError(f"column {column.name}: value_set is empty. List the categories.")
    if not all(isinstance(value, str | int | bool) for value in values):
        raise _WrongError(f"column {column.name}: categories are text, whole numbers or truth values. "
                          "Bound other numbers by a range.")
    if column.categories is not None:
        values = [value for value in column.categories if value in values]
        if not values:
            raise _WrongError(f"column {column.name}: no category is in every value_set. Keep one.")
    return _consistent(replace(column, categories=tuple(dict.fromkeys(values))))


def _not_null(column: ColumnContract, kwargs: Mapping[str, Any]) -> ColumnContract:
    return replace(column, nullable=False)


def _consistent(column: ColumnContract) -> ColumnContract:
    low, high = column.minimum, column.maximum
    if low is not None and high is not None and (low > high or (low == high and (column.strict_minimum or column.strict_maximum))):
        raise _WrongError(f"column {column.name}: no value lies between {plain(low)} and {plain(high)}. Write the lowest first.")
    wanted = {"str": str, "bool": bool, "int64": int}.get(column.type or "")
    if column.categories is not None and wanted is not None and any(type(value) is not wanted for value in column.categories):
        raise _WrongError(f"column {column.name} is {column.type}, but a category is not. "
                          "Write the categories in the column's type.")
    return column


_READERS: dict[str, Callable[[ColumnContract, Mapping[str, Any]], ColumnContract]] = {
    "expect_column_values_to_be_of_type": _type,
    "expect_column_values_to_be_in_type_list": _type_list,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_to_exist": lambda column, kwargs: column,
}


def check_contract(system: System, contract: Sequence[ColumnContract]) -> tuple[Problem, ...]:
    """What `system` needs of its contract and does not find there; keys are those of system.yaml.

    Every column from which a feature is computed needs a type, and a range (numbers) or categories (text); key, target and
    the columns of protected attributes must be spoken of.
    """
    return tuple(_gaps(system, {column.name: column for column in contract}))


def _gaps(system: System, columns: Mapping[str, ColumnContract]) -> Iterator[Problem]:
    known = f"{system.data.contract} speaks of: {', '.join(columns)}."
    for where, name, what in (
        (("data", "key"), system.data.key, "the key"),
        (("data", "target", "column"), system.data.target.column, "the target"),
        (("data", "split", "by"), system.data.split.by, "the column to split by"),
        *((("evaluation", "time_slices", "column"), sliced.column, "the column to slice by")
          for sliced in (system.evaluation.time_slices,) if sliced is not None),
        *((("data", "protected", attribute), system.data.column_of(attribute), f"the protected attribute {attribute}")
          for attribute in system.data.protected),
    ):
        if name not in columns:
            yield Problem(where, f"the contract does not speak of {what}, column {name}", known)
    for index, feature in enumerate(system.features.registry):
        for name in feature.from_:
            place = ("features", "registry", index, "from")
            column = columns.get(name)
            if column is None:
                yield Problem(place, f"the contract does not speak of column {name}", known)
            elif column.type is None:
                yield Problem(place, f"the contract gives column {name} no type", "Add expect_column_values_to_be_of_type.")
            elif column.type == "date" and column.categories is None:
                yield Problem(place, f"column {name} is a date, which a server cannot bound", "Prepare a number of days from it.")
            elif column.numeric and column.categories is None and (column.minimum is None or column.maximum is None):
                yield Problem(place, f"the contract gives column {name} no range",
                              "Add expect_column_values_to_be_between, both ends.")
            elif column.type == "str" and column.categories is None:
                yield Problem(place, f"the contract gives column {name} no categories", "Add expect_column_values_to_be_in_set.")
