"""Hyperparameters chosen by trying: every declared combination, compared on the validation rows, every trial kept on record.

Without a declared search there is one combination and no trial. The discarded trials are what shows that the choice was one
(Annex IV(2)(b): the main design choices and their rationale). The holdout has no part in it.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import StageError
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.modelfile import favourable_scores
from compliance_assets.stages import outcomes
from compliance_assets.stages.estimators import Prepared, make_estimator, use_threads
from compliance_assets.stages.mitigation import Fitted, Rows, fit
from compliance_assets.trust.canonical import decimal_string

if TYPE_CHECKING:
    from compliance_assets.policy.definition import Definition
    from compliance_assets.policy.system import Target


@dataclass(frozen=True)
class Chosen:
    """What was fitted, how it was prepared, and the hyperparameters it was made with (JSON without floats)."""

    prepared: Prepared
    fitted: Fitted
    hyperparameters: dict[str, Any]

    @property
    def estimator(self) -> Any:
        return self.fitted.estimator


def fitted(definition: Definition, train: Rows, validation: Rows) -> Chosen:
    """The declared estimator, fitted; where a search is declared, the best of its trials (the earlier of two equals)."""
    search = definition.system.training.search
    if search is None:
        return _one(definition, train, validation)
    direction = METRICS[search.choose_by].direction
    trials: list[dict[str, Any]] = []
    best: tuple[float, int, Chosen, list[warnings.WarningMessage]] | None = None
    for number, values in enumerate(itertools.product(*search.parameters.values())):
        tried = dict(zip(search.parameters, values, strict=True))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chosen = _one(_with(definition, tried), train, validation)
        measured = _measured(search.choose_by, chosen.estimator, validation, definition.system.data.target)
        text = {name: decimal_string(value) if isinstance(value, float) else value for name, value in tried.items()}
        trials.append({"trial": number, "hyperparameters": text, "kept": False, "warnings": sorted({str(item.message) for item in caught})}
                      | ({"why": measured.note} if measured.value is None else {search.choose_by: decimal_string(measured.value)}))
        if measured.value is None:
            continue
        better = measured.value if direction == "higher" else -measured.value
        if best is None or better > best[0]:
            best = better, number, chosen, caught
    if best is None:
        raise StageError("No trial of the search could be compared.", rule="search", value=search.choose_by,
                         remedy="Choose by another metric, or search among other values.")
    _, number, chosen, caught = best
    trials[number]["kept"] = True
    for item in caught:  # what the kept one said is said by this training; what discarded ones said stands beside them
        warnings.warn(item.message, stacklevel=1)
    described = {"choose_by": search.choose_by, "on": "validation rows", "because": search.because, "chosen": number}
    return replace(chosen, fitted=replace(chosen.fitted, trials=tuple(trials), search=described))


def _measured(metric: str, estimator: Any, rows: Rows, target: Target) -> Measurement:
    """The metric that trials are compared by, on these rows; without a value, and with the reason, where it has none."""
    if target.task == "regression":
        return measure_regression((metric,), rows.labels, favourable_scores(estimator, rows.frame))[0]
    if target.task == "multiclass":
        try:
            table = outcomes.class_table(estimator, rows.frame, target)
        except StageError as refused:  # a class that this trial never learned
            return Measurement(metric, None, None, None, len(rows.labels), "none", note=str(refused), direction=METRICS[metric].direction)
        return measure_multiclass((metric,), outcomes.as_text(rows.labels, target), table, target.classes or ())[0]
    return measure_performance((metric,), rows.labels, favourable_scores(estimator, rows.frame), 0.5)[0]


def _one(definition: Definition, train: Rows, validation: Rows) -> Chosen:
    prepared = make_estimator(definition)
    use_threads(prepared.estimator, definition.system.training.resources.threads)
    found = fit(prepared, definition.system, train, validation)
    return Chosen(prepared, found, definition.system.declaration()["training"]["hyperparameters"])


def _with(definition: Definition, values: dict[str, Any]) -> Definition:
    training = definition.system.training
    tried = training.model_copy(update={"hyperparameters": {**training.hyperparameters, **values}})
    return replace(definition, system=definition.system.model_copy(update={"training": tried}))
