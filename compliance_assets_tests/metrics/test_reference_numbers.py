"""The numbers that stand beside the public data sets come out of the measurements here, digit by digit.

Values marked V there (recomputed from the file) are exact; the five-fold baselines are a band of two standard deviations and run
with REFERENCE_CV=1, since they train forty models.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import polars as pl
import pytest

from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.label_audit import conflicting_labels
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.quality import completeness, duplicate_keys, label_prevalence, split_row_overlap
from compliance_assets_tests.metrics.test_reference_data import ADULT, DATA, needs_adult, needs_german

needs_taiwan = pytest.mark.skipif(not (DATA / "taiwan_default").is_dir(), reason=f"the Taiwan data set is not in {DATA}")
baselines = pytest.mark.skipif("REFERENCE_CV" not in os.environ, reason="forty trainings: set REFERENCE_CV=1")


def _adult(name: str, skipped: int) -> pl.DataFrame:
    rows = [[cell.strip().rstrip(".") for cell in line.split(",")]
            for line in (DATA / "adult" / name).read_text().splitlines()[skipped:] if line.strip()]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(ADULT, pl.String), orient="row")
    return frame.with_columns(pl.col("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours").cast(pl.Int64))


@pytest.fixture(scope="module")
def adult() -> tuple[pl.DataFrame, pl.DataFrame]:
    return _adult("adult.data", 0), _adult("adult.test", 1)


@pytest.fixture(scope="module")
def german() -> pl.DataFrame:
    rows = [line.split() for line in (DATA / "german" / "german.data").read_text().splitlines() if line]
    return pl.DataFrame(rows, schema=[f"a{n}" for n in range(1, 22)], orient="row").with_columns(
        pl.col(f"a{n}").cast(pl.Int64) for n in (2, 5, 8, 11, 13, 16, 18))


@pytest.fixture(scope="module")
def taiwan() -> pl.DataFrame:
    text = (DATA / "taiwan_default" / "UCI_Credit_Card.csv").read_bytes().replace(b"\r", b"\n")
    return pl.read_csv(text, infer_schema_length=None)


def percent(measured: Any) -> dict[str, str]:
    return {group.name: f"{100 * group.value:.2f}" for group in measured.groups}


@needs_adult
def test_adults_base_rates_by_sex_and_race_are_the_stated_ones(adult: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, _ = adult
    rich = (train["income"] == ">50K").to_numpy()
    sex = label_prevalence(rich, "sex", {"sex": train["sex"]})
    assert (f"{100 * sex.value:.2f}", percent(sex)) == ("24.08", {"Female": "10.95", "Male": "30.57"})
    race = percent(label_prevalence(rich, "race", {"race": train["race"]}))
    assert race == {"White": "25.59", "Asian-Pac-Islander": "26.56", "Black": "12.39", "Amer-Indian-Eskimo": "11.58", "Other": "9.23"}


@needs_adult
def test_adults_doubles_and_leaks_are_the_stated_ones(adult: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, test = adult
    assert [duplicate_keys(frame, ADULT).value for frame in (train, test, pl.concat([train, test]))] == [24, 5, 52]
    columns = [name for name in ADULT if name != "income"]
    # 28 training rows look like somebody in the test file; they are 26 combinations of features, and those are what is counted here.
    assert train.join(test.select(columns).unique(), on=columns, how="semi").height == 28
    assert split_row_overlap({"train": train, "test": test}, columns).value == 26
    both = pl.concat([train, test])
    conflicting = conflicting_labels(both, columns, both["income"] == ">50K")
    assert dict(conflicting.detail) == {"combinations": 5.0} and conflicting.value == 10 / 48_842


@needs_adult
def test_adults_gaps_are_the_stated_ones(adult: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    stated = ({"workclass": 1836, "occupation": 1843, "country": 583}, {"workclass": 963, "occupation": 966, "country": 274})
    for frame, missing in zip(adult, stated, strict=True):
        known = frame.with_columns(pl.when(pl.col(name) == "?").then(None).otherwise(pl.col(name)).alias(name) for name in missing)
        measured = completeness(known, [name for name in ADULT if name != "income"])
        assert {group.name: round((1 - group.value) * group.n) for group in measured.groups if group.value < 1} == missing
        assert measured.note == f"worst: {max(missing, key=lambda name: missing[name])}"


@needs_taiwan
def test_taiwans_doubles_appear_once_the_number_is_dropped(taiwan: pl.DataFrame) -> None:
    assert (duplicate_keys(taiwan, taiwan.columns).value, duplicate_keys(taiwan.drop("ID"), taiwan.columns[1:]).value) == (0, 35)


@needs_german
def test_germans_good_rates_and_ratios_are_the_stated_ones(german: pl.DataFrame) -> None:
    good = (german["a21"] == "1").to_numpy().astype(int)
    groups = {"sex": np.where(german["a9"] == "A92", "female", "male"), "foreign": german["a20"]}
    sex, foreign = (measure_fairness(("selection_rate_ratio",), good, good, groups, (over,))[0] for over in groups)
    assert (percent(sex), f"{sex.value:.4f}") == ({"female": "64.84", "male": "72.32"}, "0.8966")
    assert {group.name: group.n for group in sex.groups} == {"female": 310, "male": 690}
    assert percent(foreign) == {"A201": "69.26", "A202": "89.19"} and {group.n for group in foreign.groups} == {963, 37}


@needs_taiwan
def test_taiwans_default_rates_are_the_stated_ones(taiwan: pl.DataFrame) -> None:
    default = taiwan["default.payment.next.month"].to_numpy()
    sex = label_prevalence(default, "sex", {"sex": taiwan["SEX"]})
    assert (f"{100 * sex.value:.2f}", percent(sex)) == ("22.12", {"1": "24.17", "2": "20.78"})
    school = label_prevalence(default, "school", {"school": taiwan["EDUCATION"]})
    assert {name: f"{float(rate):.1f}" for name, rate in percent(school).items() if name in "123"} == {"1": "19.2", "2": "23.7", "3": "25.2"}


def linear(frame: pl.DataFrame) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    words = [name for name, kind in frame.schema.items() if kind == pl.String]
    numbers = [name for name in frame.columns if name not in words]
    return make_pipeline(ColumnTransformer([("w", OneHotEncoder(handle_unknown="ignore"), words), ("n", StandardScaler(), numbers)]),
                         LogisticRegression(max_iter=2000))


def boosted(frame: pl.DataFrame) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, categorical_features="from_dtype", random_state=0)


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(name).cast(pl.Enum(frame[name].unique().sort())) for name, kind in frame.schema.items()
                              if kind == pl.String)


@needs_adult
def test_the_official_split_of_adult_gives_the_stated_error(adult: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, test = adult
    seen = [name for name in ADULT if name != "income"]
    y = [(frame["income"] == ">50K").to_numpy().astype(int) for frame in adult]
    score = linear(train[seen]).fit(train[seen], y[0]).predict_proba(test[seen])[:, 1]
    auc, accuracy = measure_performance(("roc_auc", "accuracy"), y[1], score, 0.5)
    assert auc.value == pytest.approx(0.9055, abs=0.001) and auc.lower < 0.9055 < auc.upper
    assert 100 * (1 - accuracy.value) == pytest.approx(14.70, abs=0.1)


@needs_adult
@baselines
def test_boosting_on_the_official_split_of_adult_gives_the_stated_error(adult: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    both = typed(pl.concat(adult).drop("income"))
    train, test = both.head(adult[0].height), both.tail(adult[1].height)
    y = [(frame["income"] == ">50K").to_numpy().astype(int) for frame in adult]
    score = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0).fit(train, y[0]).predict_proba(test)[:, 1]
    auc, accuracy = measure_performance(("roc_auc", "accuracy"), y[1], score, 0.5)
    assert auc.value == pytest.approx(0.9272, abs=0.001) and 100 * (1 - accuracy.value) == pytest.approx(12.91, abs=0.1)


STATED_BY_GROUP = {
    ("adult", "linear"): {"Male": (0.2552, 0.617, 0.0974, 0.8825), "Female": (0.075, 0.5105, 0.0216, 0.9334)},
    ("adult", "boosted"): {"Male": (0.259, 0.6681, 0.0805, 0.9117), "Female": (0.0807, 0.5879, 0.0184, 0.9494)},
    ("german", "linear"): {"male": (0.1928, 0.4188, 0.1062, 0.7853), "female": (0.2774, 0.5046, 0.1542, 0.7957)},
    ("german", "boosted"): {"male": (0.2362, 0.5183, 0.1283, 0.7884), "female": (0.2645, 0.5046, 0.1343, 0.76)},
    ("taiwan", "linear"): {"2": (0.0623, 0.2187, 0.0213, 0.7154), "1": (0.0919, 0.2645, 0.0369, 0.7274)},
    ("taiwan", "boosted"): {"2": (0.1105, 0.3617, 0.0446, 0.7821), "1": (0.1385, 0.3874, 0.0592, 0.7785)},
}
"""Selection rate, true and false positive rate, area under the curve of the rows that each fold left out, decided at 0.5."""


@baselines
@pytest.mark.parametrize(("name", "make", "auc", "deviation", "brier", "precision"), [
    ("adult", linear, 0.9066, 0.0017, 0.1017, 0.7665), ("adult", boosted, 0.9298, 0.0017, 0.0871, 0.8318),
    ("german", linear, 0.7904, 0.0243, 0.164, 0.6085), ("german", boosted, 0.7838, 0.0354, 0.1719, 0.6276),
    ("taiwan", linear, 0.7228, 0.0090, 0.145, 0.5031), ("taiwan", boosted, 0.7821, 0.0094, 0.1336, 0.5613)])
def test_five_folds_lie_in_the_stated_band(name: str, make: Any, auc: float, deviation: float, brier: float, precision: float,
                                           request: pytest.FixtureRequest) -> None:
    from sklearn.model_selection import StratifiedKFold

    data = request.getfixturevalue(name)
    frame = pl.concat(data) if isinstance(data, tuple) else data
    target, positive = {"adult": ("income", ">50K"), "german": ("a21", "2"), "taiwan": ("default.payment.next.month", 1)}[name]
    y = (frame[target] == positive).to_numpy().astype(int)
    seen = typed(frame.drop(target, "ID", strict=False)) if make is boosted else frame.drop(target, "ID", strict=False)
    found, left_out = [], np.zeros(len(y))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y):
        score = make(seen).fit(seen[train], y[train]).predict_proba(seen[test])[:, 1]
        left_out[test] = score
        found.append([one.value for one in measure_performance(("roc_auc", "brier_score", "average_precision"), y[test], score, 0.5)])
    means = np.mean(found, axis=0)
    assert abs(means[0] - auc) <= 2 * deviation / np.sqrt(5) + 0.002
    assert abs(means[1] - brier) <= 0.004
    assert abs(means[2] - precision) <= 0.02
    sex = frame["a9"].replace_strict({"A92": "female"}, default="male") if name == "german" else frame["sex" if name == "adult" else "SEX"]
    decided, tolerance = (left_out >= 0.5).astype(int), 0.04 if name == "german" else 0.01
    measured = measure_fairness(("selection_rate_difference", "equal_opportunity_difference", "false_positive_rate_difference",
                                 "roc_auc_difference"), y, decided, {"sex": sex}, ("sex",), score=left_out)
    for place, one in enumerate(measured):
        for group in one.groups:
            assert group.value == pytest.approx(STATED_BY_GROUP[name, make.__name__][group.name][place], abs=tolerance), (one.metric, group)
