"""How is a model kept? As a skops file whose bytes depend on the model alone, and that loads nothing nobody reviewed.

A pickle runs code when it is opened; a skops file is data plus the names of the types that it needs (AI Act Art. 15(5):
the model must resist being altered). skops writes the time, the process's memory addresses and the number of threads into
its files, so two dumps of one model differ; here they are rewritten: members are named by their own sha256, shared
objects are numbered in the order of a walk, sets are sorted, times are fixed. What the file needs beyond scikit-learn's
own estimators must stand in `REVIEWED_TYPES`, each with the reason it may.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import StageError, UnsafeModel
from compliance_assets.heavy import collector_rests, heavy_import
from compliance_assets.trust.canonical import sha256_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

_HGB = "sklearn.ensemble._hist_gradient_boosting"

REVIEWED_TYPES: Mapping[str, str] = MappingProxyType({
    f"{_HGB}.predictor.TreePredictor":
        "arrays of nodes without code; scikit-learn follows their indices unchecked, so `load` checks that every index stays "
        "inside and every path goes down",
    "sklearn.tree._tree.Tree":
        "arrays of nodes without code; its indices are checked by `load` in the same way",
    "sklearn.calibration._CalibratedClassifier": "holds an estimator and its calibrators, all listed themselves; no code",
    "sklearn.calibration._SigmoidCalibration": "the two numbers of a logistic curve",
    "sklearn.calibration._TemperatureScaling": "one number, by which logits are divided",
    "numpy.dtype": "the type of an array; skops builds it from an empty array without pickle",
    "functools.partial": "a call with fixed arguments; the function that it calls must be listed itself",
    "sklearn.utils.validation.check_array": "checks and converts an array; used inside HistGradientBoosting for categories",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer": "arrays of moments, used in further fitting only",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer": "arrays of velocities, used in further fitting only",
    "sklearn.utils._bunch.Bunch": "a dict whose keys can be read as attributes; used by VotingClassifier",
    "fairlearn.preprocessing._correlation_remover.CorrelationRemover":
        "one matrix and one row of means; transforming is a subtraction and a product",
})
"""Types beyond skops' own trusted ones that a model file may hold, and why. Anything else is refused."""

REFUSED_TYPES: Mapping[str, str] = MappingProxyType({
    "fairlearn.postprocessing._threshold_optimizer.ThresholdOptimizer":
        "it asks for the protected attribute of the person at every prediction, decides at random between two thresholds, and "
        "its fitted rules hold data frames that skops does not store",
    "fairlearn.reductions._exponentiated_gradient.exponentiated_gradient.ExponentiatedGradient":
        "it draws one of its predictors at random for every answer, so the same person may be decided both ways, and it keeps "
        "moments of the training data in frames that skops does not store",
    "fairlearn.reductions._grid_search.grid_search.GridSearch":
        "it keeps every trial and moments of the training data in frames that skops does not store; the predictor that it "
        "chose is a plain estimator and can be stored",
})
"""Estimators that are known not to be storable, and why; said plainly instead of by skops' own message."""

_REMEDY = ("Train a plain scikit-learn estimator (mitigation: reweighing, or the predictor that grid_search chose), or have the "
           "type reviewed and listed in compliance_assets.modelfile.REVIEWED_TYPES.")
# Nodes whose identity means nothing: whether two equal ones are one object is an accident of the interpreter.
_VALUES = frozenset({"JsonNode", "TypeNode", "FunctionNode", "SliceNode", "DTypeNode", "TupleNode"})
# Everything that skops is known to raise on objects that it cannot take apart.
_NOT_STORED = (TypeError, ValueError, AttributeError, NotImplementedError, RecursionError, pickle.PicklingError)
_NOTHING = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "__id__": 0, "content": "null",
            "is_json": True}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def store(estimator: Any) -> bytes:
    """The estimator as a canonical skops file: the same state gives the same bytes, in any process, whatever its threads.

    Raises `UnsafeModel` naming the type and the reason for anything that is not data and reviewed types.
    """
    with heavy_import("skops.io"):
        import skops.io

    for part in _parts(estimator):
        name = _type_name(part)
        if name in REFUSED_TYPES:
            raise _unsafe(name, REFUSED_TYPES[name])
    try:
        with collector_rests():
            content = _canonical(skops.io.dumps(estimator))
    except _NOT_STORED as error:
        raise _unsafe(_type_name(estimator), f"skops cannot take it apart: {error}") from error
    needed = trusted_types(content)
    _reviewed(needed)
    return content


@functools.lru_cache(maxsize=4)  # asked when a file is stored, sealed, judged and loaded; a pure function of its bytes
def trusted_types(content: bytes) -> tuple[str, ...]:
    """The types that the file needs beyond those skops trusts by itself, sorted. Nothing is loaded."""
    import skops.io

    try:
        return tuple(skops.io.get_untrusted_types(data=content))
    except (*_NOT_STORED, KeyError, zipfile.BadZipFile) as error:
        raise UnsafeModel(f"These bytes are not a skops file: {error}.", rule="model file", value=content[:8].hex(),
                          remedy="Take the file from the artefact store by its digest.") from error


def load(content: bytes, trusted: Sequence[str]) -> Any:
    """The estimator in the file. `trusted` are the types that its evidence names; they must be reviewed as well.

    Raises `UnsafeModel` for a type that is not in both, and for trees whose indices lead outside their arrays.
    """
    import skops.io

    needed = trusted_types(content)
    unnamed = sorted(set(needed) - set(trusted))
    if unnamed:
        raise _unsafe(unnamed[0], "the evidence of this model does not name it")
    _reviewed(needed)
    try:
        with collector_rests():
            estimator = skops.io.loads(content, trusted=list(needed))
    except (*_NOT_STORED, KeyError) as error:
        raise UnsafeModel(f"The model file cannot be loaded: {error}.", rule="model file", value=str(sha256_bytes(content)),
                          remedy="Install the library versions of its training record.") from error
    _check_trees(estimator, None, set())
    return estimator


def favourable_scores(estimator: Any, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The probability of a favourable outcome for each row, or the number that a regressor predicts; shape (rows,), float64.

    Favourable are the classes above 0 (`stages.outcomes`): of two outcomes class 1. Linear algebra runs on one thread, so that the
    same model and rows give the same bits in every process.
    """
    import numpy as np

    if not hasattr(estimator, "predict_proba") and _predicts_numbers(estimator):
        with _threads().limit(limits=1, user_api="blas"):
            return np.ascontiguousarray(np.asarray(estimator.predict(frame)).reshape(-1), dtype=np.float64)
    return favourable(*probabilities(estimator, frame))


def favourable(table: npt.NDArray[Any], classes: Sequence[int]) -> npt.NDArray[np.float64]:
    """The probability of a favourable class, from that of every class, shape (rows, classes)."""
    import numpy as np

    good = [place for place, label in enumerate(classes) if label > 0]
    if not good:
        raise StageError("The model never saw a favourable outcome.", rule="two classes", value=str(list(classes)),
                         remedy="Train on data with both outcomes.")
    return np.ascontiguousarray(table[:, good[0]] if len(good) == 1 else np.minimum(table[:, good].sum(axis=1), 1.0), dtype=np.float64)


def _predicts_numbers(estimator: Any) -> bool:
    from sklearn.base import is_regressor

    return bool(is_regressor(estimator))


def probabilities(estimator: Any, frame: pl.DataFrame) -> tuple[npt.NDArray[np.float64], tuple[int, ...]]:
    """The probability of every class that was learned, shape (rows, classes), and the classes."""
    import numpy as np

    if not hasattr(estimator, "predict_proba"):
        raise StageError(f"{_type_name(estimator)} gives no probabilities.", rule="scores are probabilities",
                         value=_type_name(estimator), remedy="Choose a classifier with predict_proba, or calibrate it.")
    with _threads().limit(limits=1, user_api="blas"):
        table = estimator.predict_proba(frame)
    return np.asarray(table), tuple(int(label) for label in estimator.classes_)


@functools.cache
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _type_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and everything it was built from."""
    yield estimator
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        yield from estimator.get_params(deep=True).values()


def _unsafe(name: str, why: str) -> UnsafeModel:
    return UnsafeModel(f"A model that holds {name} cannot be stored safely: {why}.", rule="reviewed types only", value=name,
                       remedy=_REMEDY)


def _reviewed(needed: Sequence[str]) -> None:
    for name in needed:
        if name in REFUSED_TYPES:
            raise _unsafe(name, REFUSED_TYPES[name])
        if name not in REVIEWED_TYPES:
            raise _unsafe(name, "nobody has reviewed what loading it does")


# ------------------------------------------------------------------------------------------------------- canonical bytes


def _canonical(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        schema = json.loads(archive.read("schema.json"))
        members = {name: _without_padding(name, archive.read(name)) for name in archive.namelist() if name != "schema.json"}
    names = {name: f"{sha256_bytes(content)}.{name.rpartition('.')[2]}" for name, content in members.items()}
    schema = _Rewriting(names, Counter(_ids(schema))).node(schema)
    files = {names[name]: content for name, content in members.items()}
    files["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression=zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o600 << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def _without_padding(name: str, content: bytes) -> bytes:
    """An array of records has gaps between its fields, which hold whatever was in memory before; they become zeros."""
    import numpy as np

    if not name.endswith(".npy"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.frombuffer(bytearray(array.nbytes), dtype=array.dtype).reshape(array.shape)
    for field in array.dtype.names:
        clean[field] = array[field]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()


def _ids(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        if "__loader__" in value:
            yield value["__id__"]
        for item in value.values():
            yield from _ids(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ids(item)


class _Rewriting:
    """One walk over the schema: memory addresses become numbers in the order met, only where an object is shared."""

    def __init__(self, names: Mapping[str, str], seen: Counter[int]) -> None:
        self.names = names
        self.shared = {address for address, times in seen.items() if times > 1}
        self.numbers: dict[int, int] = {}

    def node(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.node(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "__loader__" not in value:
            return {key: self.node(item) for key, item in value.items()}
        kind = value["__loader__"]
        plain = dict(value)
        address = plain.pop("__id__")
        if kind == "SetNode":
            plain["content"] = sorted(plain["content"], key=_without_ids)
        if kind == "NdArrayNode" and plain["__class__"] != "ndarray":
            kind = "JsonNode"  # a numpy scalar: a value, whichever object holds it
        if f"{plain['__module__']}.{plain['__class__']}" == f"{_HGB}.binning._BinMapper":
            # The threads of the machine that trained it. Only fitting reads them.
            plain["content"]["content"]["n_threads"]["content"] = "1"
        if kind == "PartialNode" and not plain["content"]["namespace"]["content"]:
            plain["content"]["namespace"] = dict(_NOTHING)  # skops reads back an empty one where there was none
        if "file" in plain:
            plain["file"] = self.names[plain["file"]]
        if address in self.shared and kind not in _VALUES:
            plain["__id__"] = self.numbers.setdefault(address, len(self.numbers) + 1)
        return {key: item if key == "__id__" else self.node(item) for key, item in plain.items()}


def _without_ids(value: Any) -> str:
    def strip(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: strip(inner) for key, inner in item.items() if key != "__id__"}
        return [strip(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(strip(value), sort_keys=True)


# ------------------------------------------------------------------------------------------------------------ safe trees


def _check_trees(thing: Any, features: int | None, seen: set[int]) -> None:
    """Every child of a tree lies behind its parent and inside the array; every feature is one that the model has."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, list | tuple):
        for item in thing:
            _check_trees(item, features, seen)
        return
    if isinstance(thing, dict):
        for item in thing.values():
            _check_trees(item, features, seen)
        return
    if getattr(thing, "dtype", None) is not None and getattr(thing.dtype, "kind", "") == "O":
        for item in thing.ravel().tolist():
            _check_trees(item, features, seen)
        return
    name = _type_name(thing)
    if name == "sklearn.tree._tree.Tree":
        nodes = thing.__getstate__()["nodes"]
        inner = nodes["left_child"] != -1
        _check_nodes(name, inner, nodes["left_child"], nodes["right_child"], nodes["feature"], int(thing.n_features))
        if features is not None and int(thing.n_features) != features:
            raise _unsafe(name, f"it reads {thing.n_features} features of {features}")
    elif name == f"{_HGB}.predictor.TreePredictor":
        nodes = thing.nodes
        inner = nodes["is_leaf"] == 0
        _check_nodes(name, inner, nodes["left"], nodes["right"], nodes["feature_idx"], features or 0)
        by_category = inner & (nodes["is_categorical"] != 0)
        if by_category.any() and int(nodes["bitset_idx"][by_category].max()) >= len(thing.raw_left_cat_bitsets):
            raise _unsafe(name, "a node points outside its sets of categories")
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        own = vars(thing)
        inside = own.get("n_features_in_", features)
        for item in own.values():
            _check_trees(item, inside, seen)


def _check_nodes(name: str, inner: Any, left: Any, right: Any, feature: Any, features: int) -> None:
    import numpy as np

    place = np.arange(len(inner))
    for child in (left.astype(np.int64), right.astype(np.int64)):
        if (inner & ((child <= place) | (child >= len(inner)))).any():
            raise _unsafe(name, "a node points outside its tree or back up")
    used = feature[inner].astype(np.int64)
    if len(used) and (used.min() < 0 or used.max() >= features):
        raise _unsafe(name, "a node reads a feature that the model does not have")
