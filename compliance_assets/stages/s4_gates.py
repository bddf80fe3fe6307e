"""The five gates of stage 4: each measures what a declared bound is about, and holds it against that bound.

Everything is read from sealed files, when a gate first needs it. What cannot be measured is an ERROR with the reason, never a
pass; what the declaration makes impossible (no feature may be missing, nothing is in production yet) is NOT_APPLICABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from compliance_assets.errors import StageError
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.drift import measure_drift, prediction_flip_rate
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.performance import measure_performance, roc_auc_change
from compliance_assets.metrics.profiles import Profile
from compliance_assets.metrics.robustness import Inputs, Perturbation, measure_robustness
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.policy.gates import judge as held_against
from compliance_assets.policy.system import Bound, Perturbed, System
from compliance_assets.sources.partition import group_names
from compliance_assets.stages.mitigation import Rows
from compliance_assets.stages.s2_feature_engineering import FeatureSet, load_features
from compliance_assets.stages.s3_model_training import CandidateModel, open_model, rows_of
from compliance_assets.stages.stage import Work
from compliance_assets.trust.canonical import Digest, parse_canonical

if TYPE_CHECKING:
    import polars as pl

_ABSENT = {"production": "first release: nothing is in production", "baseline": "first release: no baseline was assessed yet"}
_SCORE = "score of the model"
_NO_INPUT = {"missing_values": "no feature may be missing; rows with missing values are refused before they are scored",
             "category_flip": "no feature is a category", "numeric_noise": "no feature is a number",
             "relative_shift": "no feature is a number"}


def expected_groups(system: System) -> dict[str, tuple[str, ...]]:
    """The declared groups of every protected attribute."""
    return {name: group_names(declared) for name, declared in system.data.protected.items()}


@dataclass(frozen=True)
class Past:
    """A model that stands outside this release, with the holdout of its own feature set."""

    candidate: CandidateModel
    holdout: Rows
    estimator: Any


@dataclass
class Holdout:
    """The holdout as it was scored; everything is read from sealed files, when it is first needed."""

    work: Work
    scores: str
    """Digest of the scores, parquet."""
    candidate: CandidateModel
    features: FeatureSet

    @property
    def system(self) -> System:
        return self.work.definition.system

    @property
    def threshold(self) -> float:
        return self.system.evaluation.decision_threshold

    @cached_property
    def scored(self) -> pl.DataFrame:
        import polars as pl

        return pl.read_parquet(self.work.artefacts.open_path(Digest(self.scores)))

    @cached_property
    def key(self) -> npt.NDArray[Any]:
        return self.scored.to_series(0).to_numpy()

    @cached_property
    def label(self) -> npt.NDArray[np.int8]:
        return self.scored["label"].to_numpy()

    @cached_property
    def score(self) -> npt.NDArray[np.float64]:
        return self.scored["score"].to_numpy()

    @cached_property
    def decision(self) -> npt.NDArray[np.int64]:
        """Refuses scores that are not numbers: they decide nothing."""
        undecided = self.scored["decision"].null_count()
        if undecided:
            raise MeasurementRefused(f"{undecided} of {self.scored.height} scores are not finite numbers.",
                                     rule="only finite numbers are measured", remedy="Find out why the model gives them.")
        return self.scored["decision"].to_numpy().astype(np.int64)

    @cached_property
    def rows(self) -> Rows:
        return rows_of(*load_features(self.work.artefacts, self.features, "holdout"))

    @property
    def groups(self) -> Mapping[str, npt.NDArray[Any]]:
        return self.rows.groups

    @cached_property
    def expected(self) -> dict[str, tuple[str, ...]]:
        return expected_groups(self.system)

    @cached_property
    def estimator(self) -> Any:
        return open_model(self.work.artefacts, self.candidate)

    @cached_property
    def disturbed(self) -> dict[tuple[str, float, tuple[str, ...]], tuple[Measurement, ...]]:
        """Perturbations measured so far: two bounds on one perturbation score it once."""
        return {}

    @cached_property
    def _pasts(self) -> dict[str, Past]:
        return {}

    def past(self, role: str) -> Past | None:
        """The candidate that stands in this role, or None if there is none."""
        if role not in self.work.references:
            return None
        if role not in self._pasts:
            read = self.work.artefacts.get_bytes
            candidate = CandidateModel.model_validate(parse_canonical(read(Digest(self.work.references[role]))))
            features = FeatureSet.model_validate(parse_canonical(read(Digest(candidate.features))))
            holdout = rows_of(*load_features(self.work.artefacts, features, "holdout"))
            self._pasts[role] = Past(candidate, holdout, open_model(self.work.artefacts, candidate))
        return self._pasts[role]

    def scores_of(self, past: Past) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Label, this model's score and the past model's score, on the rows that both can score.

        Where the features are the same, that is this holdout. Where they changed, the past model scores the holdout of its own
        feature set, and rows are paired by key.
        """
        if past.candidate.feature_names == self.candidate.feature_names:
            return self.label, self.score, favourable_scores(past.estimator, self.rows.frame)
        own = past.holdout
        before = dict(zip(own.keys.tolist(), favourable_scores(past.estimator, own.frame).tolist(), strict=True))
        both = np.array([key in before for key in self.key.tolist()], dtype=np.bool_)
        return self.label[both], self.score[both], np.array([before[key] for key in self.key[both].tolist()])


# ------------------------------------------------------------------------------------------------------------------ gates


def _found(id: str, bound: Bound, measure: Callable[[], Measurement], **how: Any) -> Finding:
    """The measurement held against its bound; what cannot be measured is an ERROR with the reason, never a pass."""
    try:
        return held_against(id, measure(), bound, **how)
    except (MeasurementRefused, StageError, ValueError) as refused:  # ValueError: what scikit-learn raises on rows it does not take
        return Finding(id, Verdict.ERROR, comparator=bound.comparator, bound=bound.text, judged_on=bound.judged_on,
                       because=bound.because, note=str(refused).strip().splitlines()[0])


def _not_applicable(id: str, bound: Bound, why: str) -> Finding:
    return Finding(id, Verdict.NOT_APPLICABLE, comparator=bound.comparator, bound=bound.text, because=bound.because, note=why)


def _id(gate: str, over: str, metric: str) -> str:
    return f"{gate}.{metric}" if over == "all" else f"{gate}.{over}.{metric}"


def performance(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Over all rows, or the worst of each attribute's groups; a change of AUC against the model in production."""
    if bound.metric == "roc_auc_change":
        past, id = seen.past("production"), _id("performance", "all", bound.metric)
        yield _not_applicable(id, bound, _ABSENT["production"]) if past is None else \
            _found(id, bound, lambda: roc_auc_change(*seen.scores_of(past)))
        return
    for over in bound.over or ("all",):
        yield _found(_id("performance", over, bound.metric), bound, lambda over=over: _performs(seen, bound.metric, over))  # type: ignore[misc]
    if bound is next((one for one in seen.system.evaluation.performance if one.metric == "accuracy"), None):
        yield _above_constant(seen, bound)


def _above_constant(seen: Holdout, bound: Bound) -> Finding:
    """Accuracy rewards whoever gives everybody the commoner answer: it must be right for more people than that answer is.

    The bound is no choice: it is one row more than the larger class of this holdout, held against the end of the interval that
    the declared bound is judged on.
    """
    id, n = "performance.accuracy.above_constant", len(seen.label)
    commoner = max(int(seen.label.sum()), n - int(seen.label.sum()))
    against = Bound(metric="accuracy", at_least=min(1.0, (commoner + 1) / n), judged_on=bound.judged_on,
                    because="one answer for everybody is right for the larger class; accuracy alone does not see that")
    return _found(id, against, lambda: measure_performance(["accuracy"], seen.label, seen.score, seen.threshold)[0])


def _performs(seen: Holdout, metric: str, over: str) -> Measurement:
    """One metric over all rows, or the worst group's."""
    if over == "all":
        return measure_performance([metric], seen.label, seen.score, seen.threshold)[0]
    member = membership(over, seen.groups)
    names = sorted(set(member.tolist()) | set(expected_names(over, seen.expected)))
    parts = {str(name): (measure_performance([metric], seen.label[member == name], seen.score[member == name], seen.threshold)[0],
                         seen.label[member == name]) for name in names}
    groups = tuple(GroupMeasurement(name, one.value, one.lower, one.upper, one.n, int(y.sum()), len(y) - int(y.sum()))
                   for name, (one, y) in parts.items())
    absent = [f"{name} ({one.note})" for name, (one, _) in parts.items() if one.value is None]
    if absent:
        return Measurement(metric, None, None, None, min(g.n for g in groups), "per group", over, groups,
                           note=f"not measurable in {', '.join(absent)}", direction=METRICS[metric].direction)
    sign = -1.0 if METRICS[metric].direction == "higher" else 1.0
    worst = max(parts, key=lambda name: (sign * cast(float, parts[name][0].value), name))
    one = parts[worst][0]
    return replace(one, over=over, groups=groups, n=min(g.n for g in groups), method=f"worst group; {one.method}",
                   note=f"worst {worst}")


def fairness(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Over every named attribute and intersection; three-valued; too small a group makes it INSUFFICIENT_DATA."""
    for over in bound.over:
        yield _found(_id("fairness", over, bound.metric), bound, lambda over=over: measure_fairness(  # type: ignore[misc]
            [bound.metric], seen.label, seen.decision, seen.groups, [over], expected_groups=seen.expected, score=seen.score)[0],
            three_valued=True, minimum=seen.system.evaluation.fairness.minimum_group)


def robustness(seen: Holdout, bound: Perturbed) -> Iterator[Finding]:
    """Disturb what the feature registry allows to vary, score again, count what changed."""
    inputs, kind = _inputs(seen.system), bound.perturbation
    possible = {"missing_values": inputs.nullable, "category_flip": inputs.categories}.get(kind, inputs.numeric)
    for over in bound.over or ("all",):
        id = f"{_id('robustness', over, bound.metric)}@{bound.level:g}"
        if not possible:
            yield _not_applicable(id, bound, _NO_INPUT[kind])
        else:
            yield _found(id, bound, lambda over=over: _one_of(_disturbed(seen, bound, inputs), bound.metric, over))  # type: ignore[misc]


def _disturbed(seen: Holdout, bound: Perturbed, inputs: Inputs) -> tuple[Measurement, ...]:
    place = (bound.perturbation, bound.level, bound.over)
    if place not in seen.disturbed:
        seen.disturbed[place] = measure_robustness(
            [Perturbation(bound.perturbation, bound.level)], lambda frame: favourable_scores(seen.estimator, frame),
            seen.rows.frame, seen.label, seen.threshold, inputs, attributes=seen.groups, over=bound.over,
            expected_groups=seen.expected)
    return seen.disturbed[place]


def _inputs(system: System) -> Inputs:
    """What may be disturbed, by the feature registry."""
    registry = system.features.registry
    return Inputs(
        numeric=tuple(f.name for f in registry if f.dtype not in ("bool", "category")),
        categories=tuple((f.name, f.categories or ()) for f in registry if f.dtype == "category" and len(f.categories or ()) > 1),
        nullable=tuple(f.name for f in registry if f.nulls == "allow"),
        ranges=tuple((f.name, f.range) for f in registry if f.range is not None))


def _one_of(measured: Iterable[Measurement], metric: str, over: str) -> Measurement:
    return next(one for one in measured if one.metric == metric and one.over == over)


def calibration(seen: Holdout, bound: Bound) -> Iterator[Finding]:
    """Whether the score can be read as a probability, over all rows or the worst of each attribute's groups."""
    for over in bound.over or ("all",):
        def measure(over: str = over) -> Measurement:
            found = measure_calibration([bound.metric], seen.label, seen.score, seen.groups, [] if over == "all" else [over],
                                        expected_groups=seen.expected)
            if not any(one.over == over for one in found):
                raise MeasurementRefused(f"{bound.metric} compares groups; its bound names none.", rule="compared groups are named",
                                         remedy="Declare over which attributes.")
            return _one_of(found, bound.metric, over)

        yield _found(_id("calibration", over, bound.metric), bound, measure)


def drift(seen: Holdout, role: str) -> Iterator[Finding]:
    """Every drift bound against the model in this role: `production` or `baseline`."""
    past = seen.past(role)
    for bound in seen.system.evaluation.drift.bounds:
        id = f"drift.{role}.{bound.metric}"
        if past is None:
            yield _not_applicable(id, bound, _ABSENT[role])
        elif bound.metric == "prediction_flip_rate":
            yield _found(id, bound, lambda: prediction_flip_rate(*seen.scores_of(past)[1:], seen.threshold))
        else:
            yield _found(id, bound, lambda bound=bound: _distance(seen, past, [bound.metric]))  # type: ignore[misc]


def _distance(seen: Holdout, past: Past, metric: Sequence[str]) -> Measurement:
    """This holdout and these scores against the past model's own; over the features that both have, and the score."""
    import polars as pl

    if not np.isfinite(seen.score).all():
        raise MeasurementRefused("Some scores are not finite numbers.", rule="only finite numbers are measured",
                                 remedy="Find out why the model gives them.")
    before = past.holdout
    registry = {f.name: f for f in seen.system.features.registry}
    shared = [name for name in seen.rows.frame.columns if name in before.frame.columns]
    numeric = [name for name in shared if registry[name].dtype not in ("bool", "category")
               and before.frame[name].dtype.is_numeric()]
    reference = before.frame.select(shared).with_columns(pl.Series(_SCORE, favourable_scores(past.estimator, before.frame)))
    profile = Profile.of(reference, numeric=[*numeric, _SCORE], categorical=[name for name in shared if name not in numeric])
    found = measure_drift(metric, profile, seen.rows.frame.select(shared).with_columns(pl.Series(_SCORE, seen.score)))[0]
    left_out = [name for name in (*seen.rows.frame.columns, *before.frame.columns) if name not in shared]
    return found if not left_out else replace(
        found, note=f"{found.note}; features of one model only, not compared: {', '.join(left_out)}")
