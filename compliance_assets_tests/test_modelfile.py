"""A model file has the same bytes for the same model, and loads nothing that nobody reviewed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from compliance_assets import modelfile
from compliance_assets.errors import UnsafeModel
from compliance_assets.trust.canonical import sha256_bytes, state_digest

REPOSITORY = Path(modelfile.__file__).parents[1]
KINDS = pl.Enum(["car", "house", "trip"])


def applicants(rows: int = 400) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Features, labels and a protected attribute."""
    draw = np.random.Generator(np.random.Philox(3))
    frame = pl.DataFrame({
        "income": draw.normal(size=rows), "debt": draw.normal(size=rows),
        "purpose": pl.Series(draw.choice(["car", "house", "trip"], rows), dtype=KINDS),
    })
    label = (frame["income"].to_numpy() + draw.normal(size=rows) > 0).astype(np.int8)
    return frame, label, draw.choice(["female", "male"], rows)


def boosted(threads: int | None = None) -> object:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    frame, label, _ = applicants()
    with threadpool_limits(threads, user_api="openmp"):
        return HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype", random_state=1).fit(frame, label)


def numeric() -> tuple[pl.DataFrame, np.ndarray]:
    frame, label, _ = applicants()
    return frame.drop("purpose"), label


def fitted() -> dict[str, object]:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier

    plain = {
        "forest": RandomForestClassifier(4, random_state=0), "boosting": GradientBoostingClassifier(n_estimators=4, random_state=0),
        "linear": LogisticRegression(), "bayes": GaussianNB(), "network": MLPClassifier((4,), max_iter=1500, random_state=0),
        "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=2),
        "voting": VotingClassifier([("l", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    }
    frame, label = numeric()
    return {name: model.fit(frame, label) for name, model in plain.items()}


def test_a_stored_model_comes_back_with_the_same_state_and_the_same_bits_of_every_prediction():
    for name, model in {**fitted(), "boosted": boosted()}.items():
        frame = applicants()[0] if name == "boosted" else numeric()[0]
        content = modelfile.store(model)
        back = modelfile.load(content, modelfile.trusted_types(content))
        assert state_digest(back) == state_digest(model), name
        assert modelfile.favourable_scores(back, frame).tobytes() == modelfile.favourable_scores(model, frame).tobytes(), name
        assert modelfile.store(back) == content, name


def test_two_dumps_of_one_model_are_the_same_bytes_though_skops_own_differ():
    import skops.io

    model = boosted()
    assert modelfile.store(model) == modelfile.store(model)
    assert skops.io.dumps(model) != skops.io.dumps(boosted())
    assert modelfile.store(model) == modelfile.store(boosted())


def test_the_number_of_threads_that_trained_it_is_not_in_the_bytes():
    made = {threads: boosted(threads) for threads in (1, 2, 4)}
    assert len({modelfile.store(model) for model in made.values()}) == 1
    assert len({state_digest(model) for model in made.values()}) == 1


@pytest.mark.slow
def test_another_process_with_another_hash_seed_stores_the_same_bytes():
    code = ("from compliance_assets_tests.test_modelfile import boosted; from compliance_assets import modelfile; "
            "from compliance_assets.trust.canonical import sha256_bytes; print(sha256_bytes(modelfile.store(boosted())))")
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY,
                            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}).stdout.strip()
             for seed, threads in (("1", "1"), ("2", "2"))}
    assert found == {sha256_bytes(modelfile.store(boosted()))}


def test_a_type_that_nobody_reviewed_is_refused_by_name():
    from sklearn.base import BaseEstimator, ClassifierMixin

    class OwnModel(ClassifierMixin, BaseEstimator):
        pass

    with pytest.raises(UnsafeModel, match=r"OwnModel cannot be stored safely: nobody has reviewed"):
        modelfile.store(OwnModel())


def test_nearest_neighbours_are_refused_because_they_would_keep_the_training_rows():
    from sklearn.neighbors import KNeighborsClassifier

    with pytest.raises(UnsafeModel, match="sklearn"):
        modelfile.store(KNeighborsClassifier().fit(*numeric()))


def test_a_threshold_optimizer_is_refused_because_it_asks_for_the_protected_attribute_at_prediction():
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.linear_model import LogisticRegression

    frame, label = numeric()
    model = ThresholdOptimizer(estimator=LogisticRegression(), predict_method="predict_proba")
    model.fit(frame.to_pandas(), label, sensitive_features=applicants()[2])
    with pytest.raises(UnsafeModel, match=r"ThresholdOptimizer.*protected attribute of the person at every prediction"):
        modelfile.store(model)


def test_an_exponentiated_gradient_and_a_grid_search_are_refused_with_their_own_reasons():
    from fairlearn.reductions import DemographicParity, ExponentiatedGradient, GridSearch
    from sklearn.linear_model import LogisticRegression

    frame, label = numeric()
    search = GridSearch(LogisticRegression(), DemographicParity(), grid_size=3)
    search.fit(frame, label, sensitive_features=applicants()[2])
    with pytest.raises(UnsafeModel, match=r"GridSearch.*the predictor that it chose is a plain estimator"):
        modelfile.store(search)
    assert modelfile.store(search.predictors_[0])
    with pytest.raises(UnsafeModel, match=r"ExponentiatedGradient.*at random for every answer"):
        modelfile.store(ExponentiatedGradient(LogisticRegression(), DemographicParity()))


def test_every_reviewed_type_says_why_it_may_be_loaded_and_none_is_also_refused():
    assert all(len(reason) > 10 for reason in modelfile.REVIEWED_TYPES.values())
    assert not set(modelfile.REVIEWED_TYPES) & set(modelfile.REFUSED_TYPES)


def test_types_that_the_evidence_does_not_name_are_not_loaded():
    content = modelfile.store(boosted())
    needed = modelfile.trusted_types(content)
    assert needed
    with pytest.raises(UnsafeModel, match="evidence of this model does not name it"):
        modelfile.load(content, needed[1:])


def test_naming_a_type_in_the_evidence_is_not_enough_to_load_it():
    with zipfile.ZipFile(io.BytesIO(modelfile.store(fitted()["linear"]))) as archive:
        schema = json.loads(archive.read("schema.json"))
        members = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    schema["__module__"], schema["__class__"] = "subprocess", "Popen"
    with pytest.raises(UnsafeModel, match=r"subprocess\.Popen.*nobody has reviewed"):
        modelfile.load(_archive({**members, "schema.json": json.dumps(schema).encode()}), ["subprocess.Popen"])


def test_bytes_that_are_no_model_file_are_refused():
    for content in (b"not a zip", _archive({"schema.json": b"{}"}), _archive({"other": b""})):
        with pytest.raises(UnsafeModel, match="not a skops file"):
            modelfile.load(content, [])


@pytest.mark.parametrize(("kind", "field", "value"), [
    ("forest", "left_child", 10**6), ("forest", "right_child", 0), ("forest", "feature", 77),
    ("boosted", "left", 10**6), ("boosted", "right", 0), ("boosted", "feature_idx", 77),
])
def test_a_tree_whose_indices_lead_astray_is_refused_before_it_can_crash_a_server(kind: str, field: str, value: int):
    content = modelfile.store(boosted() if kind == "boosted" else fitted()["forest"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, raw in members.items():
        nodes = np.load(io.BytesIO(raw)) if name.endswith(".npy") else None
        if nodes is not None and nodes.dtype.names and field in nodes.dtype.names and len(nodes) > 1:
            nodes[field][0] = value
            out = io.BytesIO()
            np.save(out, nodes)
            members[name] = out.getvalue()
            break
    with pytest.raises(UnsafeModel, match=r"a node (points|reads)"):
        modelfile.load(_archive(members), modelfile.trusted_types(content))


def test_the_score_is_the_probability_of_the_favourable_class_wherever_it_stands():
    from sklearn.linear_model import LogisticRegression

    frame, label = numeric()
    model = LogisticRegression().fit(frame, label)
    assert np.array_equal(modelfile.favourable_scores(model, frame), model.predict_proba(frame)[:, 1])
    turned = LogisticRegression().fit(frame, 1 - label)
    assert np.allclose(modelfile.favourable_scores(turned, frame), 1 - modelfile.favourable_scores(model, frame))


def _archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()
