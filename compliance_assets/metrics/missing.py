"""What if one source fails? Each feature that may be missing is taken away by itself, and the one that is missed most counts.

Gaps that fall at random over all features (`robustness`, missing_values) hide a feature that the model cannot do without; an
interface that is down takes one away from everybody at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.clusters import Clusters
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.robustness import Inputs, Perturbation, measure_robustness

if TYPE_CHECKING:
    import polars as pl


def measure_missing_feature(level: float, predict: Callable[[pl.DataFrame], Any], frame: pl.DataFrame, y: Any, threshold: float,
                            inputs: Inputs, *, attributes: Mapping[str, Any] | None = None, over: Sequence[str] = (),
                            expected_groups: Mapping[str, Sequence[str]] | None = None, seed: int = 7,
                            max_rows: int = 20_000, score: Any = None, observed: Any = None,
                            whose: Clusters | None = None) -> tuple[Measurement, ...]:
    """`missing_feature_decision_flip_rate` and `missing_feature_auc_drop`, one nullable feature missing in a share `level` of rows.

    Over all rows `groups` are the features and the value is the worst one's; over an attribute `groups` are its groups under the
    feature that is worst there. Otherwise as `measure_robustness`.
    """
    if not inputs.nullable:
        raise MeasurementRefused("No feature may be missing.", rule="declared inputs are measured", value="none",
                                 remedy="Register a feature with nulls: allow.")
    gone = Perturbation("missing_values", level, repeats=1 if level == 1 else 3)
    by_feature = {name: measure_robustness([gone], predict, frame, y, threshold, replace(inputs, nullable=(name,)), attributes=attributes,
                                           over=over, expected_groups=expected_groups, seed=seed, max_rows=max_rows,
                                           score=score, observed=observed, whose=whose)
                  for name in sorted(inputs.nullable)}
    return tuple(_worst({name: found[place] for name, found in by_feature.items()})
                 for place in range(len(next(iter(by_feature.values())))))


def _worst(parts: Mapping[str, Measurement]) -> Measurement:
    first = next(iter(parts.values()))
    metric = first.metric.replace("missing_values", "missing_feature")
    unknown = [f"{name} ({one.note})" for name, one in parts.items() if one.value is None]
    features = tuple(GroupMeasurement(name, one.value, one.lower, one.upper, one.n) for name, one in parts.items())
    if unknown:
        return Measurement(metric, None, None, None, first.n, "feature by feature", first.over, features, first.detail,
                           f"not measurable without {', '.join(unknown)}", direction=metric_info(metric).direction)
    name, one = max(parts.items(), key=lambda part: (part[1].value or 0.0, part[0]))
    return replace(one, metric=metric, method=f"worst feature; {one.method}", groups=features if one.over == "all" else one.groups,
                   note=f"worst without {name}" + (f"; {one.note}" if one.note else ""), direction=metric_info(metric).direction)
