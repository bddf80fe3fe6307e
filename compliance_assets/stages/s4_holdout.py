"""What stage 4 judges by: the holdout as it was scored, the models it is compared with, and how a finding is made.

Everything is read from sealed files, when a gate first needs it. What cannot be measured is an ERROR with the reason, never a
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compliance_assets.errors import StageError
from compliance_assets.metrics.clustered import Sampled
from compliance_assets.metrics.clusters import Clusters
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.policy.gates import judge as held_against
from compliance_assets.policy.system import Bound, System
from compliance_assets.sources.partition import group_names
from compliance_assets.stages import outcomes
from compliance_assets.stages.mitigation import Rows
from compliance_assets.stages.s1_data_preparation import Dataset, read_part
from compliance_assets.stages.s2_feature_engineering import FeatureSet, load_features
from compliance_assets.stages.s3_model_training import CandidateModel, open_model
from compliance_assets.stages.stage import Work
from compliance_assets.stages.training_rows import rows_of
from compliance_assets.trust.canonical import Digest, parse_canonical

if TYPE_CHECKING:
    import polars as pl

ABSENT = {"production": "first release: nothing is in production", "baseline": "first release: no baseline was assessed yet"}


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
    def outcome(self) -> npt.NDArray[Any]:
        """What happened, as it is learned (`outcomes`): of two outcomes the label, else a class's number, or a number; (n,)."""
        return self.scored["outcome"].to_numpy() if "outcome" in self.scored.columns else self.label

    @property
    def aimed_at(self) -> npt.NDArray[Any]:
        """What the score is an estimate of: a number, or 1 for a favourable outcome; (n,)."""
        return outcomes.aimed_at(self.outcome, self.system.data.target)

    @cached_property
    def table(self) -> npt.NDArray[np.float64]:
        """Of several classes, the probability of each, in the order of declaration; (n, classes)."""
        return self.scored.select(f"probability.{name}" for name in self.system.data.target.classes or ()).to_numpy()

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

    def column(self, name: str) -> pl.Series:
        """A column of the prepared data, for every row of the holdout in its order, whether the model sees it or not."""
        return column_of(self.work, self.features, name)

    @cached_property
    def clusters(self) -> Clusters | None:
        """Which rows belong together; None where every row stands for itself."""
        by = self.system.data.together
        return None if by is None else Clusters.of(self.column(by), by)

    @cached_property
    def sampled(self) -> Sampled | None:
        """The rows for intervals that resample clusters; None where every row stands for itself."""
        return None if self.clusters is None else sampled(self.system, self.clusters, self.label, self.score, self.outcome,
                                                          self.table if self.system.data.target.task == "multiclass" else None)

    @property
    def groups(self) -> Mapping[str, pl.Series]:
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
    def leaning(self) -> dict[str, tuple[Measurement, ...]]:
        """What this model and a past one lean on, by the past one's role: two bounds on it shuffle once."""
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
        """Label, this model's score and the past model's score, on the rows that both can score (`paired` says which).

        Where the features are the same, that is this holdout. Where they changed, the past model scores the holdout of its own
        feature set, and rows are paired by key.
        """
        if past.candidate.feature_names == self.candidate.feature_names:
            return self.label, self.score, favourable_scores(past.estimator, self.rows.frame)
        own, both = past.holdout, self.paired(past)
        before = dict(zip(own.keys.tolist(), favourable_scores(past.estimator, own.frame).tolist(), strict=True))
        return self.label[both], self.score[both], np.array([before[key] for key in self.key[both].tolist()])

    def paired(self, past: Past) -> npt.NDArray[np.bool_]:
        """Which of these rows both models can score."""
        if past.candidate.feature_names == self.candidate.feature_names:
            return np.ones(len(self.label), dtype=np.bool_)
        theirs = set(past.holdout.keys.tolist())
        return np.array([key in theirs for key in self.key.tolist()], dtype=np.bool_)


def column_of(work: Work, features: FeatureSet, name: str) -> pl.Series:
    """A column of the prepared holdout behind a feature set, in the order of the key. `StageError` if there is none."""
    import polars as pl

    dataset = Dataset.model_validate(parse_canonical(work.artefacts.get_bytes(Digest(features.dataset))))
    try:
        return read_part(work.artefacts, dataset, "holdout", (name,))[name]
    except pl.exceptions.ColumnNotFoundError:
        raise StageError(f"The prepared data has no column {name}.", rule="declared columns exist", value=name,
                         remedy="Keep it in data.prepare, or correct the declaration.") from None


def sampled(system: System, whose: Clusters, label: Any, score: Any, outcome: Any, table: Any = None) -> Sampled:
    """The holdout as `metrics.clustered` takes it."""
    target, costs = system.data.target, system.evaluation.costs
    known = None if target.task == "binary" else outcome
    if table is not None:
        place = {name: number for number, name in enumerate(target.classes or ())}
        known = np.array([place[name] for name in outcomes.as_text(outcome, target).tolist()], dtype=np.int64)
    return Sampled(whose, np.asarray(label, dtype=np.int64), np.asarray(score), system.evaluation.decision_threshold, known, table,
                   None if costs is None else costs.pair)


def found(id: str, bound: Bound, measure: Callable[[], Measurement], **how: Any) -> Finding:
    """The measurement held against its bound; what cannot be measured is an ERROR with the reason, never a pass."""
    try:
        return held_against(id, measure(), bound, **how)
    except (MeasurementRefused, StageError, ValueError) as refused:  # ValueError: what scikit-learn raises on rows it does not take
        return Finding(id, Verdict.ERROR, comparator=bound.comparator, bound=bound.text, judged_on=bound.judged_on,
                       because=bound.because, note=str(refused).strip().splitlines()[0])


def not_applicable(id: str, bound: Bound, why: str) -> Finding:
    return Finding(id, Verdict.NOT_APPLICABLE, comparator=bound.comparator, bound=bound.text, because=bound.because, note=why)


def finding_id(gate: str, over: str, metric: str) -> str:
    return f"{gate}.{metric}" if over == "all" else f"{gate}.{over}.{metric}"


def one_of(measured: Iterable[Measurement], metric: str, over: str) -> Measurement:
    """The measurement of this metric over these groups."""
    return next(one for one in measured if one.metric == metric and one.over == over)

