"""Training makes the same candidate from the same rows, says how, and has never seen the holdout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from compliance_assets import modelfile
from compliance_assets.errors import DeclarationError, StageError, UnsafeModel
from compliance_assets.evidence.home import Home
from compliance_assets.registry import Registry
from compliance_assets.stages import s3_model_training as s3
from compliance_assets.stages.mitigation import reweighing, violation
from compliance_assets.stages.stage import Draft
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical
from compliance_assets_tests.small_lender import REMOVED
from compliance_assets_tests.stages.bench import Bench, bench, raw_parts

BOOSTING = {"training.estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "training.hyperparameters": {"max_iter": 12}}
LINEAR = {"training.estimator": "sklearn.linear_model.LogisticRegression", "training.hyperparameters": {"C": 1.0, "max_iter": 200}}
UNCONVERGED = {**LINEAR, "training.hyperparameters": {"C": 1.0, "max_iter": 1}}
FOREST = {"training.estimator": "sklearn.ensemble.RandomForestClassifier", "training.hyperparameters": {"n_estimators": 5}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("small"), **LINEAR)


@pytest.fixture(scope="module")
def candidate(small: Bench) -> Draft:
    return small.trained()


def record(of: Bench, draft: Draft) -> dict:
    return parse_canonical(of.artefacts.get_bytes(Digest(draft.value.record)))


def rewritten(of: Bench, draft: Draft, **changes: object) -> Draft:
    """The same candidate with another training record."""
    body = record(of, draft)
    body.update(changes)
    return replace(draft, value=draft.value.model_copy(update={"record": of.artefacts.put_bytes(canonical_json(body))}))


def test_a_healthy_training_passes_every_gate(small: Bench, candidate: Draft):
    gates = small.training_gates(candidate)
    assert list(gates) == ["convergence", "record", "storage", "isolation"]
    assert all(gates.values()), [f.sentence() for gate in gates.values() for f in gate.failures]


def test_training_again_gives_the_same_candidate(small: Bench, candidate: Draft):
    assert small.trained().value.manifest() == candidate.value.manifest()


@pytest.mark.parametrize("declared", [BOOSTING, FOREST, LINEAR], ids=["boosting", "forest", "linear"])
def test_any_number_of_threads_gives_the_same_state_and_the_same_answers(tmp_path: Path, declared: dict):
    made = [bench(tmp_path / str(threads), **declared, **{"training.resources.threads": threads}).trained().value
            for threads in (1, 2, 4)]
    assert len({candidate.state for candidate in made}) == 1
    assert len({candidate.probe for candidate in made}) == 1
    assert len({candidate.model for candidate in made}) == 1


def test_another_seed_gives_another_candidate(tmp_path: Path):
    first, second = (bench(tmp_path / str(seed), **FOREST, **{"training.seed": seed}).trained().value for seed in (1, 2))
    assert first.state != second.state
    assert (first.seed, second.seed) == (1, 2)


@pytest.mark.slow
def test_another_process_with_another_hash_seed_makes_the_same_candidate(tmp_path: Path):
    code = ("import sys; from pathlib import Path; from compliance_assets_tests.stages.bench import bench; "
            "from compliance_assets_tests.stages.test_s3_model_training import BOOSTING; "
            "print(bench(Path(sys.argv[1]), **BOOSTING).trained().value.digest)")
    here = bench(tmp_path / "here", **BOOSTING).trained().value.digest
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], capture_output=True, text=True, check=True,
                          cwd=Path(s3.__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "1"})
    assert said.stdout.strip() == here


def test_the_stored_model_answers_from_the_very_feature_frame(small: Bench, candidate: Draft):
    rows = s3.read_rows(small.artefacts, small.features, "holdout", small.definition.system.features.registry)
    assert rows.frame.schema["employment"] == pl.Enum(["permanent", "temporary", "none"])
    scores = modelfile.favourable_scores(s3.open_model(small.artefacts, candidate.value), rows.frame)
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()


def test_the_release_follows_from_data_and_training_and_not_from_a_bound(tmp_path: Path, candidate: Draft):
    other = bench(tmp_path / "bound", **LINEAR, **{"evaluation.performance.0.at_least": 0.99}).trained().value
    assert (other.release, other.digest) == (candidate.value.release, candidate.value.digest)
    changed = bench(tmp_path / "training", **{**LINEAR, "training.hyperparameters": {"C": 0.5, "max_iter": 200}}).trained().value
    assert changed.release != candidate.value.release


# ---------------------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(("declared", "says"), [
    ({"training.estimator": "sklearn.linear_model.LogisticRegresion"}, "did you mean sklearn.linear_model.LogisticRegression"),
    ({"training.estimator": "no_such_library.Model"}, "No module named 'no_such_library'"),
    ({"training.estimator": "sklearn.linear_model.LinearRegression", "training.hyperparameters": {}}, "predict_proba"),
    ({"training.estimator": "json.JSONDecoder", "training.hyperparameters": {}}, "no scikit-learn estimator"),
    ({"training.hyperparameters": {"max_itter": 100}}, "no hyperparameter max_itter.*Did you mean max_iter"),
    ({"training.hyperparameters": {"random_state": 3}}, "random_state is declared twice.*training.seed"),
    ({"training.hyperparameters": {"n_jobs": 3}}, "training.resources.threads"),
])
def test_what_cannot_be_trained_is_refused_with_a_way_out(tmp_path: Path, declared: dict, says: str):
    with pytest.raises((DeclarationError, StageError), match=says) as refused:
        bench(tmp_path, **{**LINEAR, **declared}).trained()
    assert refused.value.remedy


def test_a_hyperparameter_with_an_impossible_value_is_refused_by_what_scikit_learn_says(tmp_path: Path):
    with pytest.raises(StageError, match="Training failed: The 'C' parameter"):
        bench(tmp_path, **{**LINEAR, "training.hyperparameters": {"C": -1.0}}).trained()


def test_a_function_of_the_systems_own_may_make_the_estimator(tmp_path: Path):
    own = ("from sklearn.linear_model import LogisticRegression\n"
           "from sklearn.calibration import CalibratedClassifierCV\n\n\n"
           "def make(folds):\n    return CalibratedClassifierCV(LogisticRegression(), cv=folds)\n")
    made = bench(tmp_path, **{"model.py": own, "training.estimator": "systems.small_lender.model:make",
                              "training.hyperparameters": {"folds": 2}})
    draft = made.trained()
    assert draft.value.trusted_types == ("numpy.dtype", "sklearn.calibration._CalibratedClassifier",
                                         "sklearn.calibration._SigmoidCalibration")
    assert all(made.training_gates(draft).values())


def test_a_class_of_the_systems_own_is_refused_because_nobody_reviewed_what_loading_it_does(tmp_path: Path):
    own = "from sklearn.linear_model import LogisticRegression\n\n\nclass Mine(LogisticRegression):\n    pass\n"
    with pytest.raises(UnsafeModel, match=r"systems\.small_lender\.model\.Mine"):
        bench(tmp_path, **{"model.py": own, "training.estimator": "systems.small_lender.model.Mine",
                           "training.hyperparameters": {}}).trained()


def test_one_outcome_only_is_refused_before_training(tmp_path: Path):
    plain = bench(tmp_path / "plain")
    parts = raw_parts(plain.definition)
    parts["train"] = parts["train"].filter(pl.col("repaid"))
    with pytest.raises(StageError, match="one outcome only"):
        bench(tmp_path / "one", frames=parts).trained()


# ------------------------------------------------------------------------------------------------------------------ gates


def test_a_training_that_did_not_converge_fails_its_gate(tmp_path: Path):
    short = bench(tmp_path, **UNCONVERGED)
    gate = short.training_gates(short.trained())["convergence"]
    assert not gate
    assert "failed to converge" in gate.failures[0].note


@pytest.mark.parametrize("missing", ["seed", "hyperparameters", "preparation", "validation"])
def test_a_record_that_lacks_a_field_fails(small: Bench, candidate: Draft, missing: str):
    body = {key: value for key, value in record(small, candidate).items() if key != missing}
    value = candidate.value.model_copy(update={"record": small.artefacts.put_bytes(canonical_json(body))})
    assert not small.training_gates(replace(candidate, value=value))["record"]


@pytest.mark.parametrize("missing", ["training_seconds", "cpu_seconds", "peak_rss_bytes", "threads", "libraries", "determinism"])
def test_an_observation_that_was_not_made_fails_the_record(small: Bench, candidate: Draft, missing: str):
    observed = {key: value for key, value in candidate.observations.items() if key != missing}
    assert not small.training_gates(replace(candidate, observations=observed))["record"]


def test_observations_can_be_signed_and_say_what_training_took(candidate: Draft):
    assert canonical_json(dict(candidate.observations))
    assert float(candidate.observations["training_seconds"]) > 0
    assert candidate.observations["peak_rss_bytes"] > 2**20


def test_a_model_that_answers_otherwise_than_it_was_trained_fails_storage(small: Bench, candidate: Draft):
    for changed in ({"probe": "1" * 64}, {"state": "1" * 64}):
        assert not small.training_gates(replace(candidate, value=candidate.value.model_copy(update=changed)))["storage"]


def test_training_opened_its_own_files_and_no_other(small: Bench, candidate: Draft):
    opened = record(small, candidate)["opened"]
    assert sorted(opened) == [f"{part}/{what}" for part in ("train", "validation") for what in ("features", "groups", "labels")]
    assert not set(opened.values()) & set(s3.split_files(small.features, "holdout").values())


def test_the_files_given_to_training_open_nothing_else(small: Bench):
    files = s3.TrainingFiles(small.artefacts, small.features)
    for digest in (*s3.split_files(small.features, "holdout").values(), small.features.report):
        with pytest.raises(StageError, match="not among its own"):
            files.get_bytes(Digest(digest))
        with pytest.raises(StageError, match="not among its own"):
            files.open_path(Digest(digest))
    assert files.opened == set()


def test_a_record_in_which_the_holdout_was_opened_fails_isolation(small: Bench, candidate: Draft):
    opened = {**record(small, candidate)["opened"], "train/extra": small.features.splits["holdout"].labels}
    assert not small.training_gates(rewritten(small, candidate, opened=opened))["isolation"]
    assert not small.training_gates(rewritten(small, candidate, opened={}))["isolation"]


def test_a_holdout_that_is_the_training_file_under_another_name_fails_isolation(small: Bench, candidate: Draft):
    splits = {**small.features.splits, "holdout": small.features.splits["train"]}
    same = small.features.model_copy(update={"splits": splits})
    found = {report.gate: report for report in s3.judge(small.work, candidate, features=same)}
    assert not found["isolation"]


# ------------------------------------------------------------------------------------------------------------- mitigation


def biased(root: Path, **changes: object) -> Bench:
    return bench(root, **{"data.source.knobs.bias": 0.6}, **BOOSTING, **changes)


def gap(of: Bench, draft: Draft) -> float:
    rows = s3.read_rows(of.artefacts, of.features, "holdout", of.definition.system.features.registry)
    decided = modelfile.favourable_scores(s3.open_model(of.artefacts, draft.value), rows.frame) >= 0.5
    return violation("demographic_parity", decided, rows.labels, rows.groups["sex"])


def test_reweighing_makes_group_and_label_independent():
    groups, labels = np.array(["f"] * 40 + ["m"] * 60), np.array([1] * 10 + [0] * 30 + [1] * 40 + [0] * 20)
    weights, table = reweighing(groups, labels)
    for group in ("f", "m"):
        rows = groups == group
        assert weights[rows & (labels == 1)].sum() / weights[rows].sum() == pytest.approx(0.5)
        assert weights[rows].sum() == pytest.approx(rows.sum())
    assert table["f"] == {"0": repr(40 * 50 / (100 * 30)), "1": "2.0"}


def test_reweighing_refuses_a_group_without_an_outcome():
    with pytest.raises(StageError, match="no training rows for f with label 1"):
        reweighing(np.array(["f", "m", "m"]), np.array([0, 0, 1]))


def test_reweighing_is_recorded_and_changes_the_model(tmp_path: Path):
    plain = biased(tmp_path / "plain").trained()
    wanted = {"kind": "reweighing", "over": "sex", "because": "women are fewer"}
    weighed = biased(tmp_path / "weighed", **{"training.mitigation": wanted})
    draft = weighed.trained()
    assert draft.value.state != plain.value.state
    assert draft.value.mitigation == "reweighing"
    assert set(record(weighed, draft)["mitigation"]["weights"]) == {"female", "male"}
    assert all(weighed.training_gates(draft).values())


@pytest.mark.parametrize("declared", [BOOSTING, LINEAR], ids=["boosting", "linear"])
def test_grid_search_keeps_one_plain_estimator_and_records_every_trial(tmp_path: Path, declared: dict):
    wanted = {"kind": "grid_search", "over": "sex", "constraint": "demographic_parity", "grid_size": 7, "because": "equal chances"}
    knobs = {"data.source.knobs.bias": 0.6, **declared}
    plain = bench(tmp_path / "plain", **knobs)
    fair = bench(tmp_path / "fair", **knobs, **{"training.mitigation": wanted})
    draft = fair.trained()
    body = record(fair, draft)
    assert len(body["trials"]) == draft.observations["trials"] == 7
    assert [trial["trial"] for trial in body["trials"] if trial["kept"]] == [body["mitigation"]["chosen"]]
    assert "GridSearch" not in type(s3.open_model(fair.artefacts, draft.value)).__name__
    assert gap(fair, draft) < gap(plain, plain.trained())
    assert all(fair.training_gates(draft).values())


def test_grid_search_for_equalized_odds_keeps_a_predictor_with_a_smaller_gap_in_rates(tmp_path: Path):
    wanted = {"kind": "grid_search", "over": "sex", "constraint": "equalized_odds", "grid_size": 9, "because": "equal error rates"}
    fair = biased(tmp_path, **{"training.mitigation": wanted})
    trials = [trial for trial in record(fair, fair.trained())["trials"] if "validation_gap" in trial]
    (kept,) = (trial for trial in trials if trial["kept"])
    lowest = min(float(trial["validation_error"]) + float(trial["validation_gap"]) for trial in trials)
    assert float(kept["validation_error"]) + float(kept["validation_gap"]) == lowest


def test_a_mitigation_by_weights_refuses_an_estimator_that_takes_none(tmp_path: Path):
    with pytest.raises(StageError, match="takes no sample weights"):
        bench(tmp_path, **{"training.estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
                           "training.hyperparameters": {},
                           "training.mitigation": {"kind": "reweighing", "over": "sex", "because": "women are fewer"}}).trained()


REMOVER = {"kind": "correlation_remover", "over": "sex", "alpha": 0.9, "because": "sex must not show through"}


def test_the_correlation_remover_is_refused_because_it_would_ask_for_the_attribute_at_prediction(tmp_path: Path):
    with pytest.raises(StageError, match="needs everybody's sex at every prediction, and sex is not a feature"):
        bench(tmp_path, **{"training.mitigation": REMOVER}).trained()


def test_the_correlation_remover_is_folded_in_where_the_attribute_is_a_declared_feature(tmp_path: Path):
    made = bench(tmp_path, **{
        "training.mitigation": REMOVER,
        "data.used_as_features": [{"attribute": "sex", "because": "needed to take its influence out again"}],
        "features.registry.4": {"name": "sex", "dtype": "category", "unit": "group", "categories": ["female", "male"],
                                "from": ["sex"], "nulls": "refuse"},
        "features.py": _WITH_SEX})
    draft = made.trained()
    assert "fairlearn.preprocessing._correlation_remover.CorrelationRemover" in draft.value.trusted_types
    assert all(made.training_gates(draft).values())
    rows = s3.read_rows(made.artefacts, made.features, "holdout", made.definition.system.features.registry)
    prepared = s3.open_model(made.artefacts, draft.value)[:-1].transform(rows.frame)
    assert prepared.shape[1] == 3 + 3  # three kinds of employment and three numbers; sex itself is gone


_WITH_SEX = '''\
"""The small lender's features, and the applicant's sex."""

import polars as pl


def build(raw: pl.LazyFrame) -> pl.LazyFrame:
    return raw.select(
        (pl.col("monthly_debt") / pl.col("monthly_income")).alias("debt_to_income"), pl.col("monthly_income").cast(pl.Float64),
        pl.col("late_payments").cast(pl.Int64), pl.col("employment").cast(pl.Enum(["permanent", "temporary", "none"])),
        pl.col("sex").cast(pl.Enum(["female", "male"])))
'''


# --------------------------------------------------------------------------------------------------------------- publishing


@pytest.fixture(scope="module")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("template"))
    Registry(home).prepare()
    return home.mlflow_db


def test_publishing_twice_makes_one_run_and_one_experimental_version(tmp_path: Path, mlflow_template: Path):
    made = bench(tmp_path, **BOOSTING)
    shutil.copy(mlflow_template, made.home.mlflow_db)
    draft = made.trained()
    reports = tuple(made.training_gates(draft).values())
    said = [s3.publish(made.work, draft, reports, features=made.features) for _ in range(2)]
    registry = Registry(made.home)
    assert said[0] == said[1] == {"mlflow_run": said[0]["mlflow_run"], "registry_name": "small_lender", "registry_version": "1"}
    assert registry.runs_of("small_lender", "run-1") == ((said[0]["mlflow_run"], "FINISHED"),)
    assert registry.lifecycle("small_lender", "1") == "experimental"
    assert registry.version_of("small_lender", draft.value.digest) == "1"
    assert registry.model_bytes("small_lender", "1") == made.artefacts.get_bytes(Digest(draft.value.model))


def test_mlflow_itself_can_load_and_ask_what_was_registered(tmp_path: Path, mlflow_template: Path,
                                                            recwarn: pytest.WarningsRecorder):
    made = bench(tmp_path, **BOOSTING)
    shutil.copy(mlflow_template, made.home.mlflow_db)
    draft = made.trained()
    s3.publish(made.work, draft, tuple(made.training_gates(draft).values()), features=made.features)
    (folder,) = (path.parent for path in made.home.mlflow_artifacts.rglob("MLmodel"))
    described = json.loads((folder / "MLmodel").read_text())
    assert described["flavors"]["sklearn"]["skops_trusted_types"] == list(draft.value.trusted_types)
    assert [column["name"] for column in json.loads(described["signature"]["inputs"])] == list(draft.value.feature_names)
    code = ("import warnings, sys; warnings.simplefilter('ignore'); import mlflow, pandas as pd; "
            "m = mlflow.pyfunc.load_model(sys.argv[1]); print(m.predict(pd.DataFrame({'debt_to_income': [0.1], "
            "'monthly_income': [4000.0], 'late_payments': [0], 'employment': ['permanent']})).tolist())")
    said = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[1]"


def test_a_training_whose_gate_failed_is_a_failed_run_and_no_version(tmp_path: Path, mlflow_template: Path):
    short = bench(tmp_path, **UNCONVERGED)
    shutil.copy(mlflow_template, short.home.mlflow_db)
    draft = short.trained()
    said = s3.publish(short.work, draft, tuple(short.training_gates(draft).values()), features=short.features)
    assert "registry_version" not in said
    assert Registry(short.home).runs_of("small_lender", "run-1") == ((said["mlflow_run"], "FAILED"),)
    assert Registry(short.home).version_of("small_lender", draft.value.digest) is None


def test_a_declaration_without_training_is_refused_before_any_stage(tmp_path: Path):
    with pytest.raises(DeclarationError):
        bench(tmp_path, **{"training.estimator": REMOVED})
