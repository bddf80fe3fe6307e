"""The robustness gate of stage 4: does the model stay right under disturbance, and is nonsense refused?

Features are disturbed as the feature registry allows and scored again; people are given another group's values; the model is
trained again with other seeds; and the interface that a server puts before the model is asked with values that the data contract
rules out. What the declaration makes impossible (no feature may be missing) is NOT_APPLICABLE with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from compliance_assets.metrics.adversarial import measure_adversarial
from compliance_assets.metrics.counterfactual import with_another_group
from compliance_assets.metrics.groups import membership
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.metrics.membership import fit_of_numbers, fit_of_scores, membership_inference
from compliance_assets.metrics.missing import measure_missing_feature
from compliance_assets.metrics.monotonicity import Rule, measure_monotonicity
from compliance_assets.metrics.robustness import Inputs, Kind, Perturbation, measure_changed_scores, measure_robustness
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.gates import Finding
from compliance_assets.policy.system import Perturbed, System
from compliance_assets.stages import outcomes
from compliance_assets.stages.mitigation import Rows
from compliance_assets.stages.retraining import random_parts, trained_again
from compliance_assets.stages.s2_feature_engineering import load_features
from compliance_assets.stages.s4_drift import alone
from compliance_assets.stages.s4_holdout import Holdout, finding_id, found, not_applicable, one_of
from compliance_assets.stages.s4_interface import ASKED, interface_refuses
from compliance_assets.stages.training_rows import rows_of

_NO_GAPS = "no feature may be missing; rows with missing values are refused before they are scored"
_NO_INPUT = {"missing_values": _NO_GAPS, "missing_feature": _NO_GAPS, "missing_block": _NO_GAPS,
             "category_flip": "no feature is a category", "numeric_noise": "no feature is a number",
             "relative_shift": "no feature is a number"}


def robustness(seen: Holdout, bound: Perturbed) -> Iterator[Finding]:
    """Disturb what the feature registry allows to vary, score again, count what changed."""
    inputs, kind = inputs_of(seen.system), bound.perturbation
    if kind in ASKED:
        yield interface_refuses(seen, bound)
        return
    if kind in ("protected_flip", "retrain_seed"):
        yield from _made_again(seen, bound)
        return
    if kind in _MEASURED_BY_ITSELF:
        for over in bound.over or ("all",):
            yield found(f"{finding_id('robustness', over, bound.metric)}@{bound.strength}", bound,
                        lambda over=over: one_of(_by_itself(seen, bound), bound.metric, over))  # type: ignore[misc]
        return
    possible = inputs.nullable if kind.startswith("missing_") else inputs.categories if kind == "category_flip" else inputs.numeric
    for over in bound.over or ("all",):
        id = f"{finding_id('robustness', over, bound.metric)}@{bound.strength}"
        if not possible:
            yield not_applicable(id, bound, _NO_INPUT[kind])
        else:
            yield found(id, bound, lambda over=over: one_of(_disturbed(seen, bound, inputs), bound.metric, over))  # type: ignore[misc]


def _disturbed(seen: Holdout, bound: Perturbed, inputs: Inputs) -> tuple[Measurement, ...]:
    assert bound.level is not None  # the declaration refuses these without a level
    place = (bound.perturbation, bound.level, bound.over)
    if place not in seen.disturbed and bound.perturbation == "missing_feature":
        seen.disturbed[place] = measure_missing_feature(
            bound.level, lambda frame: favourable_scores(seen.estimator, frame), seen.rows.frame, seen.label, seen.threshold, inputs,
            attributes=seen.groups, over=bound.over, expected_groups=seen.expected, score=seen.score, observed=_numbers(seen),
            whose=seen.clusters)
    elif place not in seen.disturbed:
        seen.disturbed[place] = measure_robustness(
            [Perturbation(cast(Kind, bound.perturbation), bound.level)], lambda frame: favourable_scores(seen.estimator, frame),
            seen.rows.frame, seen.label, seen.threshold, inputs, attributes=seen.groups, over=bound.over,
            expected_groups=seen.expected, score=seen.score, observed=_numbers(seen),
            whose=seen.clusters)
    return seen.disturbed[place]


_MEASURED_BY_ITSELF = ("monotonicity", "membership_inference", "adversarial")


def _by_itself(seen: Holdout, bound: Perturbed) -> tuple[Measurement, ...]:
    place = (f"{bound.perturbation} {bound.strength} {bound.tolerance} {bound.mutable}", bound.level or 0.0, bound.over)
    if place not in seen.disturbed:
        seen.disturbed[place] = {"monotonicity": _directed, "membership_inference": _given_away, "adversarial": _misled}[
            bound.perturbation](seen, bound)
    return seen.disturbed[place]


def _directed(seen: Holdout, bound: Perturbed) -> tuple[Measurement, ...]:
    """Whether one feature moves the score the way that the declaration says."""
    assert bound.feature is not None and bound.expected is not None  # noqa: PT018  # the declaration refuses it without them
    assert bound.level is not None and bound.tolerance is not None  # noqa: PT018
    feature = next(one for one in seen.system.features.registry if one.name == bound.feature)
    rule = Rule(bound.feature, bound.expected, bound.level, bound.tolerance, None if feature.range is None else feature.range[1],
                feature.categories or ())
    return measure_monotonicity(rule, lambda frame: favourable_scores(seen.estimator, frame), seen.rows.frame, attributes=seen.groups,
                                over=bound.over, expected_groups=seen.expected, whose=seen.clusters)


def _misled(seen: Holdout, bound: Perturbed) -> tuple[Measurement, ...]:
    """How many of those who were refused small changes of features that people can move would bring above the threshold."""
    assert bound.mutable is not None and bound.level is not None  # noqa: PT018  # the declaration refuses it without them
    return measure_adversarial(lambda frame: favourable_scores(seen.estimator, frame), seen.rows.frame, seen.score, seen.threshold,
                               bound.mutable, bound.level, inputs_of(seen.system), attributes=seen.groups, over=bound.over,
                               expected_groups=seen.expected, whose=seen.clusters)


def _given_away(seen: Holdout, bound: Perturbed) -> tuple[Measurement, ...]:
    """Whether rows of the training part can be told from the holdout's by how well they are fitted; `rows` of each are asked."""
    rows = bound.rows
    assert rows is not None  # the declaration refuses it without
    train = rows_of(*load_features(seen.work.artefacts, seen.features, "train"))

    def fitted(part: Rows) -> tuple[Any, dict[str, Any]]:
        n = part.frame.height
        chosen = np.sort(np.random.default_rng(7).choice(n, size=rows, replace=False)) if n > rows else np.arange(n)
        score, target = favourable_scores(seen.estimator, part.frame[chosen]), seen.system.data.target
        fit = fit_of_numbers(part.labels[chosen], score) if target.task == "regression" else fit_of_scores(
            outcomes.good(part.labels[chosen], target), score)
        return fit, {over: membership(over, {name: column[chosen] for name, column in part.groups.items()}) for over in bound.over}

    (members, inside), (others, outside) = fitted(train), fitted(seen.rows)
    return tuple(alone(seen, one) for one in membership_inference(
        members, others, {over: (inside[over], outside[over]) for over in bound.over}, expected_groups=seen.expected))


def _numbers(seen: Holdout) -> Any:
    """What should have been predicted, where a number is; None where outcomes are scored."""
    return seen.outcome if seen.system.data.target.task == "regression" else None


def _made_again(seen: Holdout, bound: Perturbed) -> Iterator[Finding]:
    """Scores of the same people as members of another group, or by models that differ in their seed only."""
    why = "" if bound.perturbation == "retrain_seed" else _sees_nothing(seen, bound)
    if bound.perturbation == "retrain_seed" and not random_parts(seen.work.definition):
        why = "nothing in this estimator is random: every seed gives the same model"
    for over in bound.over or ("all",):
        id = f"{finding_id('robustness', over, bound.metric)}@{bound.strength}"
        yield not_applicable(id, bound, why) if why else \
            found(id, bound, lambda over=over: one_of(_again(seen, bound), bound.metric, over))  # type: ignore[misc]


def _again(seen: Holdout, bound: Perturbed) -> tuple[Measurement, ...]:
    place = (f"{bound.perturbation} {bound.strength}", float(bound.seeds or 0), bound.over)
    if place not in seen.disturbed:
        why, scores, detail = _retrained(seen, bound) if bound.perturbation == "retrain_seed" else _exchanged(seen, bound)
        seen.disturbed[place] = measure_changed_scores(
            bound.perturbation, seen.label, seen.score, scores, seen.threshold, attributes=seen.groups, over=bound.over,
            expected_groups=seen.expected, detail=detail, why=why, observed=_numbers(seen),
            whose=seen.clusters)
    return seen.disturbed[place]


_Scored = tuple[str, list[Any], tuple[tuple[str, float], ...]]


def _retrained(seen: Holdout, bound: Perturbed) -> _Scored:
    """Scores by models trained on the same rows with the seeds that follow the declared one."""
    first, count = seen.system.training.seed + 1, bound.seeds or 0
    scores = []
    for seed in range(first, first + count):
        seen.work.tell("trained again", seed=seed)
        scores.append(favourable_scores(trained_again(seen.work, seen.features, seed=seed), seen.rows.frame))
    return "", scores, (("seeds", float(count)), ("first_seed", float(first)))


def carriers(system: System, attribute: str, *, with_proxies: bool) -> tuple[str, ...]:
    """The features that are computed from an attribute's column and, if asked for, those assessed as stand-ins for one."""
    column = system.data.column_of(attribute)
    return tuple(f.name for f in system.features.registry if column in f.from_ or (with_proxies and f.proxy is not None))


def _sees_nothing(seen: Holdout, bound: Perturbed) -> str:
    assert bound.attribute is not None  # the declaration refuses this disturbance without one
    if carriers(seen.system, bound.attribute, with_proxies=bound.with_proxies):
        return ""
    return f"no feature is computed from {bound.attribute}" + (", none is assessed as a proxy" if bound.with_proxies else "")


def _exchanged(seen: Holdout, bound: Perturbed) -> _Scored:
    """Three draws of donors from the other groups."""
    assert bound.attribute is not None
    assert bound.level is not None
    columns = carriers(seen.system, bound.attribute, with_proxies=bound.with_proxies)
    frames = [with_another_group(seen.rows.frame, columns, seen.groups[bound.attribute], bound.level, seed) for seed in (7, 8, 9)]
    scores = [favourable_scores(seen.estimator, frame) for frame in frames if frame is not None]
    return ("" if scores else f"everybody belongs to one group of {bound.attribute}"), scores, (("level", bound.level), ("repeats", 3.0))


def inputs_of(system: System) -> Inputs:
    """What may be disturbed, by the feature registry."""
    registry = system.features.registry
    return Inputs(
        numeric=tuple(f.name for f in registry if f.dtype not in ("bool", "category")),
        categories=tuple((f.name, f.categories or ()) for f in registry if f.dtype == "category" and len(f.categories or ()) > 1),
        nullable=tuple(f.name for f in registry if f.nulls == "allow"),
        ranges=tuple((f.name, f.range) for f in registry if f.range is not None))
