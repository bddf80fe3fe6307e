"""The same inputs give the same bits, however many threads the libraries run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MEASURE_EVERYTHING = """
import hashlib
import numpy as np, polars as pl
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.drift import measure_drift
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.profiles import Profile
from compliance_assets.metrics.robustness import KINDS, Inputs, Perturbation, measure_robustness

generator = np.random.default_rng(0)
n = 60_000
x, score = generator.lognormal(0, 1, n), generator.random(n)
y = (generator.random(n) < score).astype(int)
sex, purpose = generator.choice(["f", "m"], n), generator.choice(["car", "house"], n)
frame = pl.DataFrame({"x": x, "purpose": purpose})
model = lambda rows: 1 / (1 + np.exp(1 - rows["x"].fill_null(1.0).to_numpy()))
profile = Profile.of(frame[: n // 2], numeric=("x",), categorical=("purpose",))
found = [
    measure_performance(("roc_auc", "average_precision", "f1", "brier_score", "log_loss"), y, score, 0.5),
    measure_fairness(("selection_rate_ratio", "equalized_odds_difference", "roc_auc_difference"), y, score >= 0.5,
                     {"sex": sex, "purpose": purpose}, ("sex", "sex*purpose"), score=score),
    measure_calibration(("expected_calibration_error", "calibration_slope", "calibration_in_the_large"), y, score),
    profile.as_json(), measure_drift(("psi", "jensen_shannon", "wasserstein", "ks"), profile, frame[n // 2 :]),
    measure_robustness([Perturbation(kind, 0.1) for kind in KINDS], model, frame, y, 0.5,
                       Inputs(("x",), (("purpose", ("car", "house")),), ("x",))),
]
print(hashlib.sha256(repr(found).encode()).hexdigest())
"""


def test_one_thread_and_four_threads_measure_the_same_bits():
    root = Path(__file__).resolve().parents[2]
    digests = set()
    for threads in ("1", "4"):
        limits = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        environment = os.environ | limits | {"PYTHONPATH": str(root)}
        command = [sys.executable, "-c", MEASURE_EVERYTHING]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(ran.stdout.strip())
    assert len(digests) == 1
