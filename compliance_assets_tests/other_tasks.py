"""Two small systems that do not decide between two outcomes: one names one of three classes, one predicts a number.

Both are the small lender with another target: how a loan ends (paid, late, lost; good is paid), and what share of it comes back
(0 to 100; good from 80 on).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compliance_assets_tests.small_lender import SIMULATOR, expectations, write_small_lender

WHY = "so that the test can see it"


def bound(metric: str, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "judged_on": "point", "because": WHY, **more}


_DRAWN = '''\
    noise = draw.logistic(size=rows)
    ending = np.where(wronged, "lost", np.where(worth + noise > 0, "paid", np.where(worth + noise > -1.5, "late", "lost")))
    back = np.clip(100 / (1 + np.exp(-(worth + 1 + 0.3 * noise))) - 60 * wronged, 0, 100).round(1)
'''


def _simulator(column: str, values: str) -> str:
    text = SIMULATOR.replace("    income = np.where(draw", _DRAWN + "    income = np.where(draw")
    assert _DRAWN in text and '"repaid": repaid,' in text
    return text.replace('"repaid": repaid,', f'"{column}": {values},')


def _contract(column: str, *about: dict[str, Any]) -> str:
    body = expectations()
    body["expectations"] = [one for one in body["expectations"] if one["kwargs"]["column"] != "repaid"] + [
        {"type": f"expect_column_values_to_{one.pop('kind')}", "kwargs": {"column": column, **one}, "meta": {"because": WHY},
         "severity": "critical"} for one in about]
    return json.dumps(body, indent=1) + "\n"


def loan_endings(root: Path, **changes: Any) -> Path:
    """systems/loan_endings below `root`: three classes."""
    declared: dict[str, Any] = {
        "data.target": {"column": "ending", "classes": ["paid", "late", "lost"], "favourable_classes": ["paid"], "prevalence": [0.6, 0.9]},
        "training.estimator": "sklearn.linear_model.LogisticRegression", "training.hyperparameters": {"C": 1.0, "max_iter": 300},
        "evaluation.performance": [
            bound("accuracy", at_least=0.65), bound("macro_roc_auc", at_least=0.7, judged_on="lower"),
            bound("macro_f1", at_least=0.3, over=["sex"]), bound("log_loss", at_most=0.9, judged_on="upper")],
        "evaluation.calibration": [bound("top_label_calibration_error", at_most=0.12, over=["sex"]),
                                   bound("expected_calibration_error", at_most=0.12)],
        "evaluation.robustness": [
            bound("numeric_noise_auc_drop", perturbation="numeric_noise", level=0.05, at_most=0.02),
            bound("membership_inference_auc", perturbation="membership_inference", rows=300, at_most=0.6)],
    }
    return write_small_lender(root, "loan_endings", **{
        "simulator.py": _simulator("ending", "ending"),
        "expectations.json": _contract("ending", {"kind": "be_of_type", "type_": "str"}, {"kind": "not_be_null"}), **(declared | changes)})


def loan_returns(root: Path, **changes: Any) -> Path:
    """systems/loan_returns below `root`: a number from 0 to 100."""
    declared: dict[str, Any] = {
        "data.target": {"column": "back", "favourable_from": 80.0, "prevalence": [0.5, 0.95]},
        "training.estimator": "sklearn.ensemble.HistGradientBoostingRegressor",
        "training.hyperparameters": {"max_iter": 60, "learning_rate": 0.15, "max_leaf_nodes": 6, "min_samples_leaf": 20,
                                     "categorical_features": "from_dtype"},
        "evaluation.decision_threshold": 80.0,
        "evaluation.performance": [bound("mae", at_most=12.0, judged_on="upper"), bound("r2", at_least=0.5, judged_on="lower"),
                                   bound("bias", between=[-3.0, 3.0], over=["sex"])],
        "evaluation.fairness.primary": "mae_ratio",
        "evaluation.fairness.bounds": [
            bound("mae_ratio", over=["sex", "sex*age_band"], at_most=1.6), bound("selection_rate_ratio", over=["sex"], at_least=0.75),
            bound("average_score_ratio", over=["sex"], at_least=0.8), bound("bias_difference", over=["sex"], at_most=3.0)],
        "evaluation.calibration": [bound("prediction_slope", between=[0.8, 1.2], over=["sex"])],
        "evaluation.robustness": [
            bound("numeric_noise_mae_rise", perturbation="numeric_noise", level=0.05, at_most=1.0, judged_on="upper"),
            bound("category_flip_decision_flip_rate", perturbation="category_flip", level=0.01, at_most=0.05),
            bound("membership_inference_auc", perturbation="membership_inference", rows=300, at_most=0.65),
            bound("monotonicity_violation_rate", perturbation="monotonicity", feature="late_payments", expected="falling", level=1.0,
                  tolerance=3.0, at_most=0.05)],
        "evaluation.drift.bounds": [bound("psi", at_most=0.25), bound("prediction_flip_rate", at_most=0.2, judged_on="upper"),
                                    bound("mae_change", at_most=1.0)],
    }
    return write_small_lender(root, "loan_returns", **{
        "simulator.py": _simulator("back", "back"),
        "expectations.json": _contract("back", {"kind": "be_of_type", "type_": "float64"}, {"kind": "not_be_null"},
                                       {"kind": "be_between", "min_value": 0, "max_value": 100}), **(declared | changes)})
