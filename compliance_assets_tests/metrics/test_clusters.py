"""Where rows belong together, ten rows of one person are one person: intervals resample people, and a metric without such an interval says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from compliance_assets.metrics import clusters
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.clustered import Sampled, by_clusters
from compliance_assets.metrics.clustered_groups import changed_by_clusters, compared_by_clusters
from compliance_assets.metrics.clusters import FEWEST, Clusters
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.incumbent import NAMES as CHANGES
from compliance_assets.metrics.incumbent import accuracy_change, brier_score_change, mae_change, measure_against_incumbent
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.metrics.multiclass import NAMES as OF_CLASSES
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance, roc_auc_change
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.metrics.regression_calibration import prediction_slope
from compliance_assets.metrics.regression_fairness import NAMES as REGRESSION_FAIRNESS
from compliance_assets.metrics.regression_fairness import measure_regression_fairness

CLASSES = ("paid", "late", "lost")
SAYS_SO = "none that resamples clusters"
WITHOUT = {"average_precision", "calibration_slope", "brier_reliability", "score_distribution_distance", "error_distribution_distance",
           "maximum_statistical_parity", "median_absolute_error", "p95_absolute_error"}


class People:
    """n people, each with the same row `copies` times; or, of the same people, one row each."""

    def __init__(self, n: int = 600, copies: int = 1, seed: int = 5) -> None:
        draw = np.random.default_rng(seed)
        ability = draw.normal(size=n)
        sex = np.where(draw.random(n) < 0.5, "female", "male")
        y = (ability + draw.normal(size=n) > 0).astype(np.int64)
        score = 1 / (1 + np.exp(-(1.2 * ability + 0.8 * draw.normal(size=n) + 0.3 * (sex == "male"))))
        before = np.clip(score + 0.15 * draw.normal(size=n), 0.01, 0.99)
        number = 50 + 10 * ability + 5 * draw.normal(size=n)
        guess = 50 + 9 * ability + 3 * draw.normal(size=n) + (sex == "male")
        table = np.exp(np.stack([ability, np.zeros(n), -ability], 1) + 0.5 * draw.normal(size=(n, 3)))
        named = np.array([draw.choice(3, p=row / row.sum()) for row in table])
        table = table / table.sum(axis=1, keepdims=True)
        rows = np.repeat(np.arange(n), copies)
        self.y, self.score, self.before, self.sex = y[rows], score[rows], before[rows], sex[rows].astype(object)
        self.number, self.guess, self.table, self.named = number[rows], guess[rows], table[rows], named[rows]
        self.whose = Clusters.of(pl.Series([f"p{place}" for place in rows]), "person")

    def sampled(self, task: str = "binary") -> Sampled:
        score, outcome, table = {"binary": (self.score, None, None), "number": (self.guess, self.number, None),
                                 "classes": (self.table[:, 0], self.named, self.table)}[task]
        y = (self.number >= 50).astype(np.int64) if task == "number" else self.y
        return Sampled(self.whose, y, score, 50.0 if task == "number" else 0.5, outcome, table, (1.0, 2.0))

    def measured(self) -> dict[str, tuple[Measurement, Callable[[Measurement], Measurement]]]:
        """Every metric of the holdout, and how it is told by clusters."""
        groups, names = {"sex": self.sex}, [info.name for info in METRICS.values()]
        found: dict[str, tuple[Measurement, Callable[[Measurement], Measurement]]] = {}

        def keep(many: Any, how: Callable[[Measurement], Measurement], mark: str = "") -> None:
            for one in many:
                found[mark + one.metric] = one, how

        def task_of(name: str) -> set[str]:
            return set(METRICS[name].task)

        two = [n for n in names if METRICS[n].family == "performance" and "binary" in task_of(n) and "previous score" not in METRICS[n].needs]
        keep(measure_performance(two, self.y, self.score, 0.5, costs=(1.0, 2.0)), lambda one: by_clusters(one, self.sampled()))
        scored = [n for n in names if METRICS[n].family == "calibration" and "binary" in task_of(n)]
        everywhere = measure_calibration(scored, self.y, self.score, groups, ["sex"])
        keep((one for one in everywhere if one.over == "all"), lambda one: by_clusters(one, self.sampled()))
        keep((one for one in everywhere if one.metric in ("calibration_error_difference", "worst_group_calibration_error")),
             lambda one: compared_by_clusters(one, self.sampled(), self.sex))
        fair = [n for n in names if METRICS[n].family == "fairness" and "binary" in task_of(n) and n not in CHANGES]
        keep(measure_fairness(fair, self.y, (self.score >= 0.5).astype(int), groups, ["sex"], score=self.score),
             lambda one: compared_by_clusters(one, self.sampled(), self.sex))
        keep(measure_against_incumbent(CHANGES, self.y, self.score >= 0.5, self.before >= 0.5, groups, ["sex"]),
             lambda one: changed_by_clusters(one, self.sampled(), self.before, self.sex))
        keep([roc_auc_change(self.y, self.score, self.before), accuracy_change(self.y, self.score >= 0.5, self.before >= 0.5),
              brier_score_change(self.y, self.score, self.before)], lambda one: changed_by_clusters(one, self.sampled(), self.before))
        keep([mae_change(self.number, self.guess, self.guess + self.before)],
             lambda one: changed_by_clusters(one, self.sampled("number"), self.guess + self.before))
        keep(measure_multiclass(OF_CLASSES, [CLASSES[one] for one in self.named], self.table, CLASSES),
             lambda one: by_clusters(one, self.sampled("classes")), "classes.")
        errors = [n for n in names if METRICS[n].family == "performance" and METRICS[n].task == {"regression"} and n != "mae_change"]
        keep([*measure_regression(errors, self.number, self.guess), prediction_slope(self.number, self.guess)],
             lambda one: by_clusters(one, self.sampled("number")))
        keep(measure_regression_fairness(REGRESSION_FAIRNESS, self.number, self.guess, groups, ["sex"]),
             lambda one: compared_by_clusters(one, self.sampled("number"), self.sex))
        return found


ONCE, FOUR_TIMES = People().measured(), People(copies=4).measured()
LEFT_OUT = {"prediction_interval_coverage"}


def test_every_metric_of_the_holdout_has_an_interval_by_clusters_or_says_that_it_has_none() -> None:
    told = {name.removeprefix("classes.") for name in ONCE}
    expected = {info.name for info in METRICS.values() if info.family in ("performance", "fairness", "calibration")} - LEFT_OUT
    assert told == expected
    for name, (one, how) in FOUR_TIMES.items():
        again = how(one)
        assert again.value == one.value and again.n == one.n
        if name in WITHOUT:
            assert again.lower is None and again.upper is None and "no interval" in again.note
            assert all(group.lower is None for group in again.groups) and again.method == "the value alone"
            assert not [label for label, _ in again.detail if label.endswith(("_lower", "_upper", "_p"))]
        else:
            assert "cluster" in again.method and "person" in again.method, name
            assert again.lower is not None and again.lower <= one.value <= again.upper
            if not name.endswith("_change"):
                assert all(group.lower is not None for group in again.groups), name


@pytest.mark.parametrize("name", sorted(set(ONCE) - WITHOUT - {f"classes.{one}" for one in WITHOUT}))
def test_four_copies_of_each_row_are_as_sure_as_one_and_rows_alone_as_sure_as_rows(name: str) -> None:
    rows, how = ONCE[name]
    copies, of_copies = FOUR_TIMES[name]
    alone, together = how(rows), of_copies(copies)
    assert rows.lower is not None and rows.upper is not None and copies.lower is not None and copies.upper is not None
    assert alone.lower is not None and alone.upper is not None and together.lower is not None and together.upper is not None
    by_rows = rows.upper - rows.lower
    # People with one row each: the interval of rows, up to the method (a gap's draws are never below 0, closed forms go there).
    assert 0.6 * by_rows <= alone.upper - alone.lower <= 1.5 * by_rows
    assert 0.85 <= (together.upper - together.lower) / (alone.upper - alone.lower) <= 1.15
    # Each row four times: as sure as once, though an interval of rows would be half as long.
    assert together.upper - together.lower > 1.1 * (copies.upper - copies.lower)


def test_the_order_of_rows_does_not_matter_to_the_last_bit() -> None:
    whole = People(300, copies=3)
    order = np.random.default_rng(1).permutation(len(whole.y))
    mixed = People(300, copies=3)
    for column in ("y", "score", "before", "sex", "number", "guess", "table", "named"):
        setattr(mixed, column, getattr(mixed, column)[order])
    mixed.whose = Clusters(mixed.whose.number[order], mixed.whose.count, "person")
    first, second = whole.measured(), mixed.measured()
    for name, (one, how) in first.items():
        if name not in WITHOUT:
            told, again = how(one), second[name][1](one)
            assert (told.lower, told.upper, told.groups) == (again.lower, again.upper, again.groups), name


def test_more_clusters_than_blocks_are_drawn_in_blocks_and_are_as_sure() -> None:
    draw = np.random.default_rng(2)
    hits, whose = draw.random(30_000) < 0.3, Clusters.of(pl.Series(np.arange(30_000) // 3), "person")
    (lower, upper), method = clusters.mean(hits, whose)
    plain = wilson(int(hits.sum()), 30_000)
    assert whose.blocks == 2_000 and "10,000 of person in 2,000 blocks" in method
    assert upper - lower == pytest.approx(plain[1] - plain[0], rel=0.1)


def test_a_rate_of_nothing_counts_each_cluster_as_one_row() -> None:
    whose = Clusters.of(pl.Series(np.repeat(np.arange(20), 50)), "person")
    (lower, upper), _ = clusters.rate(np.zeros(1000), whose)
    assert lower == 0 and upper >= wilson(0, 20)[1]
    (lower, upper), method = clusters.resampled(whose.counts(np.zeros(1000, dtype=int), (2,)),
                                                lambda drawn: np.asarray(drawn[..., 1] / drawn.sum(-1)), whose)
    assert lower == 0 and 0.05 < upper < 0.25 and "20 of person counted as rows" in method


@pytest.mark.parametrize("count", [1, FEWEST - 1])
def test_too_few_clusters_have_no_interval(count: int) -> None:
    whose = Clusters.of(pl.Series(np.arange(400) % count), "person")
    y, score = np.arange(400) % 3 == 0, np.linspace(0, 1, 400)
    assert clusters.rate(y, whose)[0] is None and clusters.mean(score, whose)[0] is None
    assert clusters.area(y.astype(np.int64), score, whose)[0] is None
    assert clusters.area_change(y.astype(np.int64), score, [score[::-1]], whose)[0] is None
    one = measure_performance(("accuracy",), y, score, 0.5)[0]
    told = by_clusters(one, Sampled(whose, y.astype(np.int64), score, 0.5))
    assert told.lower is None and "no interval" in told.note and f"only {count} clusters" in told.method


def test_missing_ids_belong_together_as_they_do_for_the_split() -> None:
    whose = Clusters.of(pl.Series(["a", None, "b", None, "a"]), "person")
    assert whose.count == 3 and whose.number[1] == whose.number[3] and whose.number[0] == whose.number[4]
    part = whose.part(np.array([False, True, True, True, False]))
    assert part.count == 2 and part.number.tolist() == [0, 1, 0]


def test_a_perfect_order_of_few_people_is_no_certainty() -> None:
    whose = Clusters.of(pl.Series(np.repeat(np.arange(12), 100)), "person")
    y = (whose.number >= 6).astype(np.int64)
    (lower, upper), method = clusters.area(y, y.astype(float), whose)
    assert upper == 1 and lower <= wilson(6, 6)[0] and "perfect" in method
