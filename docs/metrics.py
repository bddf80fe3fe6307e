"""Prints docs/metrics.md: every metric and gate that a declaration can name, from the catalogue, the river, and one measurement of each.

Each metric is measured here on a few hundred made-up rows, so that the page cannot promise an interval or a method that the code
does not give.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl

from compliance_assets.metrics import clustered, clustered_groups, quality
from compliance_assets.metrics.adversarial import measure_adversarial
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS, MetricInfo
from compliance_assets.metrics.currentness import known_too_late, outdated_share
from compliance_assets.metrics.drift import drifted_feature_share, measure_drift, prediction_flip_rate
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.importance import importance, measure_top_features
from compliance_assets.metrics.incumbent import accuracy_change, brier_score_change, mae_change, measure_against_incumbent
from compliance_assets.metrics.label_audit import conflicting_labels
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.metrics.membership import fit_of_scores, membership_inference
from compliance_assets.metrics.missing import measure_missing_feature
from compliance_assets.metrics.monotonicity import Rule, measure_monotonicity
from compliance_assets.metrics.multiclass import NAMES as OF_CLASSES
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance, roc_auc_change
from compliance_assets.metrics.profiles import Profile
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.metrics.regression_calibration import interval_coverage, prediction_slope
from compliance_assets.metrics.regression_fairness import measure_regression_fairness
from compliance_assets.metrics.robustness import Inputs, Perturbation, measure_changed_scores, measure_robustness
from compliance_assets.policy.river import RIVER

N = 400
DRAW = np.random.default_rng(7)
FRAME = pl.DataFrame({"late": DRAW.integers(0, 6, N), "debt": DRAW.random(N), "kind": DRAW.choice(["a", "b"], N)})
WHO = {"sex": DRAW.choice(["female", "male"], N)}
DAY = date(2026, 11, 1)
DATED = FRAME.with_columns(on=pl.Series([DAY - timedelta(days=int(days)) for days in DRAW.integers(0, 700, N)]))
CLASSES = ("a", "b", "c")


def scored(frame: pl.DataFrame) -> np.ndarray:
    """A model of these rows."""
    late, debt = frame["late"].fill_null(0), frame["debt"].fill_null(0.5)
    return (0.8 - 0.1 * late - 0.1 * debt + 0.1 * (frame["kind"] == "a")).clip(0.01, 0.99).to_numpy()


SCORE = scored(FRAME)
BEFORE = np.clip(SCORE + 0.1 * DRAW.standard_normal(N), 0.01, 0.99)
Y = (DRAW.random(N) < SCORE).astype(int)
NUMBER, GUESS, EARLIER = 50 + 10 * DRAW.standard_normal(N), 50 + 10 * DRAW.standard_normal(N), 50 + 10 * DRAW.standard_normal(N)
TABLE = DRAW.dirichlet([1.0, 1.0, 1.0], N)
NAMED = np.where(Y == 1, "a", np.where(np.arange(N) % 2, "b", "c"))
PROFILE = Profile.of(FRAME, numeric=["late", "debt"], categorical=["kind"])
INPUTS = Inputs(numeric=("late", "debt"), categories=(("kind", ("a", "b")),), nullable=("late", "debt"))
RULE = Rule("late", "falling", 0.5, 0.0)
SPLIT = {"train": FRAME.with_row_index("id"), "holdout": FRAME.with_row_index("id", offset=N)}

ONE_BY_ONE: dict[str, Callable[[], Measurement]] = {
    "completeness": lambda: quality.completeness(FRAME, ["debt"]),
    "duplicate_keys": lambda: quality.duplicate_keys(SPLIT["train"], "id"),
    "group_share_deviation": lambda: quality.group_share_deviation("sex", WHO, {"female": 0.5, "male": 0.5}),
    "smallest_cell": lambda: quality.smallest_cell("sex", WHO, expected_groups={"sex": ("female", "male")}),
    "split_key_overlap": lambda: quality.split_key_overlap(SPLIT, "id"),
    "split_row_overlap": lambda: quality.split_row_overlap(SPLIT, ["late"]),
    "conflicting_label_share": lambda: conflicting_labels(FRAME, ["late", "kind"], Y),
    "label_prevalence": lambda: quality.label_prevalence(Y),
    "outdated_share": lambda: outdated_share(DATED, "on", DAY, timedelta(days=365)),
    "rows_known_too_late": lambda: known_too_late(DATED, "on", "on", ["debt"]),
    "roc_auc_change": lambda: roc_auc_change(Y, SCORE, BEFORE),
    "accuracy_change": lambda: accuracy_change(Y, SCORE >= 0.5, BEFORE >= 0.5),
    "mae_change": lambda: mae_change(NUMBER, GUESS, EARLIER),
    "brier_score_change": lambda: brier_score_change(Y, SCORE, BEFORE),
    "prediction_flip_rate": lambda: prediction_flip_rate(SCORE, BEFORE, 0.5),
    "drifted_feature_share": lambda: drifted_feature_share("psi", 0.1, PROFILE, FRAME),
    "prediction_slope": lambda: prediction_slope(NUMBER, GUESS),
    "prediction_interval_coverage": lambda: interval_coverage(NUMBER, GUESS - 30, GUESS + 30, 0.9)[0],
    "monotonicity_violation_rate": lambda: measure_monotonicity(RULE, scored, FRAME)[0],
    "adversarial_success_rate": lambda: measure_adversarial(scored, FRAME, SCORE, 0.5, ("late", "debt"), 0.5, INPUTS)[0],
    "membership_inference_auc": lambda: membership_inference(fit_of_scores(Y, SCORE), fit_of_scores(Y, BEFORE))[0],
}


def measure(info: MetricInfo) -> Measurement | None:
    """The metric on the made-up rows; None for what only an interface can be asked."""
    name, number = info.name, info.task == {"regression"}
    if name in ONE_BY_ONE:
        return ONE_BY_ONE[name]()
    if name.startswith("top_features"):
        return measure_top_features((name,), importance(scored, FRAME, Y, rows=N), importance(scored, FRAME, SCORE, rows=N), 2)[0]
    if info.family == "performance":
        return measure_regression((name,), NUMBER, GUESS)[0] if number else measure_multiclass((name,), NAMED, TABLE, CLASSES)[0] if (
            "binary" not in info.task) else measure_performance((name,), Y, SCORE, 0.5, costs=(1.0, 2.0))[0]
    if info.family == "fairness":
        if number:
            return measure_regression_fairness((name,), NUMBER, GUESS, WHO, ("sex",))[0]
        if "previous score" in info.needs:
            return measure_against_incumbent((name,), Y, SCORE >= 0.5, BEFORE >= 0.5, WHO, ("sex",))[0]
        return measure_fairness((name,), Y, (SCORE >= 0.5).astype(int), WHO, ("sex",), score=SCORE)[0]
    if info.family == "calibration":
        return measure_multiclass((name,), NAMED, TABLE, CLASSES)[0] if name in OF_CLASSES else \
            measure_calibration((name,), Y, SCORE, WHO, ("sex",))[-1]
    if info.family == "drift":
        return measure_drift((name,), PROFILE, FRAME)[0]
    if name.endswith("_acceptance_rate"):
        return None
    kind = name.removesuffix("_decision_flip_rate").removesuffix("_auc_drop").removesuffix("_mae_rise")
    how = {"observed": NUMBER / 100} if name.endswith("_mae_rise") else {}
    if kind in ("protected_flip", "retrain_seed"):
        found = measure_changed_scores(kind, Y, SCORE, [BEFORE], 0.5, **how)
    elif kind == "missing_feature":
        found = measure_missing_feature(0.1, scored, FRAME, Y, 0.5, INPUTS, **how)
    else:
        found = measure_robustness([Perturbation(kind, 0.1)], scored, FRAME, Y, 0.5, INPUTS, **how)
    return next(one for one in found if one.metric == name)


_DISTURBED = ("_decision_flip_rate", "_auc_drop", "_mae_rise", "monotonicity_violation_rate", "adversarial_success_rate")


def by_clusters(info: MetricInfo) -> str:
    """Whether the interval can resample clusters."""
    known = clustered.known(info.name) or clustered_groups.known(info.name) or info.name.endswith(_DISTURBED)
    return "" if known or info.family == "quality" else "; value alone by clusters"


def over(info: MetricInfo) -> str:
    """Where `over:` may stand."""
    if info.family == "fairness" or info.name in ("calibration_error_difference", "worst_group_calibration_error"):
        return "groups"
    alone = ("previous score" in info.needs or info.name.endswith("_acceptance_rate") or info.name.startswith("top_features"))
    return "all rows" if alone else "all rows, groups"


def interval(measured: Measurement | None) -> str:
    """The method, and whether it gives an interval."""
    if measured is None:
        return "Wilson"
    method = measured.method.split(" (")[0] if "draws" in measured.method and "shuffling" not in measured.method else measured.method
    said = method.removeprefix("worst group; ").replace("worst feature; ", "").split(", seed")[0]
    return said if measured.lower is not None else f"{said}; no interval"


_WHERE = {"performance": "`evaluation.performance`", "fairness": "`evaluation.fairness.bounds`", "robustness": "`evaluation.robustness`",
          "calibration": "`evaluation.calibration`", "drift": "`evaluation.drift.bounds`"}
_OF_DATA = {"conflicting_label_share": "`data.conflicting_labels`", "completeness": "`data.completeness`",
            "outdated_share": "`data.currentness`", "split_row_overlap": "`data.identical_rows`",
            "label_prevalence": "`data.target.prevalence`", "group_share_deviation": "`data.reference_population`",
            "smallest_cell": "`data.minimum_cell`", "rows_known_too_late": "`known_at` of a feature: none",
            "duplicate_keys": "always: none", "split_key_overlap": "always: none"}


def page() -> str:
    """The whole page."""
    lines = [
        "# What a declaration can name", "",
        "Generated (`python docs/metrics.py > docs/metrics.md`) from the catalogue, the river and one measurement of each metric. *Of*:",
        "two outcomes (2), several classes (k), a number (#). *Over*: all rows, or the worst of the groups and intersections named in",
        "`over:`. Every measurement carries n, overall and for each group, and the method of its 95 % interval. *Common elsewhere* is what",
        "others use, and on whose authority; no bound has a default, and the AI Act names no number.", "",
        "Where rows belong together (`data.split.by` names another column than `data.key`: several applications of one person), intervals",
        "resample the values of that column, not rows, and each number's method says so; how often they hold is in",
        "[operating-characteristics.md](operating-characteristics.md). A metric marked *value alone by clusters* has no such interval: it",
        "is shown without one, and a bound that is judged on an end of it is an ERROR.", ""]
    for family in ("performance", "fairness", "robustness", "calibration", "drift", "quality"):
        where = f": {_WHERE[family]}" if family in _WHERE else " of data"
        head = "| declared in " if family == "quality" else "| over "
        lines += [f"## {family.capitalize()}{where}", "", f"| metric | of | better {head}| interval | source | common elsewhere |",
                  "|---|---|---|---|---|---|---|"]
        for info in METRICS.values():
            if info.family == family:
                of = "".join(sign for task, sign in (("binary", "2"), ("multiclass", "k"), ("regression", "#")) if task in info.task)
                place = _OF_DATA[info.name] if family == "quality" else over(info)
                usual = "none: it depends on the use" if info.convention.startswith("No source") else info.convention
                cells = (f"`{info.name}`", of, info.direction, place, interval(measure(info)) + by_clusters(info), info.source, usual)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += ["Metrics of performance and calibration and comparisons of groups, of this model alone, may also stand under",
              "`evaluation.time_slices.bounds`: measured in each declared slice of time, with n and interval, and the worst is judged.", "",
              "What compares with the model in production (`…_change`) may also stand under `evaluation.drift.bounds`, judged against each",
              "of `against`.", "",
              "## Gates", "", "In order; the first that fails halts those behind it in model evaluation and deployment.", "",
              "| stage | gates |", "|---|---|"]
    lines += [f"| {rule.number} {rule.title} | {', '.join(gate.name for gate in rule.gates)} |" for rule in RIVER]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
