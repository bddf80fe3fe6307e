"""When stage 2 refuses: what each of its eight gates looks at, finding by finding.

Association with a protected attribute is Cramér's V (categories, and numbers in ten equal-mass bins) and the correlation ratio
(numbers), both in [0, 1]; a number is held against the declared level by the larger one, since neither sees what the other does.
Sources: Cramér 1946, Mathematical Methods of Statistics, ch. 21; Pearson 1905 for the correlation ratio. Counts and sums run
over numpy arrays in row order, so no figure depends on threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.features import feature_type, serving_features, serving_schema, source_columns
from compliance_assets.metrics.currentness import known_too_late
from compliance_assets.metrics.measurement import MeasurementRefused
from compliance_assets.policy.gates import Finding, Verdict, fact, number
from compliance_assets.sources.partition import PARTS
from compliance_assets.stages.side_by_side import side_by_side
from compliance_assets.stages.stage import Work

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from compliance_assets.policy.system import Feature, Features, System
    from compliance_assets.stages.s1_data_preparation import Dataset
    from compliance_assets.stages.s2_feature_engineering import FeatureSet

PARITY_ROWS = 50
BINS = 10
_DIGITS = 6


def schema(report: Mapping[str, Any], value: FeatureSet, stored: Mapping[str, pl.DataFrame], dataset: Dataset,
           system: System) -> Iterator[Finding]:
    """Names, order, types and rows, in every part."""
    wanted = [feature.name for feature in system.features.registry]
    yield fact("schema.names", list(value.names) == wanted, value=", ".join(value.names), bound=", ".join(wanted))
    for part, frame in stored.items():
        yield fact(f"schema.{part}.order", frame.columns == wanted, value=frame.width, bound=len(wanted))
        yield fact(f"schema.{part}.rows", frame.height == dataset.splits[part].rows == value.splits[part].rows,
                   value=frame.height, bound=dataset.splits[part].rows)
        built = {item["name"]: item["dtype"] for item in report["built"][part]}
        for feature in system.features.registry:
            if feature.name not in built:
                yield fact(f"schema.{part}.{feature.name}", False, value="missing", bound=feature.dtype)
                continue
            yield fact(f"schema.{part}.{feature.name}", _typed_as(built[feature.name], feature), value=built[feature.name],
                       bound=feature.dtype)


def registered(report: Mapping[str, Any], features: Features) -> Iterator[Finding]:
    """Nothing is built that the registry does not know, and it is the registry in force that was built by."""
    known = {feature.name for feature in features.registry}
    for part, built in report["built"].items():
        strays = [item["name"] for item in built if item["name"] not in known]
        yield fact(f"registered.{part}", not strays, value=len(strays), bound=0, note=", ".join(strays))
    stored = [(item["name"], item["dtype"], tuple(item["categories"])) for item in report["registry"]]
    now = [(feature.name, feature.dtype, tuple(feature.categories or ())) for feature in features.registry]
    yield fact("registered.registry", stored == now, value=len(stored), bound=len(now),
               note="the registry that the features were computed under is the one in force")


def summaries(stored: Iterable[pl.DataFrame], features: Features) -> dict[str, list[dict[str, Any]]]:
    """feature -> what `summary` says of it in each part that has it; empty for one that was not computed."""
    def of_part(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
        return {feature.name: summary(frame[feature.name], feature) for feature in features.registry if feature.name in frame.columns}

    parts = side_by_side(of_part, stored)
    return {feature.name: [part[feature.name] for part in parts if feature.name in part] for feature in features.registry}


def ranges(summarised: Mapping[str, Sequence[Mapping[str, Any]]], features: Features) -> Iterator[Finding]:
    """Values outside the documented range or categories, over all parts (`summaries`); infinities count, gaps do not."""
    for feature in features.registry:
        found = summarised[feature.name]
        if not found:
            yield Finding(f"ranges.{feature.name}", Verdict.ERROR, note="the feature was not computed")
            continue
        outside = sum(item["outside"] for item in found)
        yield fact(f"ranges.{feature.name}", outside == 0, value=outside, bound=0, n=sum(item["rows"] for item in found),
                   note=_documented(feature))


def nulls(summarised: Mapping[str, Sequence[Mapping[str, Any]]], features: Features) -> Iterator[Finding]:
    """Missing values (null or NaN) where the registry refuses them, over all parts (`summaries`)."""
    for feature in features.registry:
        found = summarised[feature.name]
        missing, rows = sum(item["missing"] for item in found), sum(item["rows"] for item in found)
        if not found:
            yield Finding(f"nulls.{feature.name}", Verdict.ERROR, note="the feature was not computed")
        elif feature.nulls == "refuse":
            yield fact(f"nulls.{feature.name}", missing == 0, value=missing, bound=0, n=rows)
        else:
            yield fact(f"nulls.{feature.name}", True, value=missing, n=rows, note="may be missing, as registered")


def prohibited(system: System) -> Iterator[Finding]:
    """No feature is computed from a protected attribute, unless the declaration says so and why."""
    used = {} if system.data.used_as_features == "none" else {item.attribute: item.because for item in system.data.used_as_features}
    for attribute in system.data.protected:
        column = system.data.column_of(attribute)
        carriers = [feature.name for feature in system.features.registry if column in feature.from_]
        yield fact(f"prohibited.{attribute}", not carriers or attribute in used, value=len(carriers),
                   because="".join(reason for name, reason in used.items() if name == attribute),
                   note=f"computed from {column}: {', '.join(carriers) or 'no feature'}")


def proxies(recorded: Mapping[str, Mapping[str, Mapping[str, str]]], train: pl.DataFrame, groups: pl.DataFrame,
            features: Features) -> Iterator[Finding]:
    """Every association above the declared level needs a review on record (training part only: nothing else was looked at).

    `recorded`: what `associations` gave for these sealed rows; measured again where it is about other features or attributes.
    """
    wanted = {feature.name: set(groups.columns) for feature in features.registry if feature.name in train.columns}
    measured = recorded if {name: set(found) for name, found in recorded.items()} == wanted else associations(train, groups, features)
    for feature in features.registry:
        if feature.name not in measured:
            yield Finding(f"proxies.{feature.name}", Verdict.ERROR, note="the feature was not computed")
            continue
        for attribute, found in measured[feature.name].items():
            strength = max(float(value) for value in found.values())
            reviewed = feature.proxy is not None and feature.proxy.reviewed
            low = strength <= features.proxy_review_above
            yield Finding(
                f"proxies.{feature.name}.{attribute}", Verdict.PASS if low or reviewed else Verdict.FAIL, value=number(strength),
                # A reviewed proxy may stand above the level: it is not held against it.
                comparator="" if reviewed and not low else "<=",
                bound="" if reviewed and not low else f"{features.proxy_review_above:g}",
                n=train.height, because=features.proxy_because,
                note="" if low else (feature.proxy.note if reviewed and feature.proxy else "not assessed"),
                method=", ".join(f"{name} {value}" for name, value in found.items()),
            )
        if features.attribute_auc_review_above is not None:
            yield from _guessed(train[feature.name], groups, feature, features)


def _guessed(values: pl.Series, groups: pl.DataFrame, feature: Feature, features: Features) -> Iterator[Finding]:
    """How well one feature alone tells a group from all others: above the declared area somebody must have looked at it."""
    level = features.attribute_auc_review_above
    reviewed = feature.proxy is not None and feature.proxy.reviewed
    for attribute in groups.columns:
        area = attribute_auc(values, groups[attribute])
        low = area is None or (level is not None and area <= level)
        yield Finding(f"proxies.{feature.name}.{attribute}.auc", Verdict.ERROR if area is None else
                      Verdict.PASS if low or reviewed else Verdict.FAIL, value=None if area is None else _shown(area),
                      comparator="" if reviewed and not low else "<=", bound="" if reviewed and not low else f"{level:g}",
                      n=len(values), because=features.proxy_because, method="area under the ROC curve, group against the rest",
                      note="one group only: nothing to guess" if area is None else
                      "" if low else (feature.proxy.note if reviewed and feature.proxy else "not assessed"))


def leakage(work: Work, dataset: Dataset, train: pl.DataFrame, favourable: NDArray[np.int64]) -> Iterator[Finding]:
    """Values that became known after the decision, and features from which the outcome can nearly be read off.

    Times are compared in every part; the outcome is guessed on the training part alone. `favourable`: (n,), 1 or 0.
    """
    from compliance_assets.stages.s1_data_preparation import read_part

    features, decided = work.definition.system.features, work.definition.system.data.decided_at
    timed = [feature for feature in features.registry if feature.known_at is not None]
    if not timed and features.target_auc_review_above is None:
        yield Finding("leakage", Verdict.NOT_APPLICABLE, note="no feature says when it was known, and no level is declared above which "
                      "a feature that tells the outcome must be assessed")
    for feature in timed:
        late, rows, why = 0, 0, ""
        for part in PARTS:
            needed = {str(feature.known_at), str(decided), *feature.from_}
            raw = read_part(work.artefacts, dataset, part, [column.name for column in dataset.columns if column.name in needed])
            try:
                one = known_too_late(raw, str(feature.known_at), str(decided), feature.from_)
            except MeasurementRefused as refused:
                why = why or str(refused)
                continue
            late, rows = late + int(one.value or 0), rows + one.n
        id = f"leakage.{feature.name}.known_too_late"
        yield Finding(id, Verdict.ERROR, note=why.splitlines()[0]) if why else fact(
            id, late == 0, value=late, bound=0, n=rows, note=f"{feature.known_at} against {decided}; a value without a time counts")
    if features.target_auc_review_above is None:
        return
    for feature in features.registry:
        if feature.name in train.columns:
            yield _tells(train[feature.name], favourable, feature, features.target_auc_review_above)


def _tells(values: pl.Series, favourable: NDArray[np.int64], feature: Feature, level: float) -> Finding:
    """How well one feature alone tells the outcome: above the declared area somebody must have asked how it can know."""
    import polars as pl

    area = attribute_auc(values, pl.Series(favourable).cast(pl.String))
    low, assessed = area is None or area <= level, feature.gives_away
    reviewed = assessed is not None and assessed.reviewed
    return Finding(f"leakage.{feature.name}.tells_the_outcome", Verdict.ERROR if area is None else
                   Verdict.PASS if low or reviewed else Verdict.FAIL, value=None if area is None else _shown(area),
                   comparator="" if reviewed and not low else "<=", bound="" if reviewed and not low else f"{level:g}", n=len(values),
                   method="area under the ROC curve of this feature alone", because="what tells the outcome so well may have come after it",
                   note="one outcome only: nothing to guess" if area is None else
                   "" if low else assessed.note if reviewed and assessed else "not assessed")


def parity(work: Work, dataset: Dataset, stored: Mapping[str, pl.DataFrame]) -> Iterator[Finding]:
    """Single rows, computed as a server computes them, against the stored features of the same rows: equal to the bit."""
    import polars as pl

    from compliance_assets.stages.s1_data_preparation import read_part

    schema_now = serving_schema(work.definition)
    columns = source_columns(work.definition.system.features.registry)
    for part, features in stored.items():
        raw = read_part(work.artefacts, dataset, part, columns)
        if raw.height != features.height or raw.height == 0:
            yield fact(f"parity.{part}", False, value=features.height, bound=raw.height, note="rows cannot be matched")
            continue
        places = np.unique(np.linspace(0, raw.height - 1, PARITY_ROWS).astype(int)).tolist()
        different, note = 0, ""
        for place in places:
            row = raw.row(place, named=True)
            try:
                single = serving_features(work.definition, [row], schema=schema_now)
                expected = features[place].cast(dict(single.schema))
            except (StageError, pl.exceptions.PolarsError) as error:
                different, note = different + 1, note or str(error).splitlines()[0][:200]
                continue
            if not single.equals(expected, null_equal=True):
                different += 1
                note = note or "differs in " + ", ".join(name for name in single.columns
                                                         if not single[name].equals(expected[name], null_equal=True))
        yield fact(f"parity.{part}", different == 0, value=different, bound=0, n=len(places), note=note)


def summary(values: pl.Series, feature: Feature) -> dict[str, Any]:
    """Rows, missing, outside the documented range or categories, and lowest, highest or categories; JSON without floats."""
    missing = values.null_count() + (int(values.is_nan().sum()) if values.dtype.is_float() else 0)
    result: dict[str, Any] = {"rows": len(values), "missing": missing, "outside": 0}
    there = values.drop_nulls().drop_nans() if values.dtype.is_float() else values.drop_nulls()
    if feature.categories is not None:
        counted = {str(name): int(rows) for name, rows in sorted(there.cast(_text()).value_counts().iter_rows())}
        outside = sum(rows for name, rows in counted.items() if name not in feature.categories)
        # A value outside the registry may be personal (a name in the wrong column): counted, never written down.
        return result | {"outside": outside,
                         "categories": {name: rows for name, rows in counted.items() if name in feature.categories}}
    if feature.range is None or not there.dtype.is_numeric():
        return result | ({} if feature.dtype == "bool" and there.dtype == _truth() else {"outside": len(there)})
    low, high = feature.range
    inside = (there >= low) & (there <= high)
    finite = there.filter(there.is_finite()) if there.dtype.is_float() else there
    ends = {"lowest": number(float(finite.min())), "highest": number(float(finite.max()))} if len(finite) else {}  # type: ignore[arg-type]
    return result | {"outside": int((~inside).sum())} | ends


def associations(frame: pl.DataFrame, groups: pl.DataFrame, features: Features) -> dict[str, dict[str, dict[str, str]]]:
    """feature -> attribute -> {cramers_v, correlation_ratio}, as decimal strings of six digits."""
    coded = {attribute: _codes(groups[attribute]) for attribute in groups.columns}

    def with_each(values: pl.Series) -> dict[str, dict[str, str]]:
        numbers = values.cast(_number()).to_numpy() if values.dtype.is_numeric() else None
        codes = _codes(values) if numbers is None else _binned(numbers)
        return {attribute: {"cramers_v": _shown(cramers_v(codes, group))} |
                ({} if numbers is None else {"correlation_ratio": _shown(correlation_ratio(numbers, group))})
                for attribute, group in coded.items()}

    measured = [frame[feature.name] for feature in features.registry if feature.name in frame.columns]
    return dict(zip((values.name for values in measured), side_by_side(with_each, measured), strict=True))


def attribute_auc(values: pl.Series, group: pl.Series) -> float | None:
    """The largest area under the ROC curve of guessing one group against the rest from one feature alone; at least 0.5.

    Numbers by their order, either way round; categories by each one's own share of the group, which overrates a rare category.
    A gap ranks lowest. None where there is one group only. Ties count half (Mann and Whitney 1947).
    """
    from compliance_assets.metrics.intervals import delong

    ordered = values.dtype.is_numeric() or values.dtype == _truth()
    codes, coded = _codes(values if ordered else values.cast(_text())), _codes(group)
    areas = []
    for one in np.unique(coded):
        member = (coded == one).astype(np.int64)
        if ordered:
            score = codes.astype(np.float64)
        else:
            # Counted from 0; a missing category has the code -1 and a bin of its own here.
            place = codes - codes.min()
            score = (np.bincount(place, weights=member) / np.maximum(np.bincount(place), 1))[place]
        area = delong(member, score)
        if area is not None:
            areas.append(max(area.value, 1 - area.value))
    return max(areas, default=None)


def cramers_v(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Cramér's V of two coded columns, each (n,): 0 unrelated, 1 one determines the other; 0 if either is constant."""
    rows, columns = int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1
    if min(rows, columns) < 2:
        return 0.0
    table = np.bincount(first * columns + second, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    chi_squared = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi_squared / (table.sum() * (min(rows, columns) - 1))))


def correlation_ratio(values: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """Square root of the share of the variance of `values` (n,) that lies between groups; only finite values count."""
    usable = np.isfinite(values)
    values, group = values[usable], group[usable]
    if len(values) == 0 or np.ptp(values) == 0:
        return 0.0
    size = np.bincount(group)
    present = size > 0
    means = np.bincount(group, weights=values)[present] / size[present]
    between = float((size[present] * (means - values.mean()) ** 2).sum())
    return float(min(1.0, np.sqrt(between / float(((values - values.mean()) ** 2).sum()))))


def _binned(array: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ten equal-mass bins of (n,), numbered from 0 and none empty; missing and infinite values are a bin of their own."""
    finite = np.isfinite(array)
    edges = np.unique(np.quantile(array[finite], np.linspace(0, 1, BINS + 1)[1:-1])) if finite.any() else np.empty(0)
    bins = np.where(finite, 1 + np.searchsorted(edges, array, side="left"), 0)
    return np.asarray((np.cumsum(np.bincount(bins, minlength=1) > 0) - 1)[bins], dtype=np.int64)


def _codes(values: pl.Series) -> NDArray[np.int64]:
    """Whole numbers from 0, one per distinct value (a gap is a value)."""
    import polars as pl

    if isinstance(values.dtype, pl.String | pl.Enum):  # sorting a few names instead of every row
        names = values.cast(pl.String).unique().drop_nulls().sort() if isinstance(values.dtype, pl.String) else values.dtype.categories
        return values.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(len(names)).to_numpy()
    return values.rank("dense").cast(_count_type()).fill_null(0).to_numpy().astype(np.int64) - (0 if values.null_count() else 1)


def _typed_as(built: str, feature: Feature) -> bool:
    if feature.dtype == "category":
        return built == "String" or built.startswith(("Categorical", "Enum"))
    return built == str(feature_type(feature.dtype, None))


def _documented(feature: Feature) -> str:
    if feature.range is not None:
        return f"documented: [{feature.range[0]:g}, {feature.range[1]:g}] {feature.unit}"
    return f"documented: {', '.join(feature.categories)}" if feature.categories else "documented: true, false"


def _shown(value: float) -> str:
    return f"{value:.{_DIGITS}f}"


def _text() -> pl.DataType:
    import polars as pl

    return pl.String()


def _truth() -> pl.DataType:
    import polars as pl

    return pl.Boolean()


def _number() -> pl.DataType:
    import polars as pl

    return pl.Float64()


def _count_type() -> pl.DataType:
    import polars as pl

    return pl.Int64()
