"""When stage 1 refuses: what each of its ten gates looks at, finding by finding.

Each function takes the sealed dataset (or its parts) and the declaration in force, and yields findings; which of them may
be passed is decided by `policy.gates`. Numbers are counts, so no verdict depends on row order or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from compliance_assets.metrics import quality
from compliance_assets.metrics.currentness import outdated_share
from compliance_assets.metrics.drift import measure_drift
from compliance_assets.metrics.groups import coded
from compliance_assets.metrics.label_audit import conflicting_labels
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused
from compliance_assets.metrics.profiles import Profile
from compliance_assets.policy.gates import Finding, Verdict, fact, number
from compliance_assets.policy.gates import judge as held_against
from compliance_assets.policy.system import seconds_of
from compliance_assets.sources import declared_digest
from compliance_assets.sources.expectations import validate
from compliance_assets.sources.partition import (
    PARTS,
    UNDECLARED,
    UNKNOWN,
    counts,
    group_column,
    group_names,
    part_of_each,
)
from compliance_assets.stages.outcomes import is_good, learned, said
from compliance_assets.stages.stage import Work
from compliance_assets.trust.canonical import sha256_bytes

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.system import Bound, Data, RowsChange, Shift, System
    from compliance_assets.stages.s1_data_preparation import Dataset

def declared_source(system: System) -> dict[str, Any]:
    """The source block of the declaration, numbers as decimal strings."""
    return cast(dict[str, Any], system.declaration()["data"]["source"])


def source(dataset: Dataset, report: Mapping[str, Any], system: System) -> Iterator[Finding]:
    declared = declared_digest(system.data.source)
    yield fact("source.snapshot", report["source"]["digest"] == dataset.source, value=dataset.source,
               bound=report["source"]["digest"], note=report["source"]["description"])
    if declared is not None:
        yield fact("source.digest", dataset.source == declared, value=dataset.source, bound=str(declared))
    else:
        yield fact("source.simulator", report["source"]["declared"] == declared_source(system),
                   note="a simulated world: its code is part of the definition; rows, seed and knobs are the declared ones")


def contract(work: Work, report: Mapping[str, Any], frame: pl.DataFrame) -> Iterator[Finding]:
    data = work.definition.system.data
    suite = work.definition.file(data.contract).read_bytes()
    recorded = report["contract"]
    if recorded["suite_sha256"] != sha256_bytes(suite):
        # Another contract is in force now than when the data was prepared: the sealed rows are held against this one.
        prepared = frame.drop([group_column(attribute) for attribute in data.protected if group_column(attribute) in frame])
        recorded = validate(prepared.sort(data.key, maintain_order=True), suite)
    for column in data.prohibited_columns:
        yield fact(f"contract.prohibited.{column}", column not in frame.columns, value="there" if column in frame.columns else "absent",
                   bound="absent", because="the declaration keeps this column out of the prepared data")
    seen: dict[str, int] = {}
    for result in recorded["results"]:
        kwargs = result["kwargs"]
        columns = [str(kwargs[name]) for name in ("column", "column_A", "column_B") if name in kwargs]
        columns += [str(name) for name in kwargs["column_list"]][:1] if "column_list" in kwargs else []
        name = ".".join(["contract", result["type"], "-".join(columns) or "table"])
        seen[name] = seen.get(name, 0) + 1
        value = result["unexpected_count"] if "unexpected_count" in result else result.get("observed")
        note = result["error"] if "error" in result else _terms(kwargs)
        yield Finding(
            name if seen[name] == 1 else f"{name}#{seen[name]}", Verdict.PASS if result["success"] else Verdict.FAIL,
            value=None if value is None else str(value), n=result.get("element_count"),
            because=str(result["meta"].get("because", "")), note=note, method=f"Great Expectations {recorded['version']}",
        )


def _terms(kwargs: Mapping[str, Any]) -> str:
    """What the expectation asks for, in a few words."""
    shown = {name: value for name, value in kwargs.items() if not name.startswith("column") and value is not None}
    return ", ".join(f"{name} {value}" for name, value in sorted(shown.items()))[:300]


def _groups(frame: pl.DataFrame, data: Data) -> tuple[dict[str, pl.Series], dict[str, tuple[str, ...]]]:
    """Each protected attribute's group of every row, and the groups that were declared for it."""
    return ({attribute: coded(attribute, {attribute: frame[group_column(attribute)]}) for attribute in data.protected},
            {attribute: group_names(declared) for attribute, declared in data.protected.items()})


def completeness(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    """Declared columns in all rows, or in the emptiest group: gaps that gather in one group hide behind a good average."""
    if not data.completeness:
        yield Finding("completeness", Verdict.NOT_APPLICABLE, note="no bound on completeness is declared beyond the contract")
        return
    attributes, expected = _groups(frame, data)
    for bound in data.completeness:
        for over in bound.over or ("all",):
            id = ".".join(["completeness", *([over] if over != "all" else []), "-".join(bound.columns)])
            try:
                measured = quality.completeness(frame, bound.columns) if over == "all" else quality.completeness_by_group(
                    frame, bound.columns, over, attributes, expected_groups=expected)
            except MeasurementRefused as refused:
                yield _unmeasured(id, bound, str(refused))
            else:
                yield held_against(id, measured, bound)


def currentness(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    """Ages on the declared day, in all rows or in the most outdated group; nobody's row lies in the future of that day."""
    if not data.currentness:
        yield Finding("currentness", Verdict.NOT_APPLICABLE, note="no bound on the age of rows is declared")
        return
    attributes, expected = _groups(frame, data)
    for bound in data.currentness:
        oldest, future = timedelta(seconds=seconds_of(bound.oldest)), f"currentness.{bound.column}.after_{bound.as_of}"
        for over in bound.over or ("all",):
            id = ".".join(["currentness", *([over] if over != "all" else []), bound.column])
            try:
                measured = outdated_share(frame, bound.column, bound.as_of, oldest, over, attributes, expected_groups=expected)
            except MeasurementRefused as refused:
                yield _unmeasured(id, bound, str(refused))
                continue
            yield held_against(id, measured, bound)
            if over == (bound.over or ("all",))[0]:
                later = int(dict(measured.detail)["after_that_day"])
                yield fact(future, later == 0, value=later, bound=0, n=frame.height, note="rows of a day that had not come yet")


def shift(work: Work, frame: pl.DataFrame, before: Callable[[str], pl.DataFrame]) -> Iterator[Finding]:
    """Declared columns against the dataset behind the model in production, or behind the first one. `before` reads a dataset."""
    declared, rows = work.definition.system.data.shift, work.definition.system.data.rows_change
    if rows is not None:
        yield _rows_changed(work, frame, before, rows)
    if not declared and rows is None:
        yield Finding("shift", Verdict.NOT_APPLICABLE, note="no bound on shift is declared")
    for place, bound in enumerate(declared):
        id = f"shift.{bound.against}.{bound.metric}" + (f"#{place + 1}" if any(
            (one.against, one.metric) == (bound.against, bound.metric) for one in declared[:place]) else "")
        if bound.against not in work.references:
            yield Finding(id, Verdict.NOT_APPLICABLE, comparator=bound.comparator, bound=bound.text, because=bound.because,
                          note="first release: no approved model's data to compare with")
            continue
        try:
            yield held_against(id, _shifted(frame, before(work.references[bound.against]), bound), bound)
        except MeasurementRefused as refused:
            yield _unmeasured(id, bound, str(refused))


def _rows_changed(work: Work, frame: pl.DataFrame, before: Callable[[str], pl.DataFrame], declared: RowsChange) -> Finding:
    id, bound = f"shift.{declared.against}.rows", f"{declared.at_most:g}"
    if declared.against not in work.references:
        return Finding(id, Verdict.NOT_APPLICABLE, comparator="<=", bound=bound, because=declared.because,
                       note="first release: no approved model's data to compare with")
    earlier = before(work.references[declared.against]).height
    change = abs(frame.height - earlier) / earlier
    return fact(id, change <= declared.at_most, value=number(change), bound=bound, n=frame.height, comparator="<=",
                because=declared.because, note=f"{earlier} rows then, {frame.height} now")


def _shifted(now: pl.DataFrame, before: pl.DataFrame, bound: Shift) -> Measurement:
    for name, frame in (("this dataset", now), ("the approved dataset", before)):
        absent = [column for column in bound.columns if column not in frame.columns]
        if absent:
            raise MeasurementRefused(f"{name} has no column {', '.join(absent)}.", rule="declared columns are compared",
                                     value=", ".join(absent), remedy="Correct data.shift.columns.")
    numeric = [column for column in bound.columns if now[column].dtype.is_numeric() and before[column].dtype.is_numeric()]
    profile = Profile.of(before, numeric=numeric, categorical=[column for column in bound.columns if column not in numeric])
    return measure_drift([bound.metric], profile, now)[0]


def _unmeasured(id: str, bound: Bound, why: str) -> Finding:
    return Finding(id, Verdict.ERROR, comparator=bound.comparator, bound=bound.text, judged_on=bound.judged_on, because=bound.because,
                   note=why.splitlines()[0])


def uniqueness(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    missing = frame[data.key].null_count()
    yield fact(f"uniqueness.{data.key}.missing", missing == 0, value=missing, bound=0, n=frame.height)
    repeated = quality.duplicate_keys(frame, data.key).value
    yield fact(f"uniqueness.{data.key}.repeated", repeated == 0, value=number(repeated), bound=0, n=frame.height)


def label(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    target, column = data.target, frame[data.target.column]
    yield fact("label.missing", column.null_count() == 0, value=column.null_count(), bound=0, n=frame.height)
    kinds = column.drop_nulls().n_unique()
    if target.task == "binary":
        yield fact("label.kinds", kinds == 2, value=kinds, bound=2, note="a label of one kind teaches nothing")
    else:
        readable = learned(column, target)
        stray = readable.null_count() - column.null_count()
        yield fact("label.undeclared", stray == 0, value=stray, bound=0, n=frame.height,
                   note="labels that are no finite number" if target.task == "regression" else "labels that are no declared class")
        if target.task == "multiclass":
            yield fact("label.kinds", readable.drop_nulls().n_unique() == len(target.classes or ()), value=readable.drop_nulls().n_unique(),
                       bound=len(target.classes or ()), note="a class that nobody has is never learned")
    good = is_good(column, target).drop_nulls()
    yield fact("label.favourable", 0 < int(good.sum()) < len(good), value=int(good.sum()), n=len(good),
               note=f"{said(target)}: some, and not all")
    if target.prevalence is None:
        yield Finding("label.prevalence", Verdict.NOT_APPLICABLE, note="no band is declared")
    elif len(good):
        low, high = target.prevalence
        share = int(good.sum()) / len(good)
        yield fact("label.prevalence", low <= share <= high, value=number(share), bound=f"[{low:g}, {high:g}]", n=len(good),
                   comparator="in")


def conflicting(frame: pl.DataFrame, data: Data, seen: Sequence[str]) -> Iterator[Finding]:
    """Who looks the same and is labelled differently, where that is bounded. `seen`: the columns that features come from."""
    bound = data.conflicting_labels
    if bound is None:
        yield Finding("label.conflicting", Verdict.NOT_APPLICABLE, note="no bound on conflicting labels is declared")
        return
    attributes, expected = _groups(frame, data)
    labels = is_good(frame[data.target.column], data.target).fill_null(False).to_numpy().astype(int)
    for over in bound.over or ("all",):
        id = ".".join(["label", *([over] if over != "all" else []), "conflicting"])
        try:
            yield held_against(id, conflicting_labels(frame, seen, labels, over, attributes, expected_groups=expected), bound)
        except MeasurementRefused as refused:
            yield _unmeasured(id, bound, str(refused))


def representativeness(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    reference = data.reference_population
    for attribute, shares in sorted(reference.shares.items()):
        counted = counts(frame[group_column(attribute)])
        for group, share in sorted(shares.items()):
            # Counted, not looked up: a declared group that nobody belongs to has no rows.
            found = sum(rows for name, rows in counted.items() if name == group) / frame.height
            low, high = share - reference.tolerance, share + reference.tolerance
            yield fact(f"representativeness.{attribute}.{group}", abs(found - share) <= reference.tolerance, value=number(found),
                       bound=f"[{low:g}, {high:g}]", n=frame.height, comparator="in", because=reference.because)


def cell_sizes(frame: pl.DataFrame, data: Data) -> Iterator[Finding]:
    minimum = data.minimum_cell
    attributes, expected = _groups(frame, data)
    labels = is_good(frame[data.target.column], data.target).fill_null(False).to_numpy().astype(int)
    for attribute, groups in attributes.items():
        stray = counts(groups)
        outside = sum(rows for group, rows in stray.items() if group not in (*expected[attribute], UNKNOWN))
        yield fact(f"cell_sizes.{attribute}.{UNDECLARED}", outside == 0, value=outside, bound=0, n=frame.height,
                   note=f"{sum(rows for group, rows in stray.items() if group == UNKNOWN)} rows are {UNKNOWN}")
    for over in (*data.protected, *data.intersections):
        measured = quality.smallest_cell(over, attributes, y=labels, expected_groups=expected)
        declared = {group for group in measured.groups if UNKNOWN not in group.name.split("*")
                    and UNDECLARED not in group.name.split("*")}
        for group in sorted(declared, key=lambda cell: cell.name):
            enough = (group.n >= minimum.rows and (group.positives or 0) >= minimum.positives
                      and (group.negatives or 0) >= minimum.negatives)
            yield fact(f"cell_sizes.{over}.{group.name}", enough, value=group.n, bound=minimum.rows, n=group.n, comparator=">=",
                       note=f"{group.positives} favourable, {group.negatives} not; declared minimum {minimum.text}")


def leakage(parts: Mapping[str, pl.DataFrame], data: Data, seen: Sequence[str]) -> Iterator[Finding]:
    """Nobody stands in two parts; where it is bounded, hardly anybody's double does. `seen`: the columns that features come from."""
    for name, part in parts.items():
        yield fact(f"leakage.{name}.rows", part.height > 0, value=part.height, note="no part may be empty")
    for column in dict.fromkeys((data.split.by, data.key)):
        shared = quality.split_key_overlap(parts, column).value
        yield fact(f"leakage.{column}.shared", shared == 0, value=number(shared), bound=0,
                   because="who is in two parts is known already when tested")
    for name, part in parts.items():
        wrong = int((part_of_each(part[data.split.by], data.split) != PARTS.index(name)).sum())
        yield fact(f"leakage.{name}.assignment", wrong == 0, value=wrong, bound=0, n=part.height,
                   note="rows in another part than the declared split puts them")
    if data.identical_rows is None:
        yield Finding("leakage.identical_rows", Verdict.NOT_APPLICABLE, note="no bound on identical rows in two parts is declared")
    else:
        try:
            yield held_against("leakage.identical_rows", quality.split_row_overlap(parts, seen), data.identical_rows)
        except MeasurementRefused as refused:
            yield _unmeasured("leakage.identical_rows", data.identical_rows, str(refused))
