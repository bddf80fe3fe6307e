"""What was tried is kept, what is claimed to come out the same is tried again, and nobody looks at a holdout for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compliance_assets.errors import DeclarationError, OutOfTurn
from compliance_assets.governance.release_page import opened
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.modelfile import favourable_scores
from compliance_assets.pipeline import Advance, open_river
from compliance_assets.policy.gates import Verdict
from compliance_assets.stages.s3_model_training import open_model
from compliance_assets.stages.training_rows import TrainingFiles, read_rows
from compliance_assets_tests.project import SYSTEM, run_to, step
from compliance_assets_tests.stages.bench import bench
from compliance_assets_tests.stages.test_s3_model_training import FOREST, LINEAR, record

SEARCH = {"training.hyperparameters": {"max_iter": 200}, "training.search": {
    "parameters": {"C": [0.0001, 1.0], "tol": [0.01, 0.0001]}, "choose_by": "roc_auc", "because": "the usual two settings of this model"}}


def test_every_trial_of_a_search_is_kept_and_the_best_of_the_validation_rows_is_the_candidate(tmp_path: Path):
    made = bench(tmp_path, **{**LINEAR, **SEARCH})
    draft = made.trained()
    body = record(made, draft)
    trials, kept = body["trials"], [trial for trial in body["trials"] if trial["kept"]]
    assert [trial["hyperparameters"] for trial in trials] == [
        {"C": c, "tol": tol} for c in ("0.0001", "1.0") for tol in ("0.01", "0.0001")]
    assert len(kept) == 1 and float(kept[0]["roc_auc"]) == max(float(trial["roc_auc"]) for trial in trials)
    assert {"C", "tol", "max_iter"} <= set(body["hyperparameters"]) and body["hyperparameters"]["C"] == kept[0]["hyperparameters"]["C"]
    assert body["search"]["choose_by"] == "roc_auc" and draft.observations["trials"] == 4
    rows = read_rows(TrainingFiles(made.artefacts, made.features), made.features, "validation", made.definition.system.features.registry)
    score = favourable_scores(open_model(made.artefacts, draft.value), rows.frame)
    assert measure_performance(("roc_auc",), rows.labels, score, 0.5)[0].value == float(kept[0]["roc_auc"])
    assert all(made.training_gates(draft).values())


def test_what_a_discarded_trial_said_stands_beside_it_and_does_not_fail_the_candidate(tmp_path: Path):
    searched = {**LINEAR, "training.hyperparameters": {}, "training.search": {
        "parameters": {"max_iter": [1, 200]}, "choose_by": "log_loss", "because": "one of them cannot converge"}}
    made = bench(tmp_path, **searched)
    draft = made.trained()
    first, second = record(made, draft)["trials"]
    assert any("converge" in said for said in first["warnings"]) and not second["warnings"] and second["kept"]
    assert made.training_gates(draft)["convergence"]


@pytest.mark.parametrize(("search", "says"), [
    ({"parameters": {"C": [1.0, 2.0]}, "choose_by": "psi"}, "cannot choose by psi"),
    ({"parameters": {"C": [1.0]}, "choose_by": "roc_auc"}, "a search of 1 trials"),
    ({"parameters": {"max_iter": [100, 200]}, "choose_by": "roc_auc"}, "fixed under hyperparameters and searched for"),
])
def test_a_search_that_is_none_is_refused(tmp_path: Path, search: dict, says: str):
    with pytest.raises(DeclarationError, match=says):
        bench(tmp_path, **{**LINEAR, "training.search": {**search, "because": "to see it refused"}})


@pytest.mark.parametrize("declared", [FOREST, {**LINEAR, **SEARCH}], ids=["forest", "search"])
def test_a_probe_trains_again_and_holds_the_state_against_the_candidates(tmp_path: Path, declared: dict):
    made = bench(tmp_path, **declared, **{"training.reproducibility_probe": True})
    draft = made.trained()
    probe = made.training_gates(draft)["storage"].findings[-1]
    assert (probe.id, probe.verdict, probe.value) == ("storage.retrained_state", Verdict.PASS, draft.value.state)
    assert record(made, draft)["reproducibility"] == {"claimed": draft.observations["determinism"], "probe": "declared"}


def test_without_a_probe_nothing_is_claimed_to_have_been_tried(tmp_path: Path):
    made = bench(tmp_path, **LINEAR)
    probe = made.training_gates(made.trained())["storage"].findings[-1]
    assert (probe.verdict, probe.note) == (Verdict.NOT_APPLICABLE, "no reproducibility probe is declared")


def test_a_model_that_does_not_come_out_the_same_is_refused(tmp_path: Path):
    own = "from sklearn.linear_model import LogisticRegression\n\nMADE = []\n\n\ndef make():\n    MADE.append(1)\n" \
          "    return LogisticRegression(C=1.0 / len(MADE), max_iter=200)\n"
    made = bench(tmp_path, **{"training.estimator": "systems.small_lender.model:make", "training.hyperparameters": {},
                              "training.reproducibility_probe": True, "model.py": own})
    gate = made.training_gates(made.trained())["storage"]
    assert not gate and [finding.id for finding in gate.failures] == ["storage.retrained_state"]


@pytest.mark.slow
def test_a_holdout_is_opened_as_often_as_declared_and_every_opening_is_counted(project: Path):
    path = project / "systems" / SYSTEM / "system.yaml"
    body = yaml.safe_load(path.read_text())
    body["evaluation"]["holdout_uses"] = {"at_most": 1, "because": "one look, so that a test can see the second refused"}

    def again(threshold: float) -> Advance:
        body["evaluation"]["decision_threshold"] = threshold
        path.write_text(yaml.safe_dump(body, sort_keys=False))
        run_to(open_river(project), "model_training")
        return step(open_river(project), "model_evaluation")

    first, repeated = again(0.5), step(open_river(project), "model_evaluation")
    assert (first.observations["holdout_opened"]["times"], first.observations["holdout_opened"]["limit"]) == (1, 1)
    assert repeated.reused, "what is answered from a record opens nothing"
    with pytest.raises(OutOfTurn, match="opened 1 times, and 1 are declared"):
        again(0.51)
    (kept,) = open_river(project).archive.made_by(SYSTEM, "model_evaluation")
    assert opened(kept) == "opened 1 time, of 1 declared"
