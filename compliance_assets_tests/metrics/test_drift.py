"""Drift: distances agree with scipy and with hand counts; profiles survive JSON; nothing depends on row order."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.drift import FLOOR, measure_drift, prediction_flip_rate
from compliance_assets.metrics.profiles import Profile

ALL = ("psi", "jensen_shannon", "wasserstein", "ks")


def book(n=5000, seed=0, shift=0.0):
    generator = np.random.default_rng(seed)
    return pl.DataFrame({
        "amount": generator.lognormal(shift, 0.8, n), "children": generator.poisson(1.2 + shift, n),
        "purpose": generator.choice(["car", "house", "school"], n, p=[0.5 - shift / 4, 0.3, 0.2 + shift / 4]),
    })


def profile(frame):
    return Profile.of(frame, numeric=("amount", "children"), categorical=("purpose",))


def one(name, reference, frame, column=None):
    measured = measure_drift((name,), profile(reference), frame)[0]
    return measured if column is None else next(group for group in measured.groups if group.name == column)


def test_a_frame_has_not_drifted_from_itself():
    for measured in measure_drift(ALL, profile(book()), book()):
        assert measured.value == pytest.approx(0, abs=2e-3), measured.metric
        assert measured.lower is None or measured.lower <= measured.value <= measured.upper


def test_a_shifted_frame_has_and_the_column_is_named():
    still, moved = (measure_drift(ALL, profile(book()), book(seed=1, shift=shift)) for shift in (0.0, 0.5))
    for before, after in zip(still, moved, strict=True):
        assert after.value > 3 * before.value, after.metric
        assert after.value == max(group.value for group in after.groups)
        assert after.note == "largest: amount"


def test_psi_of_numbers_is_the_sum_over_equal_mass_bins():
    reference, today = book(), book(seed=1, shift=0.3)
    edges = np.quantile(reference["amount"], np.arange(1, 10) / 10, method="inverted_cdf")
    p, q = (np.bincount(np.searchsorted(edges, frame["amount"], side="left"), minlength=10) / 5000
            for frame in (reference, today))
    assert p == pytest.approx(0.1)
    expected = float(((q - p) * np.log(q / p)).sum())
    assert one("psi", reference, today, "amount").value == pytest.approx(expected, abs=1e-12)


def test_psi_of_categories_is_the_textbook_sum_and_an_unseen_one_is_floored():
    reference = pl.DataFrame({"amount": [1.0] * 10, "children": [0] * 10, "purpose": ["a"] * 6 + ["b"] * 4})
    today = reference.with_columns(purpose=pl.Series(["a"] * 3 + ["b"] * 5 + ["new"] * 2))
    expected = sum((q - p) * math.log(q / p) for p, q in ((0.6, 0.3), (0.4, 0.5), (FLOOR, 0.2)))
    assert one("psi", reference, today, "purpose").value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_jensen_shannon_is_scipys(counts, random):
    from scipy.spatial.distance import jensenshannon

    names = [f"c{i}" for i in range(len(counts))]
    other = [random.randint(0, 50) for _ in counts]
    other[0] += 1
    reference, today = (pl.DataFrame({"c": [n for n, k in zip(names, some, strict=True) for _ in range(k)]})
                        for some in (counts, other))
    measured = measure_drift(("jensen_shannon",), Profile.of(reference, numeric=(), categorical=("c",)), today)[0]
    # The square root turns a rounding error of 1e-16 near zero into 1e-8.
    assert measured.value ** 2 == pytest.approx(float(jensenshannon(counts, other, base=2)) ** 2, abs=1e-12)


def test_ks_and_wasserstein_are_scipys_up_to_the_profiles_grain():
    from scipy.stats import ks_2samp, wasserstein_distance

    reference, today = book(20_000), book(20_000, seed=1, shift=0.2)
    for column in ("amount", "children"):
        a, b = reference[column].to_numpy(), today[column].to_numpy()
        ks, w1 = ks_2samp(a, b).statistic, wasserstein_distance(a, b) / a.std()
        assert one("ks", reference, today, column).value == pytest.approx(ks, abs=1 / 400)
        assert one("wasserstein", reference, today, column).value == pytest.approx(w1, rel=0.03)


def test_ks_of_few_distinct_values_is_exact():
    from scipy.stats import ks_2samp

    reference, today = book(), book(seed=1, shift=0.2)
    expected = ks_2samp(reference["children"], today["children"]).statistic
    assert one("ks", reference, today, "children").value == pytest.approx(expected, abs=1e-12)


def test_nulls_are_a_bin_of_their_own():
    reference = book()
    third = pl.int_range(pl.len()) % 3 == 0
    holes, nan = (reference.with_columns(pl.when(third).then(gap).otherwise(pl.col("amount")).alias("amount"))
                  for gap in (None, float("nan")))
    assert one("psi", reference, holes, "amount").value > 0.25
    assert one("ks", reference, holes, "amount").value < 0.05
    assert one("psi", reference, nan, "amount").value == one("psi", reference, holes, "amount").value


def test_a_column_that_went_empty_is_not_measured_as_stable():
    empty = book().with_columns(amount=pl.lit(None, pl.Float64))
    for measured in measure_drift(ALL, profile(book()), empty):
        assert measured.value is None and measured.note == "no values to compare in amount"


def test_a_constant_that_moved_has_no_unit_to_measure_by():
    constant = book().with_columns(amount=pl.lit(3.0))
    assert one("wasserstein", constant, constant, "amount").value == 0.0
    assert one("wasserstein", constant, book(), "amount").value is None
    assert one("psi", constant, constant).value == pytest.approx(0, abs=1e-12)


def test_row_order_does_not_change_a_bit():
    reference, today = book(), book(seed=1, shift=0.1)
    assert profile(reference) == profile(reference.sample(fraction=1, shuffle=True, seed=3))
    assert measure_drift(ALL, profile(reference), today) == \
        measure_drift(ALL, profile(reference), today.sample(fraction=1, shuffle=True, seed=3))


def test_a_profile_survives_json_and_holds_no_float():
    made = profile(book())
    text = json.dumps(made.as_json())
    assert Profile.from_json(json.loads(text)) == made
    assert len(text) < 40_000

    def floats(value):
        if isinstance(value, dict):
            return any(map(floats, value.values()))
        return any(map(floats, value)) if isinstance(value, list) else isinstance(value, float)

    assert not floats(made.as_json())
    broken = made.as_json()
    del broken["columns"][0]["counts"]
    with pytest.raises(KeyError):
        Profile.from_json(broken)


def test_predictions_are_watched_like_any_column():
    reference = book().with_columns(score=pl.col("children") / 20)
    made = Profile.of(reference, numeric=("score",), categorical=())
    assert measure_drift(("psi",), made, reference.with_columns(score=pl.col("score") + 0.2))[0].value > 0.25


def test_absent_columns_and_wrong_names_are_refused():
    made = profile(book())
    with pytest.raises(ComplianceError, match="purpose"):
        measure_drift(("psi",), made, book().drop("purpose"))
    with pytest.raises(ComplianceError, match="two scores"):
        measure_drift(("prediction_flip_rate",), made, book())
    with pytest.raises(ComplianceError, match="wealth"):
        Profile.of(book(), numeric=("wealth",), categorical=())
    with pytest.raises(ComplianceError, match="infinite"):
        measure_drift(("ks",), made, book().with_columns(amount=pl.lit(float("inf"))))


def test_flips_between_two_models_are_counted_with_the_rank_correlation():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    old = generator.integers(0, 20, 1000) / 20
    new = np.clip(old + generator.normal(0, 0.1, 1000), 0, 1)
    measured = prediction_flip_rate(new, old, 0.5)
    assert measured.value == np.mean((new >= 0.5) != (old >= 0.5))
    assert dict(measured.detail)["rank_correlation"] == pytest.approx(spearmanr(new, old).statistic, abs=1e-12)
    assert prediction_flip_rate(old, old, 0.5).value == 0.0
    assert prediction_flip_rate([], [], 0.5).value is None
