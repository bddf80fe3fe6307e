"""A fitted model's digest follows what it learned: not its file, not its threads."""

from __future__ import annotations

import functools
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from compliance_assets.errors import StageError
from compliance_assets.trust.canonical import state_digest

RANDOM = np.random.default_rng(0)
X = np.column_stack([RANDOM.normal(size=(300, 2)), RANDOM.random(300), RANDOM.integers(0, 3, 300)])
Y = (X[:, 0] + RANDOM.normal(size=300) > 0).astype(int)


def boosted(**settings: Any) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(**{"max_iter": 8, "random_state": 1, "categorical_features": [3], **settings})


def scorecard() -> Pipeline:
    return Pipeline([
        ("columns", ColumnTransformer([
            ("scale", StandardScaler(), [0, 1]),
            ("code", OneHotEncoder(), [3]),
            ("log", FunctionTransformer(np.log1p), [2]),
        ])),
        ("model", LogisticRegression()),
    ])


MODELS = {
    "boosted trees": boosted,
    "boosted trees, early stopping": lambda: boosted(early_stopping=True),
    "regression": LogisticRegression,
    "pipeline": scorecard,
    "forest": lambda: RandomForestClassifier(4, random_state=0),
    "calibrated": lambda: CalibratedClassifierCV(LogisticRegression(), cv=3, method="isotonic"),
}


@pytest.mark.parametrize("name", MODELS)
def test_saving_and_loading_keeps_the_digest(name: str) -> None:
    model = MODELS[name]().fit(X, Y)
    digest = state_digest(model)
    assert state_digest(pickle.loads(pickle.dumps(model))) == digest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = skops.io.dumps(model)
        trusted = skops.io.get_untrusted_types(data=saved)
        assert state_digest(skops.io.loads(saved, trusted=trusted)) == digest


@pytest.mark.parametrize("name", MODELS)
def test_learning_the_same_again_gives_the_same_digest(name: str) -> None:
    assert state_digest(MODELS[name]().fit(X, Y)) == state_digest(MODELS[name]().fit(X, Y))


def test_the_number_of_threads_does_not_matter() -> None:
    with threadpool_limits(1):
        one = boosted().fit(X, Y)
    with threadpool_limits(2):
        two = boosted().fit(X, Y)
    assert state_digest(one) == state_digest(two)


def test_how_it_is_run_does_not_matter_but_how_it_learned_does() -> None:
    quiet = RandomForestClassifier(4, random_state=0).fit(X, Y)
    loud = RandomForestClassifier(4, random_state=0, n_jobs=2).fit(X, Y)
    assert state_digest(quiet) == state_digest(loud)
    assert state_digest(quiet) != state_digest(RandomForestClassifier(4, random_state=1).fit(X, Y))


def test_one_changed_coefficient_changes_the_digest() -> None:
    model = LogisticRegression().fit(X, Y)
    before = state_digest(model)
    model.coef_[0, 0] = np.nextafter(model.coef_[0, 0], 9.0)
    assert state_digest(model) != before


def test_one_changed_tree_node_changes_the_digest() -> None:
    model = boosted().fit(X, Y)
    before = state_digest(model)
    model._predictors[0][0].nodes["value"][1] += 1e-9
    assert state_digest(model) != before


def test_memory_order_and_byte_order_of_an_array_do_not_matter_but_shape_and_type_do() -> None:
    array = np.arange(6.0).reshape(2, 3)
    for same in (np.asfortranarray(array), array.astype(">f8"), array[::1].copy()):
        assert state_digest(same) == state_digest(array)
    for other in (array.ravel(), array.astype(np.float32), array.T, array.tolist()):
        assert state_digest(other) != state_digest(array)


def test_boundaries_between_parts_cannot_be_moved() -> None:
    different = [["ab", "c"], ["a", "bc"], ["abc"], [["a"], "bc"], ("ab", "c"), {"ab": "c"}, {"ab", "c"}, [b"ab", "c"],
                 [1], [True], ["1"], [1.0], [None], [np.int64(1)], [[]], [{}], []]
    assert len({state_digest(thing) for thing in different}) == len(different)


def test_sets_and_dicts_have_no_order() -> None:
    assert state_digest({"a": 1, "b": 2}) == state_digest({"b": 2, "a": 1})
    assert state_digest({"a", "b", "c"}) == state_digest({"c", "b", "a"})


def test_sharing_does_not_matter_and_a_cycle_ends() -> None:
    part = [1, 2]
    assert state_digest([part, part]) == state_digest([[1, 2], [1, 2]])
    snake: list[Any] = [1]
    snake.append(snake)
    assert state_digest(snake) == state_digest(pickle.loads(pickle.dumps(snake))) != state_digest([1, [1]])


def test_functions_and_types_are_their_names() -> None:
    assert state_digest([np.log1p, len, str, str.upper]) == state_digest([np.log1p, len, str, str.upper])
    assert state_digest(functools.partial(round, ndigits=2)) != state_digest(functools.partial(round, ndigits=3))
    assert state_digest(np.log1p) != state_digest(np.expm1)


def test_random_states_and_missing_values_are_state() -> None:
    a, b = np.random.RandomState(1), np.random.RandomState(1)
    assert state_digest(a) == state_digest(b)
    a.random()
    assert state_digest(a) != state_digest(b)
    assert state_digest(np.random.default_rng(1)) != state_digest(np.random.default_rng(2))
    assert state_digest(float("nan")) == state_digest(np.float64("nan").item())


def local_function(x: float) -> float:
    return x


def test_what_no_other_process_could_find_or_rebuild_is_refused() -> None:
    import pandas as pd
    import polars as pl

    def inner(x: float) -> float:
        return x

    for nameless in (lambda x: x, inner, object(), threading.Lock(), (i for i in range(0)), [].append,
                     pl.DataFrame({"x": [1]}), pd.DataFrame({"x": [1]})):
        with pytest.raises(StageError):
            state_digest({"held": [nameless]})
    assert state_digest(local_function)
