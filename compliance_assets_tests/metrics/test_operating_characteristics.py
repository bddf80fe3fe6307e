"""Known error rates: a violation at the bound passes at most five times in a hundred, and intervals hold what they promise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from compliance_assets.metrics.fairness import measure_cells
from compliance_assets.metrics.groups import Cells
from compliance_assets.metrics.intervals import delong, newcombe_auc

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "operating_characteristics.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("operating_characteristics", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_simulation_uses_the_interval_of_the_measurement(simulation: ModuleType) -> None:
    draw = np.random.default_rng(3)
    for name in ("selection_rate_ratio", "selection_rate_difference", "equal_opportunity_difference"):
        counts = simulation.cells(draw, 200, (0.5, 0.4, 0.45))
        measured = measure_cells(name, Cells("group", ("a", "b", "c"), counts))
        value, interval = simulation.compared(name, counts)
        assert measured.value == pytest.approx(value, abs=1e-15)
        assert interval == (measured.lower, measured.upper)


@pytest.mark.parametrize(("n", "rate"), [(100, 0.5), (1000, 0.2), (10_000, 0.05)])
def test_a_true_ratio_at_the_bound_rarely_passes(simulation: ModuleType, monkeypatch: pytest.MonkeyPatch, n: int, rate: float) -> None:
    monkeypatch.setattr(simulation, "REPEATS", 400)
    on_interval, on_point = simulation.passes(simulation.RATIO, n, (0.8 * rate, rate), 1)
    assert on_interval <= 0.05
    assert on_point > 0.35  # which is why no bound is judged on the point unless somebody says so


@pytest.mark.parametrize(("name", "least"), [("a rate of 0.2", 0.93), ("lowest / highest rate of two groups, 0.4 and 0.5", 0.93),
                                              ("area of 0.8", 0.93), ("mean squared error", 0.90)])
def test_where_rows_belong_together_intervals_by_clusters_hold_and_intervals_of_rows_do_not(
        simulation: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, least: float) -> None:
    monkeypatch.setattr(simulation, "OF_CLUSTERS", 250)
    for alike in (0.0, 1.0):
        by_clusters, by_rows = simulation.cluster_coverage(dict(simulation.CLUSTERED)[name], 100, alike)
        assert by_clusters >= least
        assert (by_rows < 0.75) is (alike == 1.0)


def test_no_comparison_without_a_selection_ever_passes(simulation: ModuleType) -> None:
    nobody = np.array([[[5, 0], [5, 0]], [[5, 0], [5, 0]]])
    assert simulation.compared("selection_rate_ratio", nobody) == (None, None)
    assert simulation.verdict(simulation.RATIO, None, None) == "ERROR"


@pytest.mark.parametrize(("n", "share"), [(60, 0.15), (100, 0.1), (400, 0.5)])
def test_the_lower_end_of_an_area_stays_below_the_truth_also_for_a_small_class(n: int, share: float) -> None:
    draw, above, seen = np.random.default_rng(5), 0, 0
    while seen < 300:
        label = (draw.random(n) < share).astype(np.int64)
        found = delong(label, draw.normal(size=n) + 1.1902322 * label)
        interval = None if found is None else found.interval()
        if interval is not None:
            seen, above = seen + 1, above + (interval[0] > 0.8)
    assert above / seen <= 0.05


def test_newcombes_limits_lie_1_96_of_their_own_errors_away_and_shrink_with_rows() -> None:
    lower, upper = newcombe_auc(0.8, 10, 90)
    assert 0 < lower < 0.8 < upper < 1
    wide, narrow = newcombe_auc(0.8, 10, 90), newcombe_auc(0.8, 1000, 9000)
    assert narrow[1] - narrow[0] < 0.15 * (wide[1] - wide[0])
    assert newcombe_auc(0.5, 50, 50)[0] == pytest.approx(1 - newcombe_auc(0.5, 50, 50)[1], abs=1e-12)


def test_the_page_is_the_scripts_and_keeps_its_promise() -> None:
    page = SCRIPT.with_name("operating-characteristics.md").read_text(encoding="utf-8")
    promised = [float(line.split("at most ")[1].split(" %")[0]) for line in page.splitlines() if line.startswith("At the bound")]
    assert len(promised) == 2
    assert max(promised) <= 5.0
