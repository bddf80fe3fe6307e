"""Train again: with the same seed, to see whether the same model comes out; with other seeds, to see what hangs on chance.

The rows, the declaration and the way are those of stage 3; the result is compared and thrown away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compliance_assets.stages.estimators import make_estimator
from compliance_assets.stages.s2_feature_engineering import FeatureSet
from compliance_assets.stages.search import fitted
from compliance_assets.stages.stage import Work
from compliance_assets.stages.training_rows import TrainingFiles, read_rows
from compliance_assets.stages.training_watch import watched_fit

if TYPE_CHECKING:
    from compliance_assets.policy.definition import Definition


def trained_again(work: Work, features: FeatureSet, *, seed: int | None = None) -> Any:
    """The declared estimator, fitted once more on the same rows; with another seed if one is given. Nothing is stored."""
    definition = work.definition if seed is None else _seeded(work.definition, seed)
    system, files = definition.system, TrainingFiles(work.artefacts, features)
    train, validation = (read_rows(files, features, part, system.features.registry) for part in ("train", "validation"))
    return watched_fit(lambda: fitted(definition, train, validation), system.training.resources.threads).result.estimator


def random_parts(definition: Definition) -> tuple[str, ...]:
    """The estimator's parameters that a seed sets; none of them: training involves no chance."""
    return tuple(make_estimator(definition).preparation["seeded"])


def _seeded(definition: Definition, seed: int) -> Definition:
    training = definition.system.training.model_copy(update={"seed": seed})
    return replace(definition, system=definition.system.model_copy(update={"training": training}))
