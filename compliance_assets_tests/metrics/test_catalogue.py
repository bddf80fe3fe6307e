"""The catalogue knows every metric and its direction, and costs nothing to read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics import METRICS, GroupMeasurement, Measurement, metric_info


def test_every_metric_has_a_direction_a_source_and_a_convention():
    for name, info in METRICS.items():
        assert info.name == name
        assert info.direction in ("higher", "lower", "target")
        assert info.source and info.convention and info.needs and info.task, name


def test_the_directions_that_matter_most_are_right():
    right = {"roc_auc": "higher", "log_loss": "lower", "selection_rate_ratio": "higher", "psi": "lower",
             "equalized_odds_difference": "lower", "calibration_slope": "target"}
    assert {name: METRICS[name].direction for name in right} == right
    assert METRICS["calibration_slope"].ideal == 1.0


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ComplianceError, match="roc_auc") as refused:
        metric_info("accurracy")
    assert refused.value.value == "accurracy"
    with pytest.raises(ComplianceError, match="psi"):
        metric_info("roc_auc", "drift")


HEAVY = {"numpy", "polars", "pandas", "sklearn", "scipy", "fairlearn"}


def loaded_by(*modules):
    imports = "; ".join(f"import compliance_assets.metrics.{module}" for module in modules)
    code = f"import sys; {imports}; print(' '.join({{m.split('.')[0] for m in sys.modules}} & {HEAVY}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_reading_it_loads_no_numerical_library():
    assert loaded_by("catalogue", "measurement") == set()


def test_the_computing_modules_load_numpy_only():
    assert loaded_by("performance", "fairness", "calibration", "robustness", "drift", "quality", "regression",
                     "multiclass") == {"numpy"}


def test_a_value_that_could_not_be_measured_says_why():
    with pytest.raises(ComplianceError, match="no reason"):
        Measurement("roc_auc", None, None, None, 0, "DeLong", direction="higher")


@pytest.mark.parametrize("numbers", [
    (float("nan"), None, None), (0.5, 0.7, 0.6), (None, 0.1, 0.2), (float("inf"), None, None)])
def test_what_is_no_measurement_cannot_be_made(numbers):
    with pytest.raises(ComplianceError):
        Measurement("roc_auc", *numbers, 10, "DeLong", note="x", direction="higher")
    with pytest.raises(ComplianceError):
        GroupMeasurement("female", *numbers)
