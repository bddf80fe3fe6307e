"""What was measured?

Arrays and frames in, numbers with intervals out. What lives here: data quality, performance, group fairness,
robustness, calibration, drift, and the intervals around them. What does not: bounds (they are promises, `policy`),
declarations, files, verdicts. Importing this package is cheap; the modules that compute import numpy and are loaded
where they are used.
"""

from compliance_assets.metrics.catalogue import METRICS, MetricInfo, metric_info
from compliance_assets.metrics.measurement import Direction, GroupMeasurement, Measurement, MeasurementRefused

__all__ = ["METRICS", "Direction", "GroupMeasurement", "Measurement", "MeasurementRefused", "MetricInfo", "metric_info"]
