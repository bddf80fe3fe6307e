"""The form in which features are handed to an estimator changes nothing of what it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from compliance_assets.stages.estimators import Prepared, for_fitting
from compliance_assets.trust.canonical import state_digest

BY_TYPE = {"kind": "none", "categories": "by type", "missing": "as they are"}


def features(rows: int = 3_000) -> tuple[pl.DataFrame, Any]:
    draw = np.random.default_rng(3)
    number = draw.normal(size=rows)
    kind = draw.integers(0, 3, rows)
    return pl.DataFrame({
        "income": pl.Series(number).set(pl.Series(draw.random(rows) < 0.1), None),
        "months": draw.integers(6, 60, rows),
        "purpose": pl.Series(np.array(["car", "école", "home"])[kind].tolist(), dtype=pl.Enum(["home", "car", "never", "école"])),
    }), (number + kind + draw.normal(size=rows) > 1).astype(np.int8)


def prepared(**how: Any) -> Prepared:
    return Prepared(HistGradientBoostingClassifier(max_iter=20, random_state=7, categorical_features="from_dtype"), {**BY_TYPE, **how}, "sample_weight")


def test_the_model_is_the_same_to_the_bit_whatever_holds_the_rows() -> None:
    frame, label = features()
    one = prepared()
    handed = for_fitting(one, frame)
    assert not isinstance(handed, pl.DataFrame)
    through_pandas = one.estimator.fit(handed, label)
    through_polars = prepared().estimator.fit(frame, label)
    assert state_digest(through_pandas) == state_digest(through_polars)
    assert (through_pandas.predict_proba(frame) == through_polars.predict_proba(frame)).all()


@pytest.mark.parametrize("column", [
    pl.Series("odd", [True, False, None]),  # becomes objects
    pl.Series("odd", [1, None, 3]),  # becomes a float
    pl.Series("odd", ["a", None, "b"], dtype=pl.Enum(["a", "b"])),  # its gap gets another name
], ids=["a truth", "a gap among whole numbers", "a gap among categories"])
def test_what_pandas_would_turn_into_something_else_stays_as_it_is(column: pl.Series) -> None:
    frame = pl.DataFrame({"kind": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"]))}).with_columns(column)
    assert for_fitting(prepared(), frame) is frame


def test_an_estimator_behind_a_preparation_gets_the_frame_itself() -> None:
    frame, _ = features(10)
    assert for_fitting(prepared(kind="one-hot and numbers", categories={}), frame) is frame
