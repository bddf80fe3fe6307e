"""On public data sets, measured values are the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.quality import label_prevalence

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_adult = pytest.mark.skipif(not (DATA / "adult").is_dir(), reason=f"the Adult data set is not in {DATA}")
needs_german = pytest.mark.skipif(not (DATA / "german").is_dir(), reason=f"the German Credit data set is not in {DATA}")

ADULT = ("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship", "race",
         "sex", "capital_gain", "capital_loss", "hours", "country", "income")


@pytest.fixture(scope="module")
def adult():
    """All 48,842 rows; the test file's first line is no row, and its labels end in a full stop."""
    import polars as pl

    rows = []
    for name, skipped in (("adult.data", 0), ("adult.test", 1)):
        for line in (DATA / "adult" / name).read_text().splitlines()[skipped:]:
            if line.strip():
                rows.append([None if cell.strip() == "?" else cell.strip().rstrip(".") for cell in line.split(",")])
    frame = pl.DataFrame(rows, schema=dict.fromkeys(ADULT, pl.String), orient="row")
    numeric = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours"]
    return frame.with_columns(pl.col(numeric).cast(pl.Int64))


@needs_adult
def test_the_base_rates_of_adult_are_the_published_ones(adult):
    measured = label_prevalence((adult["income"] == ">50K").to_numpy(), "sex", {"sex": adult["sex"]})
    assert measured.n == 48_842
    assert round(measured.value, 4) == 0.2393
    assert {group.name: round(group.value, 4) for group in measured.groups} == {"Female": 0.1093, "Male": 0.3038}


@needs_adult
def test_fairlearns_quickstart_on_adult_comes_out_as_published(adult):
    from sklearn.tree import DecisionTreeClassifier

    y = (adult["income"] == ">50K").to_numpy().astype(int)
    features = adult.drop("income")
    categorical = [name for name in features.columns if str(features[name].dtype) == "String"]
    dummies = features.to_dummies(categorical, drop_nulls=True)
    tree = DecisionTreeClassifier(min_samples_leaf=10, max_depth=4, random_state=0).fit(dummies.to_numpy(), y)
    decision = tree.predict(dummies.to_numpy())
    attributes = {"sex": adult["sex"]}
    accuracy, selection = (measure_fairness((name,), y, decision, attributes, ("sex",))[0]
                           for name in ("accuracy_difference", "selection_rate_ratio"))
    # The documentation cuts its digits off ("0.8042..."), it does not round them.
    assert {g.name: int(g.value * 1e4) for g in accuracy.groups} == {"Female": 9251, "Male": 8042}
    assert {g.name: int(g.value * 1e4) for g in selection.groups} == {"Female": 635, "Male": 2135}
    overall = measure_performance(("accuracy",), y, decision.astype(float), 0.5)[0]
    assert int(overall.value * 1e4) == 8443
    assert int(decision.mean() * 1e4) == 1638
    assert selection.upper < 0.80


@needs_german
def test_the_german_age_ratio_stands_on_either_side_of_four_fifths_by_its_cut():
    rows = [line.split() for line in (DATA / "german" / "german.data").read_text().splitlines() if line]
    good, age = np.array([row[20] == "1" for row in rows]).astype(int), np.array([int(row[12]) for row in rows])
    below, above = (
        measure_fairness(("selection_rate_ratio",), good, good, {"age": np.where(young, "young", "old")}, ("age",))[0]
        for young in (age <= 25, age < 25))
    assert below.value == (110 / 190) / (590 / 810)
    assert below.value < 0.80 and f"{below.value:.4f}" == "0.7948"
    assert above.value == (88 / 149) / (612 / 851)
    assert above.value > 0.80 and f"{above.value:.3f}" == "0.821"
    assert below.lower < 0.80 < below.upper
    assert [(g.name, g.n, g.positives) for g in below.groups] == [("old", 810, 590), ("young", 190, 110)]
