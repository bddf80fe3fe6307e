"""What training takes and what it says while it runs: seconds, memory, threads, warnings, loss by iteration.

Annex IV(2)(c) asks for the computational resources used to develop and train. Linear algebra runs on one thread here, because
sums in another order have other last digits; trees are built by as many threads as are declared, which changes nothing.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.stages.estimators import use_threads
from compliance_assets.stages.mitigation import Rows
from compliance_assets.trust.canonical import decimal_string

LIBRARIES = ("scikit-learn", "fairlearn", "numpy", "scipy", "polars", "skops")
_CURVE_ROWS = 5_000
BITWISE = "bitwise on the same platform and library versions, for any number of threads"
SEEDED = "seeded; bitwise equality was not tested for this kind of estimator"
_TESTED = ("sklearn.ensemble._hist_gradient_boosting.", "sklearn.ensemble._forest.", "sklearn.linear_model.", "sklearn.tree.")


@dataclass(frozen=True)
class Watched:
    """A fitted result, what did not converge, and what was observed (JSON without floats)."""

    result: Any
    unconverged: list[str]
    observations: dict[str, Any]


def watched_fit(run: Callable[[], Any], threads: int) -> Watched:
    """Run with the declared threads (one for linear algebra), catching warnings, counting seconds and memory.

    `run` gives something with a fitted `estimator`, which is left without a number of threads of its own.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    _forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(limits={"openmp": threads, "blas": 1}):
        warnings.simplefilter("always")
        try:
            result = run()
        except (ValueError, TypeError, ArithmeticError) as error:  # what scikit-learn raises on values it does not take
            said = str(error).strip().splitlines()[0].rstrip(".")
            raise StageError(f"Training failed: {said}.", rule="training", value=type(error).__name__,
                             remedy="Correct the hyperparameters or the features.") from error
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak, scope = _peak_bytes()
    use_threads(result.estimator, None)
    unconverged = [str(item.message) for item in caught if issubclass(item.category, ConvergenceWarning)]
    others = sorted({f"{item.category.__name__}: {item.message}" for item in caught
                     if not issubclass(item.category, ConvergenceWarning)})
    kind = f"{type(last_step(result.estimator)).__module__}."
    return Watched(result, unconverged, {
        "training_seconds": decimal_string(round(wall, 3)), "cpu_seconds": decimal_string(round(processor, 3)),
        "peak_rss_bytes": peak, "peak_rss_of": scope, "threads": threads, "blas_threads": 1, "gpu": 0, "warnings": others,
        "libraries": {name: version(name) for name in LIBRARIES},
        "determinism": BITWISE if kind.startswith(_TESTED) else SEEDED,
    })


def _forget_peak() -> None:
    """Linux counts a process's highest memory from when this is written; elsewhere from when the process began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> tuple[int, str]:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024, "this training"
    except OSError:
        pass
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "the process so far"


def last_step(estimator: Any) -> Any:
    """The model itself, behind whatever prepares its columns."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def iterations(estimator: Any) -> dict[str, Any]:
    """How far each fitted part went: `n_iter_`, and what it was allowed."""
    model = last_step(estimator)
    found: dict[str, Any] = {}
    if getattr(model, "n_iter_", None) is not None:  # None: solved in closed form, as Ridge does
        found["used"] = [int(n) for n in np.ravel(model.n_iter_)]
        settings = model.get_params(deep=False)
        if settings.get("max_iter") is not None:
            found["allowed"] = int(settings["max_iter"])
    if hasattr(model, "estimators_"):
        found["estimators"] = len(model.estimators_)
    return found


def losses(estimator: Any, validation: Rows) -> dict[str, list[str]]:
    """Loss by iteration where the estimator has one: its own curve, or the loss on the first validation rows as it grew."""
    model = last_step(estimator)
    found: dict[str, list[str]] = {}
    for name, attribute in (("training", "loss_curve_"), ("early_stopping_training", "train_score_"),
                            ("early_stopping_validation", "validation_score_")):
        curve = getattr(model, attribute, None)
        if curve is not None and len(curve):
            found[name] = [_text(item) for item in curve]
    if hasattr(model, "staged_predict_proba"):
        rows = validation.frame.head(_CURVE_ROWS)
        matrix = rows if model is estimator else estimator[:-1].transform(rows)
        labels = validation.labels[:_CURVE_ROWS]
        place = np.searchsorted(model.classes_, labels)
        found["validation"] = [_text(_log_loss(stage[np.arange(len(labels)), place])) for stage in model.staged_predict_proba(matrix)]
    elif hasattr(model, "staged_predict"):
        rows = validation.frame.head(_CURVE_ROWS)
        matrix = rows if model is estimator else estimator[:-1].transform(rows)
        found["validation"] = [_text(np.square(stage - validation.labels[:_CURVE_ROWS]).mean()) for stage in model.staged_predict(matrix)]
    return found


def _log_loss(given: Any) -> float:
    """Mean log loss of the probabilities that were given to what happened."""
    return float(-np.log(np.maximum(given, np.finfo(np.float64).eps)).mean())


def _text(value: Any) -> str:
    number = float(value)
    return decimal_string(number) if np.isfinite(number) else repr(number)
