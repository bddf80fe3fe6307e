"""Is nonsense refused before it reaches the model? Holdout rows with one value that the contract rules out, put to the interface.

The interface is the one that a server builds from the data contract (`serving.interface`), asked in-process: a value below or
above its range, a category that nobody declared, a value of another type. Counted is what it takes all the same; stage 6 asks the
running server again (Art. 15(4)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.errors import ServingError
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.policy.gates import Finding
from compliance_assets.policy.system import Perturbed
from compliance_assets.serving.interface import Problem, needed_columns, row_model, validated
from compliance_assets.stages.s1_data_preparation import Dataset, read_part
from compliance_assets.stages.s4_drift import alone
from compliance_assets.stages.s4_holdout import Holdout, finding_id, found, not_applicable
from compliance_assets.trust.canonical import Digest, parse_canonical

if TYPE_CHECKING:
    from compliance_assets.policy.contract import ColumnContract

ASKED = ("out_of_range", "unseen_category", "wrong_type")
ROWS = 50
_NOBODY_DECLARED = "(nobody declared this)"


def interface_refuses(seen: Holdout, bound: Perturbed) -> Finding:
    """Share of asked rows that the interface takes although one value lies outside the contract; every column by itself."""
    id = finding_id("robustness", "all", bound.metric)
    columns = {column.name: column for column in seen.work.definition.contract}
    wanted = [name for name in needed_columns(seen.system) if any(_wrong(bound.perturbation, columns[name]))]
    if not wanted:
        return not_applicable(id, bound, f"no column that a feature needs allows {bound.perturbation.replace('_', ' ')}")
    return found(id, bound, lambda: alone(seen, _taken(seen, bound, columns, wanted)))


def _taken(seen: Holdout, bound: Perturbed, columns: Mapping[str, ColumnContract], wanted: list[str]) -> Measurement:
    try:
        row_of = row_model(seen.system, tuple(columns.values()))
    except ServingError as refused:
        raise MeasurementRefused(str(refused), rule="typed interface", remedy="Complete the data contract.") from refused
    read = seen.work.artefacts.get_bytes
    raw = read_part(seen.work.artefacts, Dataset.model_validate(parse_canonical(read(Digest(seen.features.dataset)))), "holdout")
    places = np.unique(np.linspace(0, raw.height - 1, ROWS).astype(int)).tolist() if raw.height else []
    rows = [raw.select(needed_columns(seen.system)).row(place, named=True) for place in places]
    refused_as_they_are = sum(not _accepts(row_of, row) for row in rows)
    if refused_as_they_are:
        raise MeasurementRefused(f"{refused_as_they_are} of {len(rows)} holdout rows are refused as they are: nothing can be told "
                                 "from refusing them with one value more.", rule="the interface takes what training took",
                                 remedy="Correct the data contract.")
    groups, taken, asked = [], 0, 0
    for name in wanted:
        answers = [_accepts(row_of, {**row, name: value}) for row in rows for value in _wrong(bound.perturbation, columns[name])]
        groups.append(GroupMeasurement(name, sum(answers) / len(answers) if answers else None, n=len(answers)))
        taken, asked = taken + sum(answers), asked + len(answers)
    ends = wilson(taken, asked)
    lower, upper = (None, None) if ends is None else ends
    return Measurement(bound.metric, taken / asked if asked else None, lower, upper, asked, "Wilson", groups=tuple(groups),
                       note=f"{len(rows)} holdout rows, each needed column by itself" if asked else "no rows",
                       direction=METRICS[bound.metric].direction)


def _accepts(model: Any, row: Mapping[str, Any]) -> bool:
    try:
        validated(model, dict(row))
    except Problem:
        return False
    return True


def _wrong(kind: str, column: ColumnContract) -> Iterator[Any]:
    """Values that the contract of this column rules out, in this way."""
    if kind == "out_of_range" and column.categories is None and column.minimum is not None and column.maximum is not None:
        far = column.maximum - column.minimum + 1
        values = (column.minimum - far, column.maximum + far)
        yield from ((int(value) for value in values) if column.type == "int64" else map(float, values))
    elif kind == "unseen_category" and column.categories is not None and column.type in ("str", "int64"):
        yield _NOBODY_DECLARED if column.type == "str" else max(int(value) for value in column.categories) + 1
    elif kind == "wrong_type":
        yield 1.5 if column.type in ("str", "bool") else "12"
        yield [1]
