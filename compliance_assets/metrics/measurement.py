"""A measurement: a number, how sure we are of it, on how many rows, and by what method.

Nothing here is judged. A value that could not be measured is `None` with a note that says why; it is never a default,
and never a number that a bound could mistake for a good one. Standard library only, so that `policy` may read
measurements without loading the numerical libraries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from compliance_assets.errors import ComplianceError

Direction = Literal["higher", "lower", "target"]


class MeasurementRefused(ComplianceError):
    """What was handed in cannot be measured at all: wrong shapes, scores that are not numbers, an unknown metric."""


@dataclass(frozen=True)
class GroupMeasurement:
    """One group's share of a measurement (for drift and completeness a "group" is a column).

    `n` counts rows; `positives` and `negatives` count true labels where the metric has labels, else they are None.
    """

    name: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    n: int = 0
    positives: int | None = None
    negatives: int | None = None

    def __post_init__(self) -> None:
        _refuse_nonsense(self.name, self.value, self.lower, self.upper)

    def as_json(self) -> dict[str, str | int | None]:
        """For a signed record: numbers as the shortest decimal strings that read back the same."""
        texts = {name: None if number is None else repr(float(number))
                 for name, number in (("value", self.value), ("lower", self.lower), ("upper", self.upper))}
        return {"name": self.name, **texts, "n": self.n, "positives": self.positives, "negatives": self.negatives}


@dataclass(frozen=True)
class Measurement:
    """One metric, measured once. `lower` and `upper` are a 95 % interval, or None where the method gives none.

    `n` is the rows used; for a comparison of groups, the rows of the smallest group. `over` is "all", an attribute
    ("sex") or an intersection ("sex*age_band"). `detail` holds further numbers by name. `direction` says which way is
    better: a property of the metric, not a bound.
    """

    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    n: int
    method: str
    over: str = "all"
    groups: tuple[GroupMeasurement, ...] = ()
    detail: tuple[tuple[str, float], ...] = ()
    note: str = ""
    direction: Direction = field(kw_only=True)

    def __post_init__(self) -> None:
        _refuse_nonsense(self.metric, self.value, self.lower, self.upper)
        if self.value is None and not self.note:
            raise MeasurementRefused(
                f"{self.metric} over {self.over} has no value and no reason.",
                rule="a measurement without a value says why", value=self.metric, remedy="Give the reason as its note.",
            )
        for name, number in self.detail:
            if not math.isfinite(number):
                _refuse(f"{self.metric}.{name}", number)


def _refuse_nonsense(name: str, value: float | None, lower: float | None, upper: float | None) -> None:
    for number in (value, lower, upper):
        if number is not None and not math.isfinite(number):
            _refuse(name, number)
    if value is None and (lower is not None or upper is not None):
        _refuse(name, "an interval without a value")
    if lower is not None and upper is not None and lower > upper:
        _refuse(name, f"[{lower}, {upper}]")


def _refuse(name: str, value: object) -> None:
    raise MeasurementRefused(
        f"{name} came out as {value}, which is not a measurement.", rule="measurements are finite numbers or None",
        value=str(value), remedy="Report None and the reason instead.",
    )
