"""What can be done in training so that groups are treated alike, without asking for anybody's group at prediction.

Reweighing (Kamiran & Calders 2012) weighs the training rows so that group and label, or class, are independent. Grid search
(Agarwal et al. 2018, of numbers Agarwal, Dudik, Wu 2019; fairlearn) trains one plain estimator for each point of a grid of
Lagrange multipliers; the one that trades error against the gap best, or whose worst group errs least, *on the validation rows* is
kept, and every trial is recorded, the discarded ones too. The correlation
remover (fairlearn) subtracts what the attribute explains of the features; its prediction needs the attribute, so it is refused
unless the attribute is declared as a feature anyway (Art. 10(2)(f)-(g)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compliance_assets.errors import StageError
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.system import Bands, CorrelationRemover, GridSearch, System, Target
from compliance_assets.stages import outcomes
from compliance_assets.stages.estimators import for_fitting
from compliance_assets.trust.canonical import decimal_string

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.stages.estimators import Prepared

_EVEN = 0.5
"""Trials are compared at even odds: the decision threshold belongs to the evaluation and is not known to training."""


@dataclass(frozen=True)
class Rows:
    """One part: features (n rows), labels (n,) as they are learned, each protected attribute's groups (n,) and the keys (n,)."""

    frame: pl.DataFrame
    labels: npt.NDArray[Any]
    groups: Mapping[str, pl.Series]
    keys: npt.NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    """A fitted plain estimator, and every trial that was made for it, JSON without floats."""

    estimator: Any
    trials: tuple[Mapping[str, Any], ...]
    mitigation: Mapping[str, Any]
    search: Mapping[str, Any] = field(default_factory=dict)
    """How hyperparameters were chosen, if they were searched for."""


def fit(prepared: Prepared, system: System, train: Rows, validation: Rows) -> Fitted:
    """Fit the estimator under the declared mitigation, if any. Raises `StageError` where it cannot be applied."""
    wanted = system.training.mitigation
    if wanted is None:
        prepared.estimator.fit(for_fitting(prepared, train.frame), train.labels)
        return Fitted(prepared.estimator, (), {"kind": "none"})
    groups = train.groups[wanted.over]
    if wanted.kind == "correlation_remover":
        estimator = with_correlation_remover(prepared.estimator, system, wanted)
        estimator.fit(train.frame, train.labels)
        return Fitted(estimator, (), {"kind": wanted.kind, "over": wanted.over, "alpha": decimal_string(wanted.alpha)})
    if prepared.weights is None:
        raise StageError(f"{system.training.estimator} takes no sample weights, which {wanted.kind} needs.", rule="mitigation",
                         value=wanted.kind, remedy="Choose an estimator whose fit takes sample_weight.")
    if wanted.kind == "reweighing":
        weights, table = reweighing(groups, train.labels, _names(system.data.target))
        prepared.estimator.fit(for_fitting(prepared, train.frame), train.labels, **{prepared.weights: weights})
        return Fitted(prepared.estimator, (), {"kind": wanted.kind, "over": wanted.over, "weights": table})
    return (_grid_of_numbers if wanted.constraint == "bounded_group_loss" else _grid_search)(prepared, wanted, train, validation)


def _names(target: Target) -> Mapping[int, str]:
    """What each learned label is called."""
    return {code: name for name, code in outcomes.class_codes(target).items()} if target.classes is not None else {0: "0", 1: "1"}


def reweighing(groups: npt.ArrayLike, labels: npt.NDArray[Any],
               named: Mapping[int, str] | None = None) -> tuple[npt.NDArray[np.float64], dict[str, dict[str, str]]]:
    """Weight of a row with group g and label y: rows(g) · rows(y) / (rows · rows(g, y)); shape (n,), and the table of weights.

    Kamiran & Calders 2012, "Data preprocessing techniques for classification without discrimination", algorithm 3; of several
    classes the same, class by class. `named`: every label that there may be, and its name; else 0 and 1.
    """
    called = {0: "0", 1: "1"} if named is None else named
    codes = np.array(sorted(called), dtype=np.int64)
    names, place = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    of = np.searchsorted(codes, labels.astype(np.int64))
    cells = np.zeros((len(names), len(codes)), dtype=np.int64)
    np.add.at(cells, (place, of), 1)
    if (cells == 0).any():
        empty = [f"{names[group]} with label {called[int(codes[label])]}" for group, label in np.argwhere(cells == 0).tolist()]
        raise StageError(f"Reweighing has no training rows for {', '.join(empty)}.", rule="mitigation", value=", ".join(empty),
                         remedy="Weights cannot make up for rows that are not there: collect them, or choose another mitigation.")
    table = cells.sum(1, keepdims=True) * cells.sum(0, keepdims=True) / (cells.sum() * cells)
    described = {str(name): {called[int(code)]: decimal_string(weight) for code, weight in zip(codes, row, strict=True)}
                 for name, row in zip(names, table.tolist(), strict=True)}
    return table[place, of], described


def _grid_search(prepared: Prepared, wanted: GridSearch, train: Rows, validation: Rows) -> Fitted:
    from fairlearn.reductions import DemographicParity, EqualizedOdds
    from fairlearn.reductions import GridSearch as Search

    constraint = DemographicParity() if wanted.constraint == "demographic_parity" else EqualizedOdds()
    search = Search(prepared.estimator, constraint, grid_size=wanted.grid_size, sample_weight_name=prepared.weights)
    search.fit(train.frame, train.labels, sensitive_features=train.groups[wanted.over].to_numpy())
    trials, best = [], None
    for number, predictor in enumerate(search.predictors_):
        multipliers = {"|".join(map(str, key)): decimal_string(float(value))
                       for key, value in search.lambda_vecs_.iloc[:, number].items()}
        trial: dict[str, Any] = {"trial": number, "multipliers": multipliers,
                                 "training_error": decimal_string(float(search.objectives_[number]))}
        if len(predictor.classes_) < 2:
            trials.append({**trial, "kept": False, "why": "it gives everybody the same answer"})
            continue
        decided = favourable_scores(predictor, validation.frame) >= _EVEN
        error = float(np.count_nonzero(decided != (validation.labels == 1)) / len(decided))
        gap = violation(wanted.constraint, decided, validation.labels, validation.groups[wanted.over])
        trials.append({**trial, "kept": False, "validation_error": decimal_string(error), "validation_gap": decimal_string(gap)})
        # fairlearn's own trade-off, evenly weighted, but on rows that the predictors were not fitted on.
        if best is None or (error + gap) / 2 < best[0]:
            best = (error + gap) / 2, number
    if best is None:
        raise StageError("No predictor of the grid tells people apart.", rule="mitigation", value=str(wanted.grid_size),
                         remedy="Declare a larger grid, or another estimator.")
    trials[best[1]]["kept"] = True
    return Fitted(search.predictors_[best[1]], tuple(trials), {
        "kind": wanted.kind, "over": wanted.over, "constraint": wanted.constraint, "grid_size": wanted.grid_size,
        "chosen": best[1], "chosen_by": "lowest mean of error and gap on the validation rows, decided at 0.5"})


def _grid_of_numbers(prepared: Prepared, wanted: GridSearch, train: Rows, validation: Rows) -> Fitted:
    """Groups weighed against each other: Agarwal, Dudik, Wu 2019, "Fair Regression".

    The predictor is kept whose worst group errs least, in mean squared error *on the validation rows*; the earlier of two equals.
    """
    from fairlearn.reductions import BoundedGroupLoss, SquareLoss
    from fairlearn.reductions import GridSearch as Search

    loss = SquareLoss(float(train.labels.min()), float(train.labels.max()))
    search = Search(prepared.estimator, BoundedGroupLoss(loss), grid_size=wanted.grid_size, sample_weight_name=prepared.weights)
    search.fit(train.frame, train.labels, sensitive_features=train.groups[wanted.over].to_numpy())
    trials: list[dict[str, Any]] = []
    best: tuple[float, int] | None = None
    groups = validation.groups[wanted.over].to_numpy().astype(str)
    for number, predictor in enumerate(search.predictors_):
        square = np.square(favourable_scores(predictor, validation.frame) - validation.labels)
        of_group = {str(name): float(square[groups == name].mean()) for name in np.unique(groups)}
        multipliers = {str(key): decimal_string(float(value)) for key, value in search.lambda_vecs_.iloc[:, number].items()}
        trials.append({"trial": number, "multipliers": multipliers, "training_error": decimal_string(float(search.objectives_[number])),
                       "kept": False, "validation_error": decimal_string(float(square.mean())),
                       "validation_error_by_group": {name: decimal_string(error) for name, error in of_group.items()}})
        if best is None or max(of_group.values()) < best[0]:
            best = max(of_group.values()), number
    assert best is not None  # a grid has at least two predictors
    trials[best[1]]["kept"] = True
    return Fitted(search.predictors_[best[1]], tuple(trials), {
        "kind": wanted.kind, "over": wanted.over, "constraint": wanted.constraint, "grid_size": wanted.grid_size,
        "chosen": best[1], "chosen_by": "lowest mean squared error of the worst group on the validation rows"})


def violation(constraint: str, decided: npt.NDArray[np.bool_], labels: npt.NDArray[Any], groups: npt.ArrayLike) -> float:
    """The largest gap between groups: in selection rate, or in true or false positive rate. A rate without rows is skipped."""
    conditions = (np.ones(len(labels), dtype=np.bool_),) if constraint == "demographic_parity" else (labels == 1, labels == 0)
    names = np.asarray(groups).astype(str)
    gaps = [0.0]
    for condition in conditions:
        rates = [float(np.count_nonzero(decided & rows) / np.count_nonzero(rows)) for name in np.unique(names)
                 if (rows := condition & (names == name)).any()]
        gaps.append(max(rates) - min(rates) if rates else 0.0)
    return max(gaps)


def with_correlation_remover(pipeline: Any, system: System, wanted: CorrelationRemover) -> Any:
    """The prepared pipeline with fairlearn's remover between preparation and model; refused if the attribute is no feature."""
    from fairlearn.preprocessing import CorrelationRemover as Remover
    from sklearn.pipeline import Pipeline

    sensitive = columns_of(system, wanted.over)
    if not sensitive:
        raise StageError(
            f"correlation_remover needs everybody's {wanted.over} at every prediction, and {wanted.over} is not a feature.",
            rule="no protected attribute at prediction", value=wanted.over,
            remedy="Use reweighing or grid_search, which need it in training only; or declare it under data.used_as_features, with "
                   "its reason, and register it as a feature.")
    prepare, (name, model) = pipeline.steps[0][1], pipeline.steps[-1]
    remover = Remover(sensitive_feature_ids=sensitive, alpha=wanted.alpha)
    return Pipeline([("prepare", prepare), ("uncorrelate", remover), (name, model)])


def columns_of(system: System, attribute: str) -> list[int]:
    """Where the features computed from a protected attribute stand in the prepared matrix; empty unless its use is declared."""
    used = system.data.used_as_features
    if used == "none" or attribute not in {use.attribute for use in used}:
        return []
    declared = system.data.protected[attribute]
    column = declared.from_ if isinstance(declared, Bands) else declared.column or attribute
    layout: Sequence[str] = [
        *(f.name for f in system.features.registry if f.dtype == "category" for _ in f.categories or ()),
        *(f.name for f in system.features.registry if f.dtype != "category")]
    wanted = {f.name for f in system.features.registry if column in f.from_}
    return [place for place, name in enumerate(layout) if name in wanted]
