"""What does a report look like? Pictures of what the stages measured, each with a table of the same numbers.

Server-side SVG without script, style sheet or library: the same report gives the same bytes, so a picture may be filed beside
the report it was made from. Nothing is judged here and nothing is measured here; a picture shows what a record says, and where
a record says nothing the picture says "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compliance_assets.governance.charts import (
    bounded_bars,
    feature_ranges,
    findings,
    group_bars,
    population,
    proxies,
    reliability,
    robustness_curve,
    time_slices,
    training,
)
from compliance_assets.governance.charts.chart import Chart, as_markdown_image, markdown_table
from compliance_assets.policy.gates import GateReport
from compliance_assets.policy.river import rule_named

if TYPE_CHECKING:
    from compliance_assets.policy.system import MinimumGroup

__all__ = ["Chart", "as_markdown_image", "for_asset", "markdown_table"]


def for_asset(asset: str, report: Mapping[str, Any], gates: Sequence[GateReport] = (), *,
              minimum_group: MinimumGroup | None = None) -> tuple[Chart, ...]:
    """The charts of one asset, in the order to show them.

    `report`: the JSON that the stage filed (dataset: quality report; features: feature report; candidate_model: training
    record; evaluation_report: full measurements; others have none: hand in {}). `gates`: what the stage's gates found.
    `minimum_group`: the declared smallest group, so that smaller ones are marked. KeyError for an unknown asset.
    """
    asset = rule_named(asset).makes
    if asset == "dataset":
        return (population.chart(report, gates),)
    if asset == "features":
        return feature_ranges.chart(report, gates), proxies.chart(report, gates)
    if asset == "candidate_model":
        return (training.chart(report),)
    if asset == "evaluation_report":
        return (findings.chart(gates), group_bars.chart(report, minimum_group), reliability.chart(report),
                *([] if (by_time := time_slices.chart(report)) is None else [by_time]),
                bounded_bars.robustness(gates), robustness_curve.chart(report), bounded_bars.drift(gates))
    return (findings.chart(gates),)
