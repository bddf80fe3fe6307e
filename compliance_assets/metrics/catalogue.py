"""Every metric this package can measure: what it is, which way is better, what it needs, and where it comes from.

Standard library only: `policy.gates` reads it to refuse a bound that points the wrong way, and to say, when no bound
is declared, what others commonly use and on whose authority. A convention is a text for people. It is never applied:
the AI Act prescribes no numbers, so every bound is declared by the system's owner with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from compliance_assets.metrics.measurement import Direction, MeasurementRefused

Family = Literal["quality", "performance", "fairness", "robustness", "calibration", "drift"]
Task = Literal["binary", "multiclass", "regression"]

_NO_LIMIT = "No source gives a general limit; it depends on the use. Declare your own, with its reason."


@dataclass(frozen=True)
class MetricInfo:
    """A metric as the catalogue knows it.

    `needs` names the inputs (y, score, prediction, group, frame, profile, predict). `ideal` is the best possible value,
    where there is one. `convention` is the usual threshold and its source, for error texts.
    """

    name: str
    family: Family
    direction: Direction
    task: frozenset[Task]
    needs: tuple[str, ...]
    source: str
    convention: str
    ideal: float | None


_BINARY: frozenset[Task] = frozenset({"binary"})
_MULTICLASS: frozenset[Task] = frozenset({"binary", "multiclass"})
_SEVERAL: frozenset[Task] = frozenset({"multiclass"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})
_ANY: frozenset[Task] = frozenset({"binary", "multiclass", "regression"})

_SCORES = ("y", "score")
_DECISIONS = ("y", "score", "threshold")
_GROUPED = ("group", "y", "prediction")
_HARDT = "Hardt, Price, Srebro 2016, Equality of Opportunity in Supervised Learning; as in fairlearn.metrics"
_TENTH = "At most 0.10 is a common default (convention; no legal status)."
_FIFTHS = "At least 0.80 by analogy with the four-fifths rule (convention; no legal status)."
_MURPHY = "Murphy 1973, A New Vector Partition of the Probability Score"
_COX = "Cox 1958; Van Calster et al. 2019, Calibration: the Achilles heel of predictive analytics"
_PERTURB = "J.4 protocol: perturb, score again, count changed decisions; ISO/IEC 25058 ch. 10 gives methods, not limits"
_TS4213 = "ISO/IEC TS 4213 (classification performance); scikit-learn definition"


def _performance() -> tuple[MetricInfo, ...]:
    def info(name: str, direction: Direction, task: frozenset[Task], needs: tuple[str, ...], source: str,
             ideal: float | None) -> MetricInfo:
        return MetricInfo(name, "performance", direction, task, needs, source, _NO_LIMIT, ideal)

    def changed(name: str, direction: Direction, source: str, task: frozenset[Task] = _MULTICLASS) -> MetricInfo:
        return MetricInfo(name, "performance", direction, task, ("y", "score", "previous score"), source, _WORSE, None)

    compared = MetricInfo(
        "roc_auc_change", "performance", "higher", _MULTICLASS, ("y", "score", "previous score"),
        "DeLong, DeLong, Clarke-Pearson 1988 (paired)",
        "Non-inferiority margin against production of -0.01 is this project's suggestion; +-0.03 is one guide's "
        "candidate for a substantial modification.", None,
    )
    return (
        info("roc_auc", "higher", _BINARY, _SCORES, "Bamber 1975; variance DeLong et al. 1988", 1.0),
        compared,
        info("average_precision", "higher", _BINARY, _SCORES, "scikit-learn; interval Boyd, Eng, Page 2013", 1.0),
        info("accuracy", "higher", _MULTICLASS, _DECISIONS, _TS4213, 1.0),
        info("balanced_accuracy", "higher", _MULTICLASS, _DECISIONS, _TS4213, 1.0),
        info("precision", "higher", _BINARY, _DECISIONS, _TS4213, 1.0),
        info("recall", "higher", _BINARY, _DECISIONS, _TS4213, 1.0),
        info("specificity", "higher", _BINARY, _DECISIONS, _TS4213, 1.0),
        info("f1", "higher", _BINARY, _DECISIONS, _TS4213, 1.0),
        info("macro_f1", "higher", _SEVERAL, ("y", "score"), _TS4213, 1.0),
        info("macro_precision", "higher", _SEVERAL, _SCORES, _TS4213, 1.0),
        info("macro_roc_auc", "higher", _SEVERAL, _SCORES, "each class against the rest, averaged; Fawcett 2006", 1.0),
        info("mcc", "higher", _MULTICLASS, _DECISIONS, "Matthews 1975; Gorodkin 2004 for several classes", 1.0),
        info("brier_score", "lower", _MULTICLASS, _SCORES, "Brier 1950", 0.0),
        info("log_loss", "lower", _MULTICLASS, _SCORES, "Good 1952; scikit-learn definition", 0.0),
        info("cost_per_row", "lower", _BINARY, ("y", "score", "threshold", "costs"), "mean cost of wrong decisions at the decision "
             "threshold, in the declared unit (Elkan 2001)", 0.0),
        info("mae", "lower", _REGRESSION, ("y", "predicted"), "mean absolute error", 0.0),
        info("rmse", "lower", _REGRESSION, ("y", "predicted"), "root mean squared error", 0.0),
        info("r2", "higher", _REGRESSION, ("y", "predicted"), "coefficient of determination", 1.0),
        info("median_absolute_error", "lower", _REGRESSION, ("y", "predicted"), "scikit-learn definition", 0.0),
        info("mape", "lower", _REGRESSION, ("y", "predicted"), "mean of |error| / |observed|, where observed is not 0", 0.0),
        info("p95_absolute_error", "lower", _REGRESSION, ("y", "predicted"), "95th percentile of |error|", 0.0),
        info("bias", "target", _REGRESSION, ("y", "predicted"), "mean of predicted minus observed", 0.0),
        changed("accuracy_change", "higher", "share decided rightly less the incumbent's; paired on the same rows", _ANY),
        changed("brier_score_change", "lower", "mean of the paired differences of squared errors"),
        changed("mae_change", "lower", "mean of the paired differences of absolute errors", _REGRESSION),
    )


def _fairness() -> tuple[MetricInfo, ...]:
    def info(name: str, direction: Direction, needs: tuple[str, ...], source: str, convention: str,
             ideal: float) -> MetricInfo:
        # A decision is favourable or not, whatever is predicted; only scores that are probabilities can be compared as such.
        return MetricInfo(name, "fairness", direction, _MULTICLASS if "score" in needs else _ANY, needs, source, convention, ideal)

    return (
        info("selection_rate_ratio", "higher", _GROUPED,
             "lowest group's selection rate / highest group's (29 CFR 1607.4(D), UGESP); demographic parity ratio",
             "At least 0.80 (the four-fifths rule of US employment guidelines; a convention in the EU, with no legal "
             "status there); 0.90 is used where stricter.", 1.0),
        info("selection_rate_difference", "lower", _GROUPED, "fairlearn demographic_parity_difference", _TENTH, 0.0),
        info("equal_opportunity_difference", "lower", _GROUPED, _HARDT, _TENTH, 0.0),
        info("equalized_odds_difference", "lower", _GROUPED, _HARDT, _TENTH, 0.0),
        info("false_positive_rate_difference", "lower", _GROUPED, "fairlearn false_positive_rate", _TENTH, 0.0),
        info("average_odds_difference", "lower", _GROUPED,
             "half the sum of the gaps in true and false positive rate (AIF360, absolute, any number of groups)",
             "Usually reported, not bounded.", 0.0),
        info("predictive_parity_difference", "lower", _GROUPED, "Chouldechova 2017; gap in positive predictive value",
             "Usually reported; at most 0.10 is this project's suggestion.", 0.0),
        info("negative_predictive_value_difference", "lower", _GROUPED, "gap in negative predictive value (predictive parity's "
             "other half)", "Usually reported; at most 0.10 is this project's suggestion.", 0.0),
        info("accuracy_difference", "lower", _GROUPED, "gap in accuracy between groups", "Usually reported.", 0.0),
        info("equal_opportunity_ratio", "higher", _GROUPED, f"{_HARDT}; lowest / highest true positive rate", _FIFTHS, 1.0),
        info("equalized_odds_ratio", "higher", _GROUPED, f"{_HARDT}; the smaller ratio of the two rates", _FIFTHS, 1.0),
        info("false_positive_rate_ratio", "higher", _GROUPED, "lowest / highest false positive rate", "Usually reported.", 1.0),
        info("false_negative_rate_ratio", "higher", _GROUPED, "lowest / highest false negative rate", "Usually reported.", 1.0),
        info("score_distribution_distance", "lower", ("group", "y", "score"),
             "largest Kolmogorov-Smirnov distance between two groups' scores", "Usually reported.", 0.0),
        info("roc_auc_difference", "lower", ("group", "y", "score"), "gap in AUC between groups, DeLong per group",
             "At most 0.05 is this project's suggestion.", 0.0),
    )


_WORSE = ("Not worse than a declared tolerance (one guide); 0.02 is this project's suggestion: at least -0.02 where higher is "
          "better, at most 0.02 where lower is.")


def _comparative() -> tuple[MetricInfo, ...]:
    """Fairness against the model in production: each group's own change, and the change of each gap between groups."""
    needs = ("group", "y", "prediction", "previous score")

    def info(name: str, direction: Direction, source: str) -> MetricInfo:
        return MetricInfo(name, "fairness", direction, _ANY, needs, source, _WORSE, None)

    own = tuple(
        info(f"worst_{rate}_change", "higher", f"candidate's {rate.replace('_', ' ')} less the incumbent's, in the group that loses "
             "most; paired on the same rows")
        for rate in ("selection_rate", "true_positive_rate", "positive_predictive_value", "accuracy"))
    gaps = tuple(
        info(f"{one.name}_change", one.direction, f"{one.name} of the candidate less the incumbent's; paired on the same rows")
        for one in _fairness() if one.needs == _GROUPED)
    return own + gaps


def _regression_fairness() -> tuple[MetricInfo, ...]:
    def info(name: str, direction: Direction, source: str, convention: str, ideal: float,
             needs: tuple[str, ...] = ("group", "y", "predicted")) -> MetricInfo:
        return MetricInfo(name, "fairness", direction, _REGRESSION, needs, source, convention, ideal)

    holistic = "holisticai, regression bias metrics"
    score = ("group", "predicted")
    return (
        info("mae_difference", "lower", "highest less lowest group's mean absolute error", _NO_LIMIT, 0.0),
        info("mae_ratio", "lower", "highest group's mean absolute error / lowest group's", "At most 1.25 is this project's suggestion.",
             1.0),
        info("rmse_difference", "lower", "highest less lowest group's root mean squared error", _NO_LIMIT, 0.0),
        info("rmse_ratio", "lower", "highest group's root mean squared error / lowest group's",
             "At most 1.25 is this project's suggestion.", 1.0),
        info("bias_difference", "lower", "highest less lowest group's mean of predicted minus observed", _NO_LIMIT, 0.0),
        info("error_distribution_distance", "lower", "error parity: largest Kolmogorov-Smirnov distance between two groups' errors, "
             "with a permutation test", "Usually reported.", 0.0),
        info("average_score_ratio", "higher", f"lowest group's mean prediction / highest group's ({holistic})",
             "At least 0.8 (a library's default).", 1.0, score),
        info("maximum_statistical_parity", "lower", f"largest gap in the share above any cut-off ({holistic})",
             "At most 0.1 (a library's default).", 0.0, score),
        info("scoring_rate_ratio", "higher", "share above the overall median, lowest / highest group (New York City Local Law 144)",
             "At least 0.80 (the four-fifths rule of US employment guidelines; a convention in the EU, with no legal status there).",
             1.0, score),
    )


def _robustness() -> tuple[MetricInfo, ...]:
    kinds = (
        ("numeric_noise", "At most 0.05 flips and 0.02 AUC at 5 % of a deviation (this project's suggestion)."),
        ("relative_shift", "At most 0.05 flips and 0.02 AUC at +-5 % (this project's suggestion)."),
        ("category_flip", "At most 0.02 flips at a rate of 1 % (this project's suggestion)."),
        ("missing_values", "At most 0.03 AUC at 10 % missing (this project's suggestion)."),
        ("missing_feature", "Usually reported: the feature whose absence costs most."),
        ("missing_block", "Usually reported: every feature that may be missing, missing together."),
        ("protected_flip", "Usually reported."),
        ("retrain_seed", "At most 0.05 decided otherwise over at least 5 seeds (this project's suggestion)."),
    )
    needs = ("predict", "frame", "y", "threshold")
    changed = tuple(
        MetricInfo(f"{kind}_{what}", "robustness", "lower", task, needs, _PERTURB, convention, 0.0)
        for kind, convention in kinds
        for what, task in (("decision_flip_rate", _ANY), ("auc_drop", _MULTICLASS), ("mae_rise", _REGRESSION))
    )
    accepted = tuple(
        MetricInfo(f"{kind}_acceptance_rate", "robustness", "lower", _ANY, ("frame", "interface"),
                   "J.4: share of rows with one value that the contract rules out, and that the interface takes all the same",
                   "None: such a row is refused, never silently filled in (this project's suggestion).", 0.0)
        for kind in ("out_of_range", "unseen_category", "wrong_type"))
    others = (
        MetricInfo("monotonicity_violation_rate", "robustness", "lower", _ANY, ("predict", "frame"),
                   "share of rows whose score goes against a declared directional rule when one feature is raised (metamorphic testing)",
                   "None above the tolerance (this project's suggestion).", 0.0),
        MetricInfo("adversarial_success_rate", "robustness", "lower", _ANY, ("predict", "frame", "threshold"),
                   "share of the refused whom small changes of features that people can move bring above the threshold (greedy search)",
                   "At most 0.05 in one practitioner's text.", 0.0),
        MetricInfo("membership_inference_auc", "robustness", "lower", _ANY, ("predict", "frame", "y"),
                   "AUC of guessing who was in the training part from how well each row is fitted (Yeom et al. 2018)",
                   "At most 0.60 is this project's suggestion.", 0.5),
    )
    return changed + accepted + others


def _calibration() -> tuple[MetricInfo, ...]:
    def info(name: str, direction: Direction, source: str, convention: str, ideal: float | None) -> MetricInfo:
        return MetricInfo(name, "calibration", direction, _MULTICLASS, _SCORES, source, convention, ideal)

    naeini = "Naeini, Cooper, Hauskrecht 2015; 15 equal-mass bins"
    return (
        info("expected_calibration_error", "lower", naeini, "At most 0.05 is common in practice (no standard).", 0.0),
        info("expected_calibration_error_debiased", "lower", "Kumar, Liang, Ma 2019, Verified Uncertainty Calibration",
             "At most 0.05 is common in practice (no standard).", 0.0),
        info("maximum_calibration_error", "lower", naeini, _NO_LIMIT, 0.0),
        info("calibration_in_the_large", "target", _COX, "Within +-0.02 is this project's suggestion.", 0.0),
        info("calibration_slope", "target", _COX, "0.8 to 1.2 is this project's suggestion.", 1.0),
        info("brier_reliability", "lower", _MURPHY, _NO_LIMIT, 0.0),
        MetricInfo("top_label_calibration_error", "calibration", "lower", _SEVERAL, _SCORES,
                   f"{naeini}, of the probability of the class that was named (Guo et al. 2017)",
                   "At most 0.05 is common in practice (no standard).", 0.0),
        MetricInfo("prediction_interval_coverage", "calibration", "target", _REGRESSION, ("y", "lower", "upper"),
                   "share of observed values inside their prediction intervals",
                   "0.85 to 0.95 for intervals that promise 0.90 (this project's suggestion).", None),
        MetricInfo("prediction_slope", "calibration", "target", _REGRESSION, ("y", "predicted"),
                   "slope of observed on predicted, least squares (Mincer & Zarnowitz 1969)", "0.8 to 1.2 is this project's suggestion.",
                   1.0),
        info("calibration_error_difference", "lower", "highest minus lowest group's expected calibration error",
             "At most 0.05 is this project's suggestion.", 0.0),
        info("worst_group_calibration_error", "lower", "highest group's expected calibration error",
             "At most 0.05 is common in practice (no standard).", 0.0),
    )


def _drift() -> tuple[MetricInfo, ...]:
    def info(name: str, needs: tuple[str, ...], source: str, convention: str) -> MetricInfo:
        return MetricInfo(name, "drift", "lower", _ANY, needs, source, convention, 0.0)

    frame = ("profile", "frame")
    return (
        info("psi", frame, "population stability index, 10 equal-mass bins of the reference, fixed edges",
             "Below 0.10 stable, to 0.25 moderate, above significant (convention; a common cut-off is disputed)."),
        info("jensen_shannon", frame, "Lin 1991; distance, base 2, on the bins of psi",
             "0.1 (default of one drift library)."),
        info("wasserstein", frame, "first Wasserstein distance / reference standard deviation, quantile form",
             "0.1 (default of one drift library)."),
        info("ks", frame, "Kolmogorov-Smirnov distance; an effect size, not a p-value", _NO_LIMIT),
        info("prediction_flip_rate", ("score", "previous score", "threshold"), "share of rows decided differently",
             "Review above 0.05 (this project's suggestion)."),
        info("drifted_feature_share", ("profile", "frame", "cut"), "share of features whose own distance lies above a declared cut",
             "At most 0.5 (default of one drift library)."),
        info("top_features_changed", ("predict", "previous predict", "frame", "y"),
             "share of the most important features that are not among the other model's; importance after Breiman 2001",
             "A change of the top five is one guide's candidate for a substantial modification."),
        info("top_features_reordered", ("predict", "previous predict", "frame", "y"),
             "share of the first places by importance that another feature stands in; importance after Breiman 2001",
             "A change of the order of the top five is one guide's candidate for a substantial modification."),
    )


def _quality() -> tuple[MetricInfo, ...]:
    def info(name: str, direction: Direction, source: str, convention: str, ideal: float | None) -> MetricInfo:
        return MetricInfo(name, "quality", direction, _ANY, ("frame",), source, convention, ideal)

    iso = "ISO/IEC 25024 defines the measure, not its limit"
    return (
        info("completeness", "higher", iso, "Required columns 1.0, others 0.95 (this project's suggestion).", 1.0),
        info("duplicate_keys", "lower", iso, "None (this project's suggestion).", 0.0),
        info("group_share_deviation", "lower", "largest gap to the declared reference population; AI Act Art. 10(3)",
             _NO_LIMIT, 0.0),
        info("smallest_cell", "higher", "rows in the smallest declared group or intersection",
             "30 for basic metrics, 100 or more for fairness metrics (one guide's practice).", None),
        info("split_key_overlap", "lower", "keys found in more than one split",
             "None (this project's suggestion).", 0.0),
        info("split_row_overlap", "lower", "rows with identical features in more than one split", _NO_LIMIT, 0.0),
        info("label_prevalence", "target", "share of the favourable label", _NO_LIMIT, None),
        info("conflicting_label_share", "lower", "rows that equal another row in every feature and have the other label", _NO_LIMIT, 0.0),
        info("outdated_share", "lower", f"rows older than declared, or without a date (currentness); {iso}", _NO_LIMIT, 0.0),
        info("rows_known_too_late", "lower", "rows in which a value became known after the decision that it is used for",
             "None (this project's suggestion).", 0.0),
    )


METRICS: Mapping[str, MetricInfo] = MappingProxyType({
    info.name: info
    for family in (_quality(), _performance(), _fairness(), _comparative(), _regression_fairness(), _robustness(), _calibration(),
                   _drift())
    for info in family
})


def metric_info(name: str, *families: Family) -> MetricInfo:
    """The catalogue's entry, or a refusal that lists what is known (of `families`, if any are named)."""
    if name in METRICS and (not families or METRICS[name].family in families):
        return METRICS[name]
    known = ", ".join(sorted(info.name for info in METRICS.values() if not families or info.family in families))
    kind = " or ".join(families) if families else "known"
    raise MeasurementRefused(f"{name!r} is not a {kind} metric.", rule="metrics come from the catalogue", value=name,
                             remedy=f"Choose one of: {known}.")
