"""What a model leans on is what shuffling costs; another order of the same features is not another set; chance has an interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.drift import drifted_feature_share, measure_drift
from compliance_assets.metrics.importance import Importance, importance, measure_top_features
from compliance_assets.metrics.profiles import Profile

WEIGHTS = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.0}


def people(rows: int = 4000, seed: int = 1) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame({name: draw.standard_normal(rows) for name in WEIGHTS})


def scored(weights: dict[str, float]) -> Any:
    return lambda frame: sum((weight * frame[name] for name, weight in weights.items()), start=pl.Series([0.0] * frame.height)).to_numpy()


def leaning(weights: dict[str, float], frame: pl.DataFrame, rows: int = 100_000) -> Importance:
    return importance(scored(weights), frame, scored(weights)(frame), rows=rows)


def test_shuffling_an_independent_feature_costs_twice_its_part_of_the_variance() -> None:
    # Gregorutti, Michel, Saint-Pierre 2017: for an additive model of independent features it is 2 Var(f_j).
    found = leaning(WEIGHTS, people())
    assert found.means == pytest.approx([2 * weight**2 for weight in WEIGHTS.values()], rel=0.06, abs=1e-12)


def test_it_is_scikit_learns_permutation_importance() -> None:
    from sklearn.inspection import permutation_importance
    from sklearn.linear_model import LinearRegression

    frame = people(2000)
    y = scored(WEIGHTS)(frame) + np.random.default_rng(2).standard_normal(2000)
    model = LinearRegression().fit(frame.to_numpy(), y)
    theirs = permutation_importance(model, frame.to_numpy(), y, scoring="neg_mean_squared_error", n_repeats=10, random_state=0)
    ours = importance(lambda rows: model.predict(rows.to_numpy()), frame, y, rows=2000, shuffles=10)
    assert ours.means == pytest.approx(theirs.importances_mean, rel=0.05, abs=0.02)


def test_the_same_model_leans_on_the_same_things_and_surely_so() -> None:
    now = leaning(WEIGHTS, people())
    for one in measure_top_features(("top_features_changed", "top_features_reordered"), now, now, 3):
        assert (one.value, one.lower, one.upper, one.n) == (0.0, 0.0, 0.0, 4000)
        assert [group.name for group in one.groups] == ["a", "b", "c"] and one.note.startswith("now a, b, c")
        assert all(group.lower <= group.value <= group.upper for group in one.groups)


def test_another_order_is_no_other_set_and_another_feature_is() -> None:
    frame = people()
    before = leaning(WEIGHTS, frame)
    swapped = leaning({"a": 1.0, "b": 2.0, "c": 0.5}, frame)
    newcomer = leaning({"a": 2.0, "b": 1.0, "c": 0.0, "d": 1.5}, frame)

    def values(now: Importance) -> list[float | None]:
        return [one.value for one in measure_top_features(("top_features_changed", "top_features_reordered"), now, before, 2)]

    assert values(swapped) == [0.0, 1.0]
    assert values(newcomer) == [0.5, 0.5]


def test_two_features_that_weigh_the_same_cannot_be_told_apart_and_the_interval_says_so() -> None:
    close = {"a": 1.0, "b": 1.0, "c": 0.1}
    first, second = (importance(scored(close), people(150, seed), scored(close)(people(150, seed)), rows=150) for seed in (1, 2))
    one = measure_top_features(("top_features_changed",), first, second, 1)[0]
    assert (one.lower, one.upper) == (0.0, 1.0)


def test_rows_are_drawn_where_there_are_more_than_declared_and_n_says_so() -> None:
    found = leaning(WEIGHTS, people(), rows=500)
    assert measure_top_features(("top_features_changed",), found, found, 2)[0].n == 500
    assert (leaning(WEIGHTS, people(), rows=500).losses == found.losses).all()


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ComplianceError, match="no rows"):
        importance(scored(WEIGHTS), people().clear(), [], rows=100)
    with pytest.raises(ComplianceError, match="not finite"):
        importance(lambda frame: np.full(frame.height, np.nan), people(200), np.zeros(200), rows=100)
    with pytest.raises(ComplianceError, match="choose|Choose|compare"):
        measure_top_features(("psi",), leaning(WEIGHTS, people(200)), leaning(WEIGHTS, people(200)), 2)


# ------------------------------------------------------------------------------------------------------- share of drifted features


def profile_of(frame: pl.DataFrame) -> Profile:
    return Profile.of(frame, numeric=[name for name in frame.columns if name != "word"], categorical=["word"])


def table(rows: int = 3000, seed: int = 3) -> pl.DataFrame:
    return people(rows, seed).with_columns(word=pl.Series(np.random.default_rng(seed).choice(["x", "y"], rows)))


def test_drifted_features_are_counted_by_their_own_distance() -> None:
    reference, now = profile_of(table()), table(seed=4).with_columns(pl.col("a") + 1, word=pl.lit("x"))
    one = drifted_feature_share("psi", 0.25, reference, now)
    psi = {group.name: group.value for group in measure_drift(["psi"], reference, now)[0].groups}
    assert one.value == sum(value > 0.25 for value in psi.values()) / 5 == 0.4
    assert (one.lower, one.upper, one.n, one.note) == (0.4, 0.4, 3000, "drifted: a, word")
    assert {group.name: group.value for group in one.groups} == psi


def test_a_feature_whose_interval_straddles_the_cut_widens_the_interval_of_the_share() -> None:
    reference, now = profile_of(table()), table(seed=4).with_columns(pl.col("a") + 0.5)
    group = next(group for group in measure_drift(["psi"], reference, now)[0].groups if group.name == "a")
    one = drifted_feature_share("psi", (group.value + group.upper) / 2, reference, now)
    assert (one.value, one.lower, one.upper) == (0.0, 0.0, 0.2)


def test_a_column_that_is_empty_today_leaves_the_share_unmeasured() -> None:
    empty = table().with_columns(a=pl.lit(None, dtype=pl.Float64))
    one = drifted_feature_share("psi", 0.25, profile_of(table()), empty)
    assert one.value is None and "no values to compare in a" in one.note
    nothing = replace(profile_of(table()), columns=())
    assert drifted_feature_share("psi", 0.25, nothing, table()).value is None
