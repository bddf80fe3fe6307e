"""The scores of a model for a few rows at a time, without scikit-learn's handling of tables; or the public way.

To a few rows `HistGradientBoostingClassifier.predict_proba` gives most of its time to turning them into a matrix: category codes
first, then the numbers. Here that matrix is filled directly, and scikit-learn's own compiled function follows the same trees in the
same order, so the scores have the same bits. Everything that is private in scikit-learn and needed for it is named in this module
and nowhere else.

It is used only where it has just given the bits of `modelfile.favourable_scores` on rows made for that purpose (`trial_rows`). Any other
estimator, and any other scikit-learn than the one it was written for, is asked the public way. Evaluation, integration
tests and `compliance explain` always use the public way, so they hold this one against it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compliance_assets.modelfile import favourable, favourable_scores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Scores = Callable[[pl.DataFrame], npt.NDArray[np.float64]]
    """A frame of registered features, shape (rows, features), to the favourable score of each row, shape (rows,)."""
    Types = Sequence[tuple[str, pl.DataType]]
    """Name and type of every registered feature, in order."""

WRITTEN_FOR = "1.9."
"""The releases of scikit-learn whose inner names are used here."""
TRIAL_ROWS = 500


def scores_of(estimator: Any, types: Types) -> Scores:
    """What answers for `estimator`: its prepared form where there is one that gives the same bits, else the public way."""
    public: Scores = functools.partial(favourable_scores, estimator)
    quick = prepared(estimator, types)
    if quick is None:
        return public
    trial = trial_rows(estimator, types)
    return quick if quick(trial).tobytes() == public(trial).tobytes() else public


def prepared(estimator: Any, types: Types) -> Scores | None:
    """The model taken apart once; None for an estimator, a scikit-learn or features that this module does not know."""
    import numpy as np
    import sklearn
    from sklearn.ensemble import HistGradientBoostingClassifier

    names = [name for name, _ in types]
    if type(estimator) is not HistGradientBoostingClassifier or not sklearn.__version__.startswith(WRITTEN_FOR) \
            or list(getattr(estimator, "feature_names_in_", ())) != names:
        return None
    from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data as follow

    columns = _columns(estimator, types)
    if columns is None:
        return None
    known, places = estimator._bin_mapper.make_known_categories_bitsets()
    trees = [(number, tree.nodes, tree.raw_left_cat_bitsets) for trees in estimator._predictors for number, tree in enumerate(trees)]
    start, loss, classes = estimator._baseline_prediction, estimator._loss, tuple(int(label) for label in estimator.classes_)

    def scores(frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        rows = frame.height
        matrix = np.empty((rows, len(columns)), dtype=np.float64)
        for place, (name, codes) in enumerate(columns):
            matrix[:, place] = _numbers(frame[name]) if codes is None else [codes[word] for word in frame[name].to_list()]
        raw = np.zeros((rows, estimator.n_trees_per_iteration_), dtype=start.dtype, order="F")
        raw += start
        by_class, leaves = [raw[:, number] for number in range(raw.shape[1])], np.empty(rows, dtype=np.float64)
        for number, nodes, categories in trees:
            follow(nodes, matrix, categories, known, places, 1, leaves)
            by_class[number] += leaves
        return favourable(loss.predict_proba(raw), classes)

    return scores


def _columns(estimator: Any, types: Types) -> list[tuple[str, Mapping[str | None, float] | None]] | None:
    """The columns of the matrix in their order, categories first, each of them with its codes; what training never saw is a gap.

    None where the model's categories are not the registered ones: numbers may be declared to count as categories.
    """
    import polars as pl

    registered = {name: dtype for name, dtype in types if isinstance(dtype, pl.Enum)}
    is_one = estimator.is_categorical_ if estimator._preprocessor is not None else [False] * len(types)
    if [name for (name, _), categorical in zip(types, is_one, strict=True) if categorical] != list(registered):
        return None
    found: list[tuple[str, Mapping[str | None, float] | None]] = []
    if registered:
        learned = estimator._preprocessor.named_transformers_["encoder"].categories_
        for (name, dtype), words in zip(registered.items(), learned, strict=True):
            codes = {word: float(code) for code, word in enumerate(words) if word is None or isinstance(word, str)}
            found.append((name, {word: codes.get(word, float("nan")) for word in (None, *dtype.categories)}))
    return found + [(name, None) for name, _ in types if name not in registered]


def _numbers(column: pl.Series) -> npt.NDArray[Any]:
    import polars as pl

    return (column.cast(pl.Float64) if column.dtype == pl.Boolean else column).to_numpy()


def trial_rows(estimator: Any, types: Types) -> pl.DataFrame:
    """`TRIAL_ROWS` rows in which the two ways would differ if they could, the same ones every time.

    Numbers lie on thresholds of the trees, just beside them, and far from any; every category and every gap occurs.
    """
    import numpy as np
    import polars as pl

    draw = np.random.Generator(np.random.Philox(1))
    cuts = _thresholds(estimator, types)
    made = []
    for name, dtype in types:
        if isinstance(dtype, pl.Enum):
            known: list[Any] = [None, *dtype.categories]
        elif dtype == pl.Boolean:
            known = [None, True, False]
        else:
            on = np.concatenate([[0.0, 1e9, -1e9], draw.normal(scale=1e4, size=20), *cuts[name]])
            beside = np.concatenate([on, np.nextafter(on, -np.inf), np.nextafter(on, np.inf)])
            known = [None, *(np.floor(beside[np.abs(beside) < 2e9]).astype(int) if dtype.is_integer() else beside).tolist()]
        picked = np.where(draw.random(TRIAL_ROWS) < 0.1, 0, draw.integers(0, len(known), TRIAL_ROWS))
        made.append(pl.Series(name, [known[place] for place in picked], dtype=dtype))
    return pl.DataFrame(made)


def _thresholds(estimator: Any, types: Types) -> dict[str, list[npt.NDArray[np.float64]]]:
    columns = [name for name, _ in _columns(estimator, types) or ()]
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in columns}
    for tree in (tree for trees in estimator._predictors for tree in trees):
        inner = tree.nodes[(tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] == 0)]
        for place, name in enumerate(columns):
            found[name].append(inner["num_threshold"][inner["feature_idx"] == place])
    return found
