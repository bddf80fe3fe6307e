"""What happened, in what order?

Each module is one activity and defines the thing that it makes; it knows only what is upstream, so the import graph is the
pipeline. `policy.river` says what each stage owes; here it is bound to its code. Nothing here knows who drives.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from compliance_assets.policy.river import StageRule
from compliance_assets.stages.stage import Stage


@cache
def stage_for(rule: StageRule) -> Stage:
    """The code of a stage: module `s<number>_<what>`, imported when it is first needed (the libraries are heavy)."""
    stage: Stage = import_module(f"compliance_assets.stages.{MODULES[rule.name]}").STAGE
    if stage.rule != rule:
        raise ValueError(f"{MODULES[rule.name]} is bound to {stage.rule.name}, not to {rule.name}")
    return stage


MODULES = {
    "data_preparation": "s1_data_preparation",
    "feature_engineering": "s2_feature_engineering",
    "model_training": "s3_model_training",
    "model_evaluation": "s4_model_evaluation",
    "model_registration": "s5_model_registration",
    "integration_testing": "s6_integration_testing",
    "pre_deployment_approval": "s7_approval",
    "deployment": "s8_deployment",
}
