"""Two public data sets as declared systems: German Credit (1,000 rows) and Taiwan's card clients (30,000 rows, CR line ends).

The data are not in this repository; they are linked from the folder that a test names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from compliance_assets_tests.small_lender import REMOVED, write_small_lender

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GERMAN = "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871"
TAIWAN = "1fb1be2b4c85213ce7f669990baafe6abb43cd39daccb78df6ad0b039860388d"

_GERMAN_COLUMNS = ["account", "duration", "history", "purpose", "amount", "savings", "employed_since", "rate", "status_sex", "debtors", "residence",
                   "property", "age", "plans", "housing", "credits", "job", "dependents", "telephone", "foreign", "risk"]
_GERMAN_NUMBERS = {"duration": (4, 72), "amount": (250, 18424), "rate": (1, 4), "age": (19, 75)}
_GERMAN_CODES = {"account": ["A11", "A12", "A13", "A14"], "history": ["A30", "A31", "A32", "A33", "A34"], "savings": ["A61", "A62", "A63", "A64", "A65"]}
_KEYED = '''\
"""Rows of the file are numbered: it has no key of its own."""


def prepare(rows):
    """Number the rows from 1."""
    return rows.with_row_index("row", offset=1).with_columns(row=__import__("polars").col("row").cast(__import__("polars").Int64))
'''
_TAIWAN_NUMBERS = {"LIMIT_BAL": (10_000, 1_000_000), "BILL_AMT1": (-165_580, 964_511), "PAY_AMT1": (0, 873_552)}
_TAIWAN_STATES = ("PAY_0", "PAY_2", "PAY_3")
_OWN_MODEL = '''\
"""A plain regression on raw amounts, shrunk to almost nothing: it hardly sees anybody default."""


def make(C=1e-6):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    return Pipeline([("model", LogisticRegression(C=C, solver="newton-cholesky"))])
'''


def german(root: Path, **changes: Any) -> Path:
    """systems/german_credit below `root`; age cut at 25 (over or not), foreign worker yes (963) or no (37)."""
    numbers = [{"name": name, "dtype": "int64", "unit": "number", "range": list(span), "from": [name], "nulls": "refuse",
                "proxy": {"reviewed": True, "note": "looked at for this test"}} for name, span in _GERMAN_NUMBERS.items()]
    codes = [{"name": name, "dtype": "category", "unit": "code", "categories": values, "from": [name], "nulls": "refuse",
              "proxy": {"reviewed": True, "note": "looked at for this test"}} for name, values in _GERMAN_CODES.items()]
    build = _build([*_GERMAN_NUMBERS, *_GERMAN_CODES])
    contract = [*_key("row"), *(item for name, span in _GERMAN_NUMBERS.items() for item in _number(name, "int64", span)),
                *(item for name, values in (_GERMAN_CODES | {"foreign": ["A201", "A202"], "risk": ["1", "2"]}).items() for item in _words(name, values))]
    declared: dict[str, Any] = {
        "data.source": {"kind": "csv", "files": [{"path": "german.data", "sha256": GERMAN}], "separator": " ", "columns": _GERMAN_COLUMNS},
        "data.prepare": "systems.german_credit.prepare:prepare", "data.key": "row", "data.target": {"column": "risk", "favourable": "1", "prevalence": [0.69, 0.71]},
        "data.protected": {"age_band": {"from": "age", "cuts": [26]}, "foreign": {"groups": ["A201", "A202"]}},
        "data.used_as_features": [{"attribute": "age_band", "because": "age enters as a number in this test"}], "data.intersections": [],
        "data.split": {"train": 0.4, "validation": 0.1, "holdout": 0.5, "by": "row", "seed": 11},
        "data.reference_population": {"shares": {"age_band": {"below_26": 0.19, "from_26": 0.81}, "foreign": {"A201": 0.963, "A202": 0.037}}, "tolerance": 0.01,
                                      "because": "the file's own shares"},
        "data.minimum_cell": {"rows": 30, "positives": 20, "negatives": 4},
        "features.build": "systems.german_credit.features:build", "features.registry": [*numbers, *codes],
        "training.estimator": "sklearn.linear_model.LogisticRegression", "training.hyperparameters": {"C": 1.0, "max_iter": 500},
        "evaluation.performance": [{"metric": "roc_auc", "at_least": 0.65, "judged_on": "lower", "because": "published models reach .79"}],
        "evaluation.fairness.minimum_group": {"rows": 50, "positives": 20, "negatives": 5},
        "evaluation.fairness.bounds": [{"metric": "selection_rate_ratio", "over": ["age_band", "foreign"], "at_least": 0.8, "judged_on": "lower", "because": "four fifths"}],
        "deployment.abort_when": [{"metric": "error_rate", "above": 0.01}, {"metric": "unlogged_rate", "above": 0}, {"metric": "latency_ratio_p95", "above": 20}],
    }
    return _system(root, "german_credit", declared | changes, contract, {"features.py": build, "prepare.py": _KEYED}, "german/german.data")


def taiwan(root: Path, **changes: Any) -> Path:
    """systems/card_clients below `root`; favourable: does not default. Sex 1 male, 2 female as published."""
    numbers = [{"name": name.lower(), "dtype": "float64", "unit": "NT dollars", "range": list(span), "from": [name], "nulls": "refuse",
                "proxy": {"reviewed": True, "note": "looked at for this test"}} for name, span in _TAIWAN_NUMBERS.items()]
    states = [{"name": name.lower(), "dtype": "int64", "unit": "months late", "range": [-2, 8], "from": [name], "nulls": "refuse",
               "proxy": {"reviewed": True, "note": "looked at for this test"}} for name in _TAIWAN_STATES]
    contract = [*_key("ID"), *(item for name, span in _TAIWAN_NUMBERS.items() for item in _number(name, "float64", span)),
                *(item for name in _TAIWAN_STATES for item in _number(name, "int64", (-2, 8))), *_number("AGE", "int64", (21, 79)),
                *_words("SEX", ["1", "2"]), *_words("default.payment.next.month", ["0", "1"])]
    declared: dict[str, Any] = {
        "data.source": {"kind": "csv", "files": [{"path": "UCI_Credit_Card.csv", "sha256": TAIWAN}]}, "data.key": "ID",
        "data.target": {"column": "default.payment.next.month", "favourable": "0", "prevalence": [0.77, 0.79]},
        "data.protected": {"sex": {"groups": ["1", "2"], "column": "SEX"}}, "data.used_as_features": "none", "data.intersections": [],
        "data.split": {"train": 0.6, "validation": 0.2, "holdout": 0.2, "by": "ID", "seed": 11},
        "data.reference_population": {"shares": {"sex": {"1": 0.396, "2": 0.604}}, "tolerance": 0.01, "because": "the file's own shares"},
        "data.minimum_cell": {"rows": 1000, "positives": 500, "negatives": 500},
        "features.build": "systems.card_clients.features:build", "features.registry": [*numbers, *states],
        "evaluation.performance": [{"metric": "accuracy", "at_least": 0.75, "judged_on": "lower", "because": "an owner who looks at accuracy alone"}],
        "evaluation.fairness.bounds": [{"metric": "selection_rate_ratio", "over": ["sex"], "at_least": 0.8, "judged_on": "lower", "because": "four fifths"}],
        "deployment.abort_when": [{"metric": "error_rate", "above": 0.01}, {"metric": "unlogged_rate", "above": 0}, {"metric": "latency_ratio_p95", "above": 20}],
    }
    return _system(root, "card_clients", declared | changes, contract,
                   {"features.py": _build([*_TAIWAN_NUMBERS, *_TAIWAN_STATES]), "model.py": _OWN_MODEL}, "taiwan_default/UCI_Credit_Card.csv")


PREDICTS_NOBODY = {"training.estimator": "systems.card_clients.model:make", "training.hyperparameters": {}}


def _system(root: Path, name: str, changes: dict[str, Any], contract: list[dict[str, Any]], code: dict[str, str], data: str) -> Path:
    folder = write_small_lender(root, name, **{
        "expectations.json": json.dumps({"name": name, "expectations": contract}, indent=1) + "\n", "golden.json": json.dumps({"cases": []}),
        "simulator.py": REMOVED, "retraining": {"on_new_data": True}, **code, **changes})
    os.symlink(DATA / data, folder / Path(data).name)
    return folder


def _build(columns: list[str]) -> str:
    return ('"""What the model sees: columns of the file as they are."""\n\n\n'
            f'def build(frame):\n    """The registry\'s columns in its order."""\n    return frame.select({columns!r}).rename(str.lower)\n')


def _expects(kind: str, column: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_column_values_to_{kind}", "kwargs": {"column": column, **kwargs}, "meta": {"because": "as documented"}, "severity": "critical"}


def _key(column: str) -> list[dict[str, Any]]:
    return [_expects("be_of_type", column, type_="int64"), _expects("not_be_null", column), _expects("be_unique", column)]


def _number(column: str, type_: str, span: tuple[float, float]) -> list[dict[str, Any]]:
    return [_expects("be_of_type", column, type_=type_), _expects("not_be_null", column), _expects("be_between", column, min_value=span[0], max_value=span[1])]


def _words(column: str, values: list[str]) -> list[dict[str, Any]]:
    return [_expects("be_of_type", column, type_="str"), _expects("not_be_null", column), _expects("be_in_set", column, value_set=values)]
