"""The drift gate of stage 4: how far is this model from the one in production, and from the one first assessed?

Distances of features, outcomes and scores between the two holdouts, over all people or within each group; and what changed for
the same people: areas under the curve, losses, decisions, and each group's share of them (dual-axis: production and baseline).
Nothing there yet is NOT_APPLICABLE with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.clustered import without_interval
from compliance_assets.metrics.clustered_groups import changed_by_clusters
from compliance_assets.metrics.drift import drifted_feature_share, measure_drift, prediction_flip_rate
from compliance_assets.metrics.groups import expected_names, membership, rows_by_group
from compliance_assets.metrics.importance import NAMES, importance, measure_top_features
from compliance_assets.metrics.incumbent import accuracy_change, brier_score_change, mae_change, measure_against_incumbent
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.performance import roc_auc_change
from compliance_assets.metrics.profiles import Profile
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.gates import Finding
from compliance_assets.policy.system import MinimumGroup
from compliance_assets.stages import outcomes
from compliance_assets.stages.s4_holdout import ABSENT, Holdout, Past, finding_id, found, not_applicable, one_of

_SCORE = "score of the model"
_LABEL = "outcome of the person"


def drift(seen: Holdout, role: str) -> Iterator[Finding]:
    """Every drift bound against the model in this role: `production` or `baseline`."""
    past = seen.past(role)
    for bound in seen.system.evaluation.drift.bounds:
        for over in bound.over or ("all",):
            id = finding_id(f"drift.{role}", over, bound.metric)
            if past is None:
                yield not_applicable(id, bound, ABSENT[role])
                continue
            if bound.metric in NAMES:
                yield found(id, bound, lambda bound=bound: alone(seen, _leaning(seen, past, role, bound.metric)))  # type: ignore[misc]
            elif METRICS[bound.metric].needs[:2] == ("profile", "frame"):
                yield found(id, bound, lambda bound=bound, over=over: alone(seen, _distance(seen, past, [bound.metric], over)),  # type: ignore[misc]
                            minimum=None if over == "all" else _rows_only(seen))
            else:
                compared = METRICS[bound.metric].family == "fairness"
                yield found(id, bound, lambda bound=bound, over=over: changed(seen, past, bound.metric, over),  # type: ignore[misc]
                            three_valued=compared, minimum=seen.system.evaluation.fairness.minimum_group if compared else None)


def alone(seen: Holdout, one: Measurement) -> Measurement:
    """What has no interval that resamples clusters, without any where rows belong together."""
    return one if seen.clusters is None else without_interval(one, seen.clusters)


def changed(seen: Holdout, past: Past, metric: str, over: str = "all") -> Measurement:
    """This model against a past one on the rows that both can score: areas, losses, decisions, or each group's share of them."""
    one = _changed(seen, past, metric, over)
    if seen.sampled is None:
        return one
    both = seen.paired(past)
    member = None if over == "all" else membership(over, {name: column.filter(both) for name, column in seen.groups.items()})
    return changed_by_clusters(one, seen.sampled.part(both), seen.scores_of(past)[2], member)


def _changed(seen: Holdout, past: Past, metric: str, over: str) -> Measurement:
    label, now, before = seen.scores_of(past)
    if metric in _OF_SCORES:
        return _OF_SCORES[metric](label, now, before)
    if not np.isfinite(now).all():
        raise MeasurementRefused("Some scores are not finite numbers.", rule="only finite numbers are measured",
                                 remedy="Find out why the model gives them.")
    if metric == "prediction_flip_rate":
        return prediction_flip_rate(now, before, seen.threshold, probabilities=seen.system.data.target.task != "regression")
    if metric == "mae_change":
        return mae_change(seen.outcome[seen.paired(past)], now, before)
    decided, earlier = ((scores >= seen.threshold).astype(np.int64) for scores in (now, before))
    if metric == "accuracy_change":
        return accuracy_change(label, decided, earlier)
    both = seen.paired(past)
    return measure_against_incumbent([metric], label, decided, earlier, {name: column.filter(both) for name, column in seen.groups.items()},
                                     [over], expected_groups=seen.expected)[0]


def _leaning(seen: Holdout, past: Past, role: str, metric: str) -> Measurement:
    """What this model and the past one lean on most, each asked about its own holdout."""
    declared = seen.system.evaluation.drift.importance
    assert declared is not None  # the declaration refuses these bounds without it
    if role not in seen.leaning:
        now, before = (importance(lambda frame, model=model: favourable_scores(model, frame), frame, y, rows=declared.rows)  # type: ignore[misc]
                       for model, frame, y in ((seen.estimator, seen.rows.frame, seen.aimed_at), (past.estimator, *_seen_by(seen, past))))
        seen.leaning[role] = measure_top_features(NAMES, now, before, declared.top)
    return one_of(seen.leaning[role], metric, "all")


def _seen_by(seen: Holdout, past: Past) -> tuple[Any, Any]:
    """The same people for both models where both see the same features, else the past model's own holdout."""
    if past.candidate.feature_names == seen.candidate.feature_names:
        return seen.rows.frame, seen.aimed_at
    return past.holdout.frame, outcomes.aimed_at(past.holdout.labels, seen.system.data.target)


_OF_SCORES = {"roc_auc_change": roc_auc_change, "brier_score_change": brier_score_change}


def _rows_only(seen: Holdout) -> MinimumGroup:
    """Drift within a group needs rows; it has no labels to count."""
    return MinimumGroup(rows=seen.system.evaluation.fairness.minimum_group.rows)


def _distance(seen: Holdout, past: Past, metric: Sequence[str], over: str = "all") -> Measurement:
    """This holdout against the past model's own: the features that both have, the outcomes, and each model's scores.

    Over an attribute every group is compared with the same group of the past holdout; the value is the furthest group's.
    """
    if over == "all":
        return _between(seen, past, metric, np.ones(len(seen.label), dtype=np.bool_), np.ones(len(past.holdout.labels), dtype=np.bool_))
    now, before = rows_by_group(over, seen.groups), rows_by_group(over, past.holdout.groups)
    names = sorted({*now, *expected_names(over, seen.expected)})
    parts: dict[str, Measurement | None] = {}
    for name in names:
        parts[name] = _between(seen, past, metric, now[name], before[name]) if name in now and name in before else None
    groups = tuple(GroupMeasurement(name, *((None, None, None) if one is None else (one.value, one.lower, one.upper)),
                                    n=int(np.count_nonzero(now[name])) if name in now else 0) for name, one in parts.items())
    direction, smallest = METRICS[metric[0]].direction, min(group.n for group in groups)
    missing = [f"{name} ({'no rows now or then' if one is None else one.note})" for name, one in parts.items()
               if one is None or one.value is None]
    if missing:
        return Measurement(metric[0], None, None, None, smallest, "per group", over, groups, direction=direction,
                           note=f"not measurable in {', '.join(missing)}")
    worst, one = max(((name, one) for name, one in parts.items() if one is not None),
                     key=lambda pair: (cast(float, pair[1].value), pair[0]))
    return replace(one, over=over, groups=groups, n=smallest, method=f"furthest group; {one.method}", note=f"furthest {worst}; {one.note}")


def _between(seen: Holdout, past: Past, metric: Sequence[str], rows: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> Measurement:
    import polars as pl

    if not np.isfinite(seen.score).all():
        raise MeasurementRefused("Some scores are not finite numbers.", rule="only finite numbers are measured",
                                 remedy="Find out why the model gives them.")
    before, target = past.holdout, seen.system.data.target
    number = target.task == "regression"
    registry = {f.name: f for f in seen.system.features.registry}
    shared = [name for name in seen.rows.frame.columns if name in before.frame.columns]
    numeric = [name for name in shared if registry[name].dtype not in ("bool", "category")
               and before.frame[name].dtype.is_numeric()]

    def with_answers(frame: pl.DataFrame, labels: Any, scores: Any, chosen: npt.NDArray[np.bool_]) -> pl.DataFrame:
        outcome = pl.Series(_LABEL, labels if number else np.where(np.asarray(labels) == 1, "favourable", "unfavourable"))
        return frame.select(shared).with_columns(pl.Series(_SCORE, scores), outcome).filter(pl.Series(chosen))

    reference = with_answers(before.frame, outcomes.aimed_at(before.labels, target),
                             favourable_scores(past.estimator, before.frame), theirs)
    now = with_answers(seen.rows.frame, seen.aimed_at, seen.score, rows)
    categorical = [name for name in shared if name not in numeric]
    if metric[0] == "drifted_feature_share":  # of features alone: the answers are no features
        cut = seen.system.evaluation.drift.drifted_when
        assert cut is not None  # the declaration refuses this bound without it
        kept = [name for name in shared if cut.metric in ("psi", "jensen_shannon") or name in numeric]
        profile = Profile.of(reference, numeric=[name for name in kept if name in numeric],
                             categorical=[name for name in kept if name not in numeric])
        found = drifted_feature_share(cut.metric, cut.above, profile, now)
    else:
        profile = Profile.of(reference, numeric=[*numeric, _SCORE, *([_LABEL] if number else [])],
                             categorical=[*categorical, *([] if number else [_LABEL])])
        found = measure_drift(metric, profile, now)[0]
    left_out = [name for name in (*seen.rows.frame.columns, *before.frame.columns) if name not in shared]
    return found if not left_out else replace(
        found, note=f"{found.note}; features of one model only, not compared: {', '.join(left_out)}")
