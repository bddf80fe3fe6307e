"""Does the model give away who it was trained on? The area under the curve of guessing it from how well each row is fitted.

The attacker knows the true outcome and the score, and calls those rows members that the model fits best (Yeom, Giacomelli,
Fredrikson, Jha 2018, the threshold attack on the loss). 0.5 is chance. It is a lower bound of what an attacker can do: one who
trains models of their own may do better, so a low number is no proof of privacy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names
from compliance_assets.metrics.intervals import delong
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement

_NAME = "membership_inference_auc"


def fit_of_scores(y: Any, score: Any) -> Floats:
    """How well each row is fitted: the probability that was given to what happened; shape (n,)."""
    label, given = arrays.labels(y), arrays.scores(score)
    arrays.same_rows(y=label, score=given)
    return np.where(label == 1, given, 1.0 - given)


def fit_of_numbers(y: Any, predicted: Any) -> Floats:
    """How well each row is fitted: minus the absolute error; shape (n,)."""
    observed, given = arrays.numbers(y, "y"), arrays.numbers(predicted, "predicted")
    arrays.same_rows(y=observed, predicted=given)
    return -np.abs(given - observed)


def membership_inference(members: Floats, others: Floats, groups: Mapping[str, tuple[Any, Any]] | None = None, *,
                         expected_groups: Mapping[str, Sequence[str]] | None = None) -> tuple[Measurement, ...]:
    """Over all rows, and over each attribute the group that is given away most. DeLong.

    members, others: how well rows of the training part and rows that the model never saw are fitted. `groups`: for each attribute
    or intersection the group of every member and of every other row, as names.
    """
    fit = np.concatenate([arrays.numbers(members, "members"), arrays.numbers(others, "others")])
    inside = np.concatenate([np.ones(len(members), dtype=np.int64), np.zeros(len(others), dtype=np.int64)])
    measured = [_area("all", _one("all", inside, fit), len(inside))]
    for over, (of_members, of_others) in (groups or {}).items():
        member = np.concatenate([np.asarray(of_members, dtype=object), np.asarray(of_others, dtype=object)])
        arrays.same_rows(fit=fit, group=member)
        names = sorted({*map(str, member.tolist()), *(() if expected_groups is None else expected_names(over, expected_groups))})
        parts = tuple(_one(name, inside[member == name], fit[member == name]) for name in names)
        absent = [part.name for part in parts if part.value is None]
        smallest, direction = min((part.n for part in parts), default=0), metric_info(_NAME).direction
        if absent or not parts:
            measured.append(Measurement(_NAME, None, None, None, smallest, "DeLong per group", over, parts, direction=direction,
                                        note=f"no members, or nobody else, in {', '.join(absent)}"))
            continue
        worst = max(parts, key=lambda part: (part.value or 0.0, part.name))
        measured.append(Measurement(_NAME, worst.value, worst.lower, worst.upper, smallest, "worst group; DeLong", over, parts,
                                    note=f"worst {worst.name}", direction=direction))
    return tuple(measured)


def _one(name: str, inside: Any, fit: Floats) -> GroupMeasurement:
    """positives are members, negatives the others."""
    area, members = delong(inside, fit), int(inside.sum())
    ends = None if area is None else area.interval()
    lower, upper = ends or (None, None)
    return GroupMeasurement(name, None if area is None else area.value, lower, upper, len(inside), members, len(inside) - members)


def _area(over: str, one: GroupMeasurement, n: int) -> Measurement:
    note = "" if one.lower is not None else "no members, or nobody else" if one.value is None else "a side has one row: no interval"
    return Measurement(_NAME, one.value, one.lower, one.upper, n, "DeLong", over, note=note, direction=metric_info(_NAME).direction,
                       detail=(("members", float(one.positives or 0)), ("others", float(one.negatives or 0))))
