"""What if this person belonged to another group? The columns that carry an attribute, taken from somebody who does.

For every row hit, all columns that are computed from the attribute are replaced together by those of a row drawn from another
group: the values stay real and go together, whatever their type. Handing in the columns of its proxies as well asks the wider
question. A model that sees neither cannot answer differently; that is for the caller to say. Kusner et al. 2017 define
counterfactual fairness by a causal model of the world; this is the plain test that needs none, and it is no proof of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics.measurement import MeasurementRefused

if TYPE_CHECKING:
    import polars as pl


def with_another_group(frame: pl.DataFrame, columns: Sequence[str], member: Any, share: float, seed: int) -> pl.DataFrame | None:
    """The frame with `columns` of a `share` of its rows taken from rows of another group; None if there is one group only.

    frame: n rows; member: each row's group, shape (n,). Donors are drawn by `seed` among the rows of all other groups.
    """
    absent = sorted(set(columns) - set(frame.columns))
    if absent or not columns:
        raise MeasurementRefused(f"Columns to exchange are not in the frame: {', '.join(absent) or 'none is named'}.",
                                 rule="declared inputs are measured", value=", ".join(absent), remedy="Name columns that the model reads.")
    groups, place = np.unique(np.asarray(member).astype(str), return_inverse=True)
    if len(groups) < 2:
        return None
    generator = np.random.default_rng(seed)
    hit, drawn = generator.random(frame.height) < share, generator.random(frame.height)
    donor = np.arange(frame.height)
    for group in range(len(groups)):
        rows, others = np.flatnonzero((place == group) & hit), np.flatnonzero(place != group)
        donor[rows] = others[(drawn[rows] * len(others)).astype(np.int64)]
    return frame.with_columns(frame.select(columns)[donor])
