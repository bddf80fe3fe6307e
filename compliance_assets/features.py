"""The one function for training and serving: raw columns in, registered features out.

Training-serving skew comes from computing a feature twice. Here it is computed once: stage 2 and the model server call the
system's own `build` through this module, with nothing in sight but the columns that the registry declares. It stands
between the stages and the rooms below them, because both a stage and `serving` need it and neither may know the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import SourceError, StageError
from compliance_assets.policy.system import Feature

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.definition import Definition


def source_columns(registry: Sequence[Feature]) -> tuple[str, ...]:
    """The raw columns that the features are computed from, in the order of first use: the server's input."""
    return tuple(dict.fromkeys(column for feature in registry for column in feature.from_))


def polars_type(name: str) -> pl.DataType:
    """The polars type of a contract's type: int64, float64, str, bool or date."""
    import polars as pl

    known: dict[str, pl.DataType] = {"int64": pl.Int64(), "float64": pl.Float64(), "str": pl.String(), "bool": pl.Boolean(),
                                     "date": pl.Date()}
    if name not in known:
        raise SourceError(f"The contract names the type {name}.", rule="contract types", value=name,
                          remedy=f"Use one of {', '.join(known)}.")
    return known[name]


def feature_type(dtype: str, categories: Sequence[str] | None) -> pl.DataType:
    """The polars type of a registered feature; a category is an Enum of its declared categories, in their order."""
    import polars as pl

    if dtype == "category":
        return pl.Enum(list(categories or ()))
    plain: dict[str, pl.DataType] = {"float64": pl.Float64(), "float32": pl.Float32(), "int64": pl.Int64(),
                                     "int32": pl.Int32(), "bool": pl.Boolean()}
    return plain[dtype]


def compute(definition: Definition, raw: pl.DataFrame) -> pl.DataFrame:
    """What the system's `build` makes of `raw` (n rows, any columns): n rows, the columns it returned, not yet checked.

    Only the declared source columns are visible to it. StageError: a source column is missing, the code looks at another
    column, returns something else than a LazyFrame, or changes the number of rows.
    """
    import polars as pl

    features = definition.system.features
    columns, there = source_columns(features.registry), set(raw.columns)
    absent = [column for column in columns if column not in there]
    if absent:
        raise StageError(f"Features are computed from columns that are not there: {', '.join(absent)}.",
                         rule="feature sources", value=", ".join(absent), remedy="Correct `from` in the feature registry.")
    visible = pl.DataFrame([raw.get_column(column) for column in columns]).rechunk()
    rows, enough = visible.height, 4 * pl.thread_pool_size()
    if 0 < rows < enough:
        # polars cuts a frame into one piece per thread, takes a piece of one row for a scalar, and divides whole columns by a
        # constant through its reciprocal: the same row, alone and among others, then differs in the last bit. Repeated until
        # no piece can be that short, it does not. (Column by column: joining frames of one row keeps their columns scalars.)
        times = -(-enough // rows)
        visible = pl.DataFrame([pl.concat([column] * times, rechunk=True) for column in visible.iter_columns()])
    built = definition.load_code(features.build)(visible.lazy())
    if not isinstance(built, pl.LazyFrame):
        raise StageError(f"{features.build} returned a {type(built).__name__}.", rule="features are lazy",
                         value=type(built).__name__, remedy="Return a polars LazyFrame.")
    try:
        frame = built.collect()
    except pl.exceptions.ColumnNotFoundError as error:
        raise StageError(f"{features.build} looks at a column that no feature declares: {str(error).splitlines()[0]}.",
                         rule="feature sources", value=str(error).splitlines()[0],
                         remedy="Declare it under `from` of the feature that uses it.") from error
    except pl.exceptions.PolarsError as error:
        raise StageError(f"{features.build} cannot be computed: {str(error).splitlines()[0][:300]}.", rule="feature code",
                         value=type(error).__name__, remedy="Mend the expression; check it on a few raw rows.") from error
    if frame.height != visible.height:
        raise StageError(f"{features.build} made {frame.height} rows of {visible.height}.", rule="features keep rows",
                         value=str(frame.height), remedy="Return exactly one row for each row, in the same order.")
    return frame.head(rows)


def registered(frame: pl.DataFrame, registry: Sequence[tuple[str, pl.DataType]]) -> pl.DataFrame:
    """The registered features only, in registry order, in their registered types; what the model is fitted on and asked with.

    StageError: a feature is missing, has another type, or holds a category that is not registered.
    """
    import polars as pl

    columns: list[pl.Series] = []
    for name, dtype in registry:
        if name not in frame.columns:
            raise StageError(f"The feature {name} was not computed.", rule="registered features", value=name,
                             remedy="Compute it in the system's build, or take it out of the registry.")
        series = frame[name]
        if isinstance(dtype, pl.Enum) and not isinstance(series.dtype, pl.Enum):
            texts = series.cast(pl.String)
            try:
                series = texts.cast(dtype)
            except pl.exceptions.InvalidOperationError:
                there = texts.drop_nulls()
                outside = there.filter(~there.is_in(dtype.categories.to_list()))
                raise StageError(f"The feature {name} has the category {outside[0]!r}, which is not registered.",
                                 rule="registered categories", value=str(outside[0]),
                                 remedy="Register the category, or map it in the system's build.") from None
        if series.dtype != dtype:
            raise StageError(f"The feature {name} is {series.dtype}, but {dtype} is registered.", rule="registered types",
                             value=str(series.dtype), remedy="Cast it in the system's build.")
        columns.append(series)
    return pl.DataFrame(columns)


def registry_types(registry: Iterable[Feature]) -> tuple[tuple[str, pl.DataType], ...]:
    """Name and polars type of every registered feature, in order."""
    return tuple((feature.name, feature_type(feature.dtype, feature.categories)) for feature in registry)


def serving_schema(definition: Definition) -> dict[str, pl.DataType]:
    """Name and type of every raw column that the server takes, from the data contract."""
    types = {column.name: column.type for column in definition.contract if column.type is not None}
    wanted = source_columns(definition.system.features.registry)
    absent = [column for column in wanted if column not in types]
    if absent:
        raise SourceError(f"The contract gives no type for {', '.join(absent)}.", rule="contract covers the server's input",
                          value=", ".join(absent), remedy="Add an expectation of the column's type to the suite.")
    return {column: polars_type(types[column]) for column in wanted}


def serving_features(definition: Definition, rows: Sequence[Mapping[str, Any]], *,
                     schema: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """The registered features of raw rows, as training computed them: (len(rows), number of features).

    Every row needs every source column (null must be written, not left out). `schema`: what `serving_schema` gave, read
    once for many calls. StageError: a column is left out, a value has another type, or what `registered` refuses.
    """
    wanted = serving_schema(definition) if schema is None else schema
    columns: dict[str, list[Any]] = {}
    for name in wanted:
        left_out = [number for number, row in enumerate(rows) if name not in row]
        if left_out:
            raise StageError(f"Row {left_out[0]} has no {name}.", rule="every input is there", value=name,
                             remedy="Send the column; write null where nothing is known.")
        columns[name] = [row[name] for row in rows]
    return features_of_columns(definition, columns, wanted, registry_types(definition.system.features.registry))


def features_of_columns(definition: Definition, columns: Mapping[str, Sequence[Any]], schema: Mapping[str, pl.DataType],
                        types: Sequence[tuple[str, pl.DataType]]) -> pl.DataFrame:
    """The same, column by column, for a server that has read `serving_schema` and `registry_types` once."""
    import polars as pl

    series: list[pl.Series] = []
    for name, dtype in schema.items():
        try:
            series.append(pl.Series(name, columns[name], dtype=dtype, strict=True))
        except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
            raise StageError(f"{name} is not {dtype} in every row.", rule="contract types", value=name,
                             remedy="Send the type that the contract names.") from error
    return registered(compute(definition, pl.DataFrame(series)), types)
