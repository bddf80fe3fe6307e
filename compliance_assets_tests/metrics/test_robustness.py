"""Robustness: a model that ignores its inputs never flips, more disturbance flips more, and draws are repeatable."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.robustness import KINDS, Inputs, Perturbation, measure_robustness, perturb

INPUTS = Inputs(numeric=("income", "years"), categories=(("purpose", ("car", "house", "school")),), nullable=("years",),
                ranges=(("income", (0.0, 200.0)),))


def applicants(n=3000, seed=0):
    generator = np.random.default_rng(seed)
    frame = pl.DataFrame({"income": generator.gamma(4, 10, n), "years": generator.integers(0, 30, n),
                          "purpose": generator.choice(["car", "house", "school"], n)})
    return frame, (generator.random(n) < predict(frame)).astype(int)


def predict(frame):
    """A smooth score of all three columns that takes nulls."""
    purpose = (frame["purpose"] == "car").to_numpy() * 0.4
    z = frame["income"].to_numpy() / 20 - 2 + frame["years"].fill_null(15).to_numpy() / 15 - 1 + purpose
    return 1 / (1 + np.exp(-z))


def measured(perturbation, model=predict, frame_and_y=None, **more):
    frame, y = frame_and_y or applicants()
    return measure_robustness((perturbation,), model, frame, y, 0.5, INPUTS, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_ignores_its_inputs_never_flips(kind):
    flips, drop = measured(Perturbation(kind, 0.5), lambda frame: np.full(frame.height, 0.7))
    assert (flips.metric, flips.value, flips.n) == (f"{kind}_decision_flip_rate", 0.0, 3000)
    assert (drop.metric, drop.value) == (f"{kind}_auc_drop", 0.0)
    assert flips.upper > 0


@pytest.mark.parametrize("kind", KINDS)
def test_more_disturbance_flips_more(kind):
    small, large = (measured(Perturbation(kind, level)) for level in (0.02, 0.4))
    assert 0 < small[0].value < large[0].value
    assert small[1].value < large[1].value
    assert dict(large[0].detail) == {"level": 0.4, "repeats": 3.0}
    assert all(m.lower <= m.value <= m.upper for m in (*small, *large))


def test_the_same_seed_gives_the_same_bits_and_another_perturbation_does_not_move_it():
    frame, y = applicants()
    noise, flip = Perturbation("numeric_noise", 0.1), Perturbation("category_flip", 0.1)
    alone = measure_robustness((noise,), predict, frame, y, 0.5, INPUTS)
    beside = measure_robustness((flip, noise), predict, frame, y, 0.5, INPUTS)
    assert alone == beside[2:]
    assert alone != measure_robustness((noise,), predict, frame, y, 0.5, INPUTS, seed=8)


def test_no_more_rows_than_allowed_are_scored():
    seen = []

    def counting(frame):
        seen.append(frame.height)
        return predict(frame)

    flips, _ = measured(Perturbation("numeric_noise", 0.1), counting, max_rows=500)
    assert set(seen) == {500} and flips.n == 500


def test_numbers_stay_in_range_and_keep_their_type():
    frame, _ = applicants()
    for kind in ("numeric_noise", "relative_shift"):
        disturbed = perturb(frame, Perturbation(kind, 1.0), INPUTS, seed=1)
        assert disturbed.schema == frame.schema
        assert disturbed["income"].min() >= 0 and disturbed["income"].max() <= 200
        assert disturbed["years"].min() >= 0 and disturbed["years"].max() <= 29
        assert (disturbed["income"] != frame["income"]).mean() > 0.9


def test_nulls_stay_null_under_noise_and_only_nullable_features_go_missing():
    frame, _ = applicants(200)
    holes = frame.with_columns(pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.col(name)).alias(name)
                               for name in ("income", "years", "purpose"))
    for kind in ("numeric_noise", "relative_shift", "category_flip"):
        disturbed = perturb(holes, Perturbation(kind, 0.5), INPUTS, seed=1)
        assert disturbed.null_count().row(0) == (50, 50, 50), kind
    missing = perturb(frame, Perturbation("missing_values", 0.3), INPUTS, seed=1)
    assert missing.null_count().row(0)[0] == missing.null_count().row(0)[2] == 0
    assert 30 < missing["years"].null_count() < 90


def test_categories_flip_at_the_rate_to_another_allowed_value():
    frame, _ = applicants()
    disturbed = perturb(frame, Perturbation("category_flip", 0.1), INPUTS, seed=1)
    assert 0.08 < (disturbed["purpose"] != frame["purpose"]).mean() < 0.12
    assert set(disturbed["purpose"]) == {"car", "house", "school"}
    coded = frame.with_columns(pl.col("purpose").cast(pl.Enum(["car", "house", "school"])))
    assert perturb(coded, Perturbation("category_flip", 0.1), INPUTS, seed=1).schema == coded.schema


def test_coded_and_boolean_categories_keep_their_type():
    frame = pl.DataFrame({"owner": [True, False, None] * 100, "code": pl.Series([1, 2, 4] * 100, dtype=pl.Int8)})
    inputs = Inputs(categories=(("owner", ("true", "false")), ("code", ("1", "2", "4"))))
    disturbed = perturb(frame, Perturbation("category_flip", 0.5), inputs, seed=1)
    assert disturbed.schema == frame.schema
    assert disturbed["owner"].null_count() == 100 and set(disturbed["code"]) == {1, 2, 4}
    assert 60 < (disturbed["owner"] != frame["owner"]).sum() < 140


def test_the_worst_group_is_named():
    frame, y = applicants()
    sex = np.where(np.arange(3000) < 1500, "female", "male")

    def fragile(inputs):
        score = predict(inputs)
        return np.where(np.arange(inputs.height) < 1500, score, 0.9)

    _, _, flips, drop = measured(Perturbation("numeric_noise", 0.2), fragile, (frame, y), attributes={"sex": sex},
                                 over=("sex",))
    assert (flips.over, flips.note) == ("sex", "worst female")
    assert {g.name: g.value for g in flips.groups}["male"] == 0.0
    assert flips.value == max(g.value for g in flips.groups)
    assert drop.over == "sex" and drop.n == 1500


def test_what_no_feature_allows_is_not_measured():
    frame, y = applicants(100)
    flips, drop = measure_robustness((Perturbation("missing_values", 0.1),), predict, frame, y, 0.5,
                                     Inputs(numeric=("income",)))
    assert flips.value is None and drop.value is None
    assert flips.note == "no feature allows missing values"


def test_an_absent_group_and_one_class_are_not_measured():
    frame, _ = applicants(100)
    result = measure_robustness((Perturbation("numeric_noise", 0.1),), predict, frame, np.ones(100), 0.5, INPUTS,
                                attributes={"sex": ["female"] * 100}, over=("sex",),
                                expected_groups={"sex": ["female", "male"]})
    assert result[0].value is not None
    assert result[1].note == "only one class is present"
    assert result[2].value is None and "male (no rows)" in result[2].note


def test_no_rows_measure_nothing():
    frame, y = applicants(100)
    flips, _ = measured(Perturbation("numeric_noise", 0.1), frame_and_y=(frame.head(0), y[:0]))
    assert flips.value is None and flips.note == "no rows"


def test_a_model_that_breaks_under_disturbance_is_refused_not_measured():
    def breaks(frame):
        return np.where(frame["years"].is_null().to_numpy(), np.nan, 0.5)

    with pytest.raises(ComplianceError, match="not finite"):
        measured(Perturbation("missing_values", 0.2), breaks)


@pytest.mark.parametrize(("kind", "level"), [("teleport", 0.1), ("numeric_noise", 0.0), ("category_flip", 1.5)])
def test_a_perturbation_that_is_none_is_refused(kind, level):
    with pytest.raises(ComplianceError):
        Perturbation(kind, level)


def test_declared_columns_that_are_absent_are_refused():
    frame, y = applicants(50)
    with pytest.raises(ComplianceError, match="wealth"):
        measure_robustness((Perturbation("numeric_noise", 0.1),), predict, frame, y, 0.5, Inputs(numeric=("wealth",)))


@pytest.mark.parametrize("kind", KINDS)
def test_only_rows_that_a_draw_changed_are_scored_again_and_known_scores_are_not_made_anew(kind):
    frame, y = applicants()
    scored = []

    def counted(rows):
        scored.append(rows.height)
        return predict(rows)

    perturbation = Perturbation(kind, 0.02)
    without = measured(perturbation, counted, (frame, y))
    first, *draws = scored
    scored.clear()
    assert measured(perturbation, counted, (frame, y), score=predict(frame)) == without
    assert first == frame.height
    assert scored == draws
    changed = [int((perturb(frame, perturbation, INPUTS, 7 + repeat).hash_rows() != frame.hash_rows()).sum()) for repeat in range(3)]
    assert draws == changed
    assert kind not in ("category_flip", "missing_values") or max(changed) < 0.05 * frame.height


def test_known_scores_of_other_rows_are_refused():
    with pytest.raises(ComplianceError):
        measured(Perturbation("numeric_noise", 0.1), score=np.full(7, 0.5))
