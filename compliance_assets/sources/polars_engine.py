"""Great Expectations on Polars: its expectations judge, Polars counts, and its own pandas code answers what Polars does not.

Great Expectations has no engine for Polars. This one is a subclass of its pandas engine (its expectations about types ask for
one), for which every metric that the pandas engine knows is registered as a leaf without dependencies. So a whole suite is
one wave of its graph, and one streaming pass answers all counts (`polars_metrics`); a second pass settles what the first left
open. Any other metric is computed by the pandas engine itself on just the columns that it names. A metric that cannot be
computed fails alone, with the message that the pandas engine gives. Unexpected values are not collected where the result
excludes them: what must not be in evidence is not read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.metrics.metric_provider import MetricProvider
from great_expectations.expectations.registry import _registered_metrics, register_metric
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.metrics_calculator import MetricsCalculator
from great_expectations.validator.validator import Validator

from compliance_assets.sources.polars_metrics import Compiled, compiled

if TYPE_CHECKING:
    import pandas as pd

_BATCH = "prepared"
_AVERAGES = {"column.mean": "mean", "column.standard_deviation": "std", "column.sum": "sum"}
_COLUMN_KEYS = ("column", "column_A", "column_B")
_NOT_COLLECTED = (".unexpected_values", ".unexpected_rows", ".unexpected_index_list", ".unexpected_value_counts")


def run(frame: pl.DataFrame, configurations: Sequence[Any], result_format: Mapping[str, Any]) -> list[Any]:
    """Each expectation configuration judged on `frame`: Great Expectations' own validation results, in no certain order."""
    engine = PolarsExecutionEngine(frame)
    validator = Validator(execution_engine=engine)
    validator.metrics_calculator.show_progress_bars = False
    validator._determine_progress_bars = lambda: False
    ordered = validator.process_expectations_for_validation(list(configurations))
    try:
        return list(validator.graph_validate(configurations=ordered, runtime_configuration={"result_format": dict(result_format)}))
    finally:
        # Validator and engine refer to each other: without this the whole table would stay until the next collection of garbage.
        engine.forget()


def pandas_table(frame: pl.DataFrame) -> pd.DataFrame:
    """The table in pandas. Integers and truth values with gaps keep their type (pandas would make them floats or objects)."""
    table = frame.to_pandas()
    for column in frame.iter_columns():
        if column.null_count() and column.dtype.is_integer():
            table[column.name] = frame[column.name].to_pandas(use_pyarrow_extension_array=False).astype(str(column.dtype))
        elif column.null_count() and column.dtype == pl.Boolean:
            table[column.name] = table[column.name].astype("boolean")
    return table


class PolarsExecutionEngine(PandasExecutionEngine):  # type: ignore[misc]  # the library is untyped here
    """An engine over one Polars table. Values and failures are kept, so that a retry of the graph costs nothing."""

    def __init__(self, frame: pl.DataFrame) -> None:
        super().__init__(name="polars")
        _register_leaves(type(self))
        self._frame = frame
        self._known: dict[Any, Any] = {}
        self._failed: dict[Any, str] = {}

    def forget(self) -> None:
        """Let go of the table; what was computed stays."""
        self._frame = self._frame.clear()

    def resolve_metrics(self, metrics_to_resolve: Iterable[Any], metrics: Any = None, runtime_configuration: Any = None) -> dict[Any, Any]:
        """The values of these metrics. MetricResolutionError, naming the metric, for one that cannot be computed."""
        wanted = list(metrics_to_resolve)
        self._compute([metric for metric in wanted if metric.id not in self._known and metric.id not in self._failed])
        for metric in wanted:
            if metric.id in self._failed:
                raise MetricResolutionError(message=self._failed[metric.id], failed_metrics=(metric,))
        return {metric.id: self._known[metric.id] for metric in wanted}

    def _compute(self, wanted: Sequence[Any]) -> None:
        plans: dict[Any, Compiled] = {}
        rest: list[Any] = []
        for metric in wanted:
            if self._needs_no_data(metric) or self._averaged(metric):
                continue
            plan = compiled(metric.metric_name, metric.metric_domain_kwargs, metric.metric_value_kwargs, self._frame.schema)
            if plan is None:
                rest.append(metric)
            else:
                plans[metric] = plan
        first = self._collect([plan.expressions for plan in plans.values()])
        later: list[Any] = []
        for (metric, plan), found in zip(plans.items(), first, strict=True):
            value = plan.read(found)
            if value is not None:
                self._known[metric.id] = value
            else:
                (later if plan.later is not None else rest).append(metric)
        second = self._collect([(plan.later,) for plan in (plans[metric] for metric in later) if plan.later is not None])
        for metric, found in zip(later, second, strict=True):
            self._known[metric.id] = int(found[0])
        for columns, metrics in self._by_columns(rest):
            self._ask_pandas(columns, metrics)

    def _collect(self, expressions: Sequence[Sequence[pl.Expr]]) -> list[list[Any]]:
        """All expressions in one streaming pass, in the shape they came."""
        if not expressions:
            return []
        named = [item.alias(f"{place}.{part}") for place, group in enumerate(expressions) for part, item in enumerate(group)]
        row = iter(self._frame.lazy().select(named).collect(engine="streaming").row(0))
        return [[next(row) for _ in group] for group in expressions]

    def _needs_no_data(self, metric: Any) -> bool:
        """Answers what the schema knows, and leaves out what the result will not show."""
        name, domain, values = metric.metric_name, metric.metric_domain_kwargs, metric.metric_value_kwargs
        if domain.get("row_condition"):
            return False
        if name == "table.columns":
            self._known[metric.id] = list(self._frame.columns)
        elif name == "table.column_count":
            self._known[metric.id] = self._frame.width
        elif name == "table.column_types":
            self._known[metric.id] = [{"name": name, "type": dtype} for name, dtype in self._pandas_types().items()]
        elif name.endswith(_NOT_COLLECTED) and "result_format" in values and _excludes_values(values["result_format"]):
            self._known[metric.id] = []
        else:
            return False
        return True

    def _averaged(self, metric: Any) -> bool:
        """A mean, deviation or sum of a plain number column, by the pandas method that Great Expectations would call; without
        its search for decimals among a million floats, which takes a hundred times as long as the sum."""
        domain = metric.metric_domain_kwargs
        if metric.metric_name not in _AVERAGES or domain.get("row_condition") or domain.get("column") not in self._frame.columns:
            return False
        column = self._frame.select(domain["column"])
        if not (column.dtypes[0].is_float() or column.dtypes[0].is_integer()):
            return False
        self._known[metric.id] = getattr(pandas_table(column)[domain["column"]], _AVERAGES[metric.metric_name])()
        return True

    def _pandas_types(self) -> Mapping[str, Any]:
        """The type of each column as pandas would hold it: it depends on whether anything is missing, not on the values."""
        sample = pl.DataFrame([
            pl.Series(column.name, [None] if column.null_count() else column.head(1), dtype=column.dtype)
            if self._frame.height else column for column in self._frame.iter_columns()])
        return dict(pandas_table(sample).dtypes)

    def _by_columns(self, metrics: Sequence[Any]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
        groups: dict[tuple[str, ...], list[Any]] = {}
        for metric in metrics:
            domain = metric.metric_domain_kwargs
            of_table = metric.metric_name.startswith("table.") and metric.metric_name != "table.row_count"
            groups.setdefault(tuple(self._frame.columns) if of_table else self._columns_of(domain), []).append(metric)
        yield from groups.items()

    def _columns_of(self, domain: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns that the domain names, in the table's order; all of them where it names none or hides them in a query."""
        named = {domain[key] for key in _COLUMN_KEYS if key in domain}
        if "column_list" in domain:
            named.update(domain["column_list"])
        condition = domain["row_condition"] if "row_condition" in domain else None
        hidden = isinstance(condition, str) or (condition and not (inside := _columns_in(condition)))
        if condition and not hidden:
            named.update(inside)
        columns = tuple(name for name in self._frame.columns if name in named)
        return tuple(self._frame.columns) if hidden or not columns else columns

    def _ask_pandas(self, columns: tuple[str, ...], metrics: Sequence[Any]) -> None:
        """Great Expectations' pandas engine on these columns. All at once; where one fails, each by itself.

        Decimals each by themselves and afresh: that engine turns them into floats in place when it averages, so that what it
        says of their lengths and sums depends on which metric came first.
        """
        part = self._frame.select(columns)
        changes = any(dtype.is_decimal() for dtype in part.schema.values())
        table = pandas_table(part)
        together, failures = ([], []) if changes else _calculated(table, metrics)
        for place, metric in enumerate(metrics):
            if changes or failures:
                alone, reasons = _calculated(pandas_table(part) if changes else table, [metric])
            else:
                alone, reasons = [together[place]], []
            if reasons:
                self._failed[metric.id] = reasons[0]
            else:
                self._known[metric.id] = alone[0]


def _calculated(table: pd.DataFrame, metrics: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The value of each metric, in order, and the messages of what could not be computed (then the values count for nothing)."""
    engine = PandasExecutionEngine(batch_data_dict={_BATCH: table.copy(deep=False)})
    fresh = [MetricConfiguration(metric.metric_name, copy.deepcopy(metric.metric_domain_kwargs), copy.deepcopy(metric.metric_value_kwargs))
             for metric in metrics]
    values, aborted = MetricsCalculator(engine, show_progress_bars=False).compute_metrics(fresh)
    failures = sorted(part["exception_info"].exception_message for part in aborted.values())
    absent = [metric.metric_name for metric in fresh if metric.id not in values]
    if absent and not failures:
        failures = [f"{absent[0]} could not be computed"]
    return [values[metric.id] if metric.id in values else None for metric in fresh], failures


def _excludes_values(result_format: Any) -> bool:
    return isinstance(result_format, Mapping) and result_format.get("exclude_unexpected_values") is True


def _columns_in(condition: Any) -> set[str]:
    """The columns that a row condition object looks at; none if it is of an unknown kind."""
    body = condition if isinstance(condition, Mapping) else condition.dict() if hasattr(condition, "dict") else {}
    if "pass_through_filter" in body:
        return set()
    found: set[str] = set()
    if "column" in body:
        found.add(str(body["column"]["name"]))
    for part in body["conditions"] if "conditions" in body else ():
        inside = _columns_in(part)
        if not inside:
            return set()
        found |= inside
    return found


def _register_leaves(engine: type[PolarsExecutionEngine]) -> None:
    """Every metric of the pandas engine, for this engine, as a leaf. Done again at each start: a suite may bring metrics."""
    for name, definition in list(_registered_metrics.items()):
        providers = definition["providers"]
        if PandasExecutionEngine.__name__ not in providers or engine.__name__ in providers:
            continue
        known = providers[PandasExecutionEngine.__name__][0]
        leaf = type("Leaf", (MetricProvider,), {
            "domain_keys": known.domain_keys, "value_keys": known.value_keys, "default_kwarg_values": known.default_kwarg_values})
        register_metric(metric_name=name, metric_domain_keys=definition["metric_domain_keys"],
                        metric_value_keys=definition["metric_value_keys"], execution_engine=engine, metric_class=leaf,
                        metric_provider=None)
