"""A prepared model gives the bits that scikit-learn gives by its public way, or it is not used."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from compliance_assets.modelfile import favourable_scores, load, store, trusted_types
from compliance_assets.serving import prepared as module
from compliance_assets.serving.prepared import TRIAL_ROWS, WRITTEN_FOR, prepared, scores_of, trial_rows
from compliance_assets.trust.canonical import sha256_bytes

HOMES = pl.Enum(["own", "rent", "family", "none so far"])
KINDS: dict[str, tuple[tuple[str, pl.DataType], ...]] = {
    "numbers": (("income", pl.Float64()), ("years", pl.Int64()), ("ratio", pl.Float32()), ("lines", pl.Int32())),
    "whole numbers": (("years", pl.Int64()), ("lines", pl.Int32())),
    "short numbers": (("ratio", pl.Float32()), ("share", pl.Float32())),
    "truths": (("asked", pl.Boolean()), ("known", pl.Boolean())),
    "all": (("home", HOMES), ("income", pl.Float64()), ("known", pl.Boolean()), ("work", pl.Enum(["no", "yes"])), ("years", pl.Int64()),
            ("lines", pl.Int32()), ("ratio", pl.Float32())),
    "categories": (("home", HOMES), ("work", pl.Enum(["no", "yes"]))),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads that wait for one another a hundred times a prediction are slow where tests run beside each other."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def rows_of(types: tuple[tuple[str, pl.DataType], ...], count: int, seed: int, gaps: float, last: bool = True) -> pl.DataFrame:
    """Rows of these types; without `last`, no row has the last category of a feature."""
    draw = np.random.default_rng(seed)
    made = []
    for name, dtype in types:
        if isinstance(dtype, pl.Enum):
            words = dtype.categories.to_list()[:None if last else -1]
            values: list[Any] = [words[place] for place in draw.integers(0, len(words), count)]
        elif dtype == pl.Boolean:
            values = draw.integers(0, 2, count).astype(bool).tolist()
        elif dtype.is_integer():
            values = draw.integers(-50, 50, count).tolist()
        else:
            values = draw.normal(size=count).astype(np.float32).tolist()
        made.append(pl.Series(name, [None if gone else value for value, gone in zip(values, draw.random(count) < gaps, strict=True)], dtype=dtype))
    return pl.DataFrame(made)


@functools.cache
def trained(kind: str, outcomes: int, gaps: float) -> Any:
    """A model that came out of its file, as a server has it; it never saw the last category of a feature."""
    frame = rows_of(KINDS[kind], 300, 1, gaps, last=False)
    labels = np.random.default_rng(2).integers(0, outcomes, frame.height) + (frame[:, 0].to_physical().rank().fill_null(0).to_numpy() > 150)
    model = HistGradientBoostingClassifier(max_iter=12, categorical_features="from_dtype", random_state=1, max_bins=40)
    content = store(model.fit(frame, labels % outcomes))
    return load(content, trusted_types(content))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(KINDS)), outcomes=st.sampled_from([2, 3]), trained_gaps=st.sampled_from([0.0, 0.2]),
       count=st.integers(1, 130), seed=st.integers(0, 10**6), gaps=st.sampled_from([0.0, 0.1, 1.0]))
def test_the_bits_are_those_of_the_public_way(kind: str, outcomes: int, trained_gaps: float, count: int, seed: int, gaps: float) -> None:
    model = trained(kind, outcomes, trained_gaps)
    quick = prepared(model, KINDS[kind])
    frame = rows_of(KINDS[kind], count, seed, gaps)
    assert quick is not None and quick(frame).tobytes() == favourable_scores(model, frame).tobytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_trial_is_passed_and_looks_everywhere(kind: str) -> None:
    model = trained(kind, 2, 0.2)
    trial = trial_rows(model, KINDS[kind])
    assert trial.schema == dict(KINDS[kind]) and trial.height == TRIAL_ROWS and trial.equals(trial_rows(model, KINDS[kind]))
    assert all(trial[name].null_count() and trial[name].n_unique() > 2 for name, _ in KINDS[kind])
    cuts = {float(cut) for (tree,) in model._predictors for cut in tree.nodes["num_threshold"][tree.nodes["is_leaf"] == 0]}
    held = {value for name, dtype in KINDS[kind] if dtype == pl.Float64() for value in trial[name].to_list()}
    assert kind != "numbers" or len(cuts & held) >= 10
    assert scores_of(model, KINDS[kind]).__module__ == module.__name__


class Own(HistGradientBoostingClassifier):
    """Somebody's own estimator: whatever it does with its trees, this module does not know it."""


def unknown_models() -> dict[str, Any]:
    frame = rows_of(KINDS["numbers"], 100, 1, 0.0)
    labels = (frame["income"].to_numpy() > 0).astype(int)
    return {"linear": LogisticRegression().fit(frame, labels), "numbers": HistGradientBoostingRegressor(max_iter=3).fit(frame, frame["income"].to_numpy()),
            "own": Own(max_iter=3).fit(frame, labels), "no names": HistGradientBoostingClassifier(max_iter=3).fit(frame.to_numpy(), labels)}


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("which", ["linear", "numbers", "own", "no names"])
def test_other_estimators_are_asked_the_public_way(which: str) -> None:
    model, frame = unknown_models()[which], rows_of(KINDS["numbers"], 20, 2, 0.0)
    assert prepared(model, KINDS["numbers"]) is None
    assert scores_of(model, KINDS["numbers"])(frame).tobytes() == favourable_scores(model, frame).tobytes()


def test_features_in_another_order_are_not_prepared() -> None:
    model = trained("numbers", 2, 0.0)
    assert prepared(model, KINDS["numbers"][::-1]) is None and prepared(model, KINDS["numbers"]) is not None


@pytest.mark.parametrize("counted", [["years"], ["home", "years", "work"]])
def test_numbers_that_count_as_categories_are_not_prepared(counted: list[str]) -> None:
    types = KINDS["numbers"] if counted == ["years"] else KINDS["all"]
    frame = rows_of(types, 100, 1, 0.0).with_columns(pl.col("years").abs())
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features=counted).fit(frame, np.arange(100) % 2)
    assert prepared(model, types) is None
    assert scores_of(model, types)(frame).tobytes() == favourable_scores(model, frame).tobytes()


def test_another_scikit_learn_is_asked_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("all", 2, 0.0)
    monkeypatch.setattr(sklearn, "__version__", "1.10.0")
    assert prepared(model, KINDS["all"]) is None
    frame = rows_of(KINDS["all"], 20, 2, 0.0)
    assert scores_of(model, KINDS["all"])(frame).tobytes() == favourable_scores(model, frame).tobytes()


@pytest.mark.parametrize("kind", ["numbers", "all"])
def test_a_form_with_other_bits_is_not_used(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One threshold moved by one bit, as if scikit-learn had begun to compare otherwise."""
    model, other = trained(kind, 2, 0.2), copy.deepcopy(trained(kind, 2, 0.2))
    root = other._predictors[0][0].nodes[0]
    assert not root["is_categorical"]
    other._predictors[0][0].nodes["num_threshold"][0] = np.nextafter(root["num_threshold"], -np.inf)
    honest = prepared
    monkeypatch.setattr(module, "prepared", lambda estimator, types: honest(other, types))
    frame = trial_rows(model, KINDS[kind])
    assert honest(other, KINDS[kind])(frame).tobytes() != favourable_scores(model, frame).tobytes()  # type: ignore[misc]  # it is one
    assert scores_of(model, KINDS[kind])(frame).tobytes() == favourable_scores(model, frame).tobytes()


READ = {
    "_raw_predict": HistGradientBoostingClassifier._raw_predict, "_predict_iterations": HistGradientBoostingClassifier._predict_iterations,
    "predict_proba": HistGradientBoostingClassifier.predict_proba, "_preprocess_X": HistGradientBoostingClassifier._preprocess_X,
    "predict": TreePredictor.predict, "make_known_categories_bitsets": _BinMapper.make_known_categories_bitsets, "transform": OrdinalEncoder.transform,
}


def test_scikit_learn_reads_as_it_did_when_the_prepared_form_was_written() -> None:
    """Each of these was followed by hand. Where one reads otherwise now, look whether `prepared` still does the same, then write its digest here."""
    assert sklearn.__version__.startswith(WRITTEN_FOR)
    assert {name: sha256_bytes(inspect.getsource(function).encode())[:16] for name, function in READ.items()} == {
        "_raw_predict": "20a842a01272c4b6", "_predict_iterations": "57b26f4b786bed0d", "predict_proba": "ca281b8262ba6b56",
        "_preprocess_X": "db6b8033da564e03", "predict": "dec8c8d2a837a183", "make_known_categories_bitsets": "708cbd888a99b5f4",
        "transform": "21abab7caf7a433f"}
    assert list(inspect.signature(_predict_from_raw_data).parameters) == [
        "nodes", "numeric_data", "raw_left_cat_bitsets", "known_cat_bitsets", "f_idx_map", "n_threads", "out"]
