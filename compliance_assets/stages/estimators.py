"""From a declaration to an estimator that can be fitted on the feature frame: made, seeded, prepared for its columns.

Any scikit-learn-compatible classifier may be declared, by class or by a function that returns one. A histogram gradient
boosting takes the frame as it is (categories by their type, missing values as they are). A Pipeline that the owner's function
returns is left alone. Every other estimator gets a preparation in front of it that is stored with it, so that the stored model
always predicts from the same feature frame: one-hot categories with the registered values in their registered order, medians
for missing numbers where the estimator takes none, and standard scores unless it is made of trees.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import DeclarationError, StageError
from compliance_assets.heavy import heavy_import

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.definition import Definition
    from compliance_assets.policy.system import Feature, Training

_TREES = ("sklearn.tree.", "sklearn.ensemble.")
_FORESTS = "sklearn.ensemble._forest."


@dataclass(frozen=True)
class Prepared:
    """An unfitted estimator for the feature frame, and what was done to make it one."""

    estimator: Any
    preparation: Mapping[str, Any]
    """JSON for the training record."""
    weights: str | None
    """The name under which `fit` takes sample weights; None if the estimator takes none."""


def make_estimator(definition: Definition) -> Prepared:
    """The declared estimator, unfitted. Raises `DeclarationError` for an unknown one, or an unknown hyperparameter."""
    system = definition.system
    estimator = _constructed(_found(definition, system.training.estimator), system.training)
    seeded = _seed(estimator, system.training.seed)
    prepared = _prepare(estimator, system.features.registry, encode=system.training.mitigation is not None
                        and system.training.mitigation.kind == "correlation_remover")
    return Prepared(prepared.estimator, {**prepared.preparation, "seeded": seeded}, prepared.weights)


def use_threads(estimator: Any, threads: int | None) -> None:
    """Let forests fit with this many threads; None puts them back. Their trees are seeded one by one, so the result is equal."""
    for part in (estimator, *estimator.get_params(deep=True).values()):
        if f"{type(part).__module__}.".startswith(_FORESTS) and "n_jobs" in part.get_params(deep=False):
            part.set_params(n_jobs=threads)


def _found(definition: Definition, declared: str) -> Callable[..., Any]:
    module, _, name = declared.replace(":", ".").rpartition(".")
    top = module.partition(".")[0]
    found: Any
    if (definition.root / top).is_dir() or (definition.root / f"{top}.py").is_file():
        found = definition.load_code(f"{module}:{name}")
    else:
        try:
            with heavy_import(module):
                loaded = importlib.import_module(module)
        except ImportError as error:
            raise _unknown(declared, f"{error}") from error
        if not hasattr(loaded, name):
            near = difflib.get_close_matches(name, dir(loaded), n=1)
            raise _unknown(declared, f"{module} has no {name}" + (f"; did you mean {module}.{near[0]}?" if near else ""))
        found = getattr(loaded, name)
    if not callable(found):
        raise _unknown(declared, "it cannot be called")
    return found  # type: ignore[no-any-return]  # callable was just established


def _constructed(found: Callable[..., Any], training: Training) -> Any:
    given = dict(training.hyperparameters)
    for reserved, where in (("random_state", "training.seed"), ("n_jobs", "training.resources.threads")):
        if reserved in given:
            raise DeclarationError(f"{reserved} is declared twice over.", rule="declared once", value=reserved,
                                   remedy=f"Take it out of the hyperparameters; it follows from {where}.")
    signature = inspect.signature(found)
    try:
        signature.bind(**given)
    except TypeError as error:
        unknown = sorted(set(given) - set(signature.parameters))
        known = ", ".join(name for name in signature.parameters)
        near = difflib.get_close_matches(unknown[0], list(signature.parameters), n=1) if unknown else []
        raise DeclarationError(
            f"{training.estimator} has no hyperparameter {', '.join(unknown)}." if unknown
            else f"{training.estimator} cannot be made: {error}.",
            rule="known hyperparameters", value=", ".join(unknown) or str(error),
            remedy=f"Did you mean {near[0]}?" if near else f"It takes: {known}.") from error
    estimator = found(**given)
    if isinstance(estimator, type) or not all(hasattr(estimator, need) for need in ("fit", "get_params", "set_params")):
        raise _unknown(training.estimator, f"it gives a {type(estimator).__name__}, which is no scikit-learn estimator")
    return estimator


def _unknown(declared: str, why: str) -> DeclarationError:
    return DeclarationError(f"The estimator {declared} cannot be used: {why}.", rule="known estimator", value=declared,
                            remedy="Name a class like sklearn.linear_model.LogisticRegression, or a function of yours like "
                                   "systems.my_system.model:make that returns an estimator.")


def _seed(estimator: Any, seed: int) -> list[str]:
    """Every `random_state`, wherever it sits in the estimator."""
    names = sorted(name for name in estimator.get_params(deep=True) if name.rpartition("__")[2] == "random_state")
    estimator.set_params(**dict.fromkeys(names, seed))
    return names


def _prepare(estimator: Any, registry: Sequence[Feature], *, encode: bool) -> Prepared:
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        if encode:
            raise StageError("correlation_remover cannot be put inside a Pipeline of your own.", rule="mitigation",
                             value="correlation_remover", remedy="Return the bare estimator, or remove correlations in it.")
        last, step = estimator.steps[-1]
        return Prepared(estimator, {"kind": "own pipeline", "steps": [name for name, _ in estimator.steps]},
                        f"{last}__sample_weight" if has_fit_parameter(step, "sample_weight") else None)
    weights = "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None
    if "categorical_features" in estimator.get_params(deep=False) and not encode:
        return Prepared(estimator, {"kind": "none", "categories": "by type", "missing": "as they are"}, weights)
    allows_missing = bool(estimator.__sklearn_tags__().input_tags.allow_nan)
    scale = not f"{type(estimator).__module__}.".startswith(_TREES) or encode
    columns = encoder(registry, impute=not allows_missing, scale=scale)
    described = {
        "kind": "one-hot and numbers", "missing": "as they are" if allows_missing else "median of the training data",
        "scaled": scale, "categories": {f.name: list(f.categories or ()) for f in registry if f.dtype == "category"},
    }
    return Prepared(Pipeline([("prepare", columns), ("model", estimator)]), described, f"model__{weights}" if weights else None)


def for_fitting(prepared: Prepared, frame: pl.DataFrame) -> Any:
    """The features as this estimator reads them fastest; what it learns from them is the same to the bit.

    An estimator that reads categories by their type looks at every one as a Python text. polars makes a new text for each row,
    pandas names the same one again. Frames in which pandas would turn a gap or a type into something else stay as they are.
    """
    import polars as pl

    by_type = prepared.preparation.get("categories") == "by type"
    same = all(dtype.is_float() or (not frame[name].null_count() and (dtype.is_integer() or isinstance(dtype, pl.Enum)))
               for name, dtype in frame.schema.items())
    return frame.to_pandas() if by_type and same and any(isinstance(dtype, pl.Enum) for dtype in frame.dtypes) else frame


def encoder(registry: Sequence[Feature], *, impute: bool, scale: bool) -> Any:
    """Feature frame → matrix: first the categories, one column for each registered value, then the numbers in order.

    A missing or unregistered category is a row of zeros among its columns.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories = [feature for feature in registry if feature.dtype == "category"]
    numbers = [feature.name for feature in registry if feature.dtype != "category"]
    steps: list[tuple[str, Any]] = [("missing", SimpleImputer(strategy="median", keep_empty_features=True))] if impute else []
    steps += [("scale", StandardScaler())] if scale else []
    parts: list[tuple[str, Any, list[str]]] = []
    if categories:
        onehot = OneHotEncoder(categories=[list(feature.categories or ()) for feature in categories], handle_unknown="ignore",
                               sparse_output=False)
        parts.append(("category", onehot, [feature.name for feature in categories]))
    if numbers:
        parts.append(("number", Pipeline(steps) if steps else "passthrough", numbers))
    return ColumnTransformer(parts, remainder="drop", verbose_feature_names_out=False)
