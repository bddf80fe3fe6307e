"""Dagster's door: every declared system becomes eight assets with their gates.

Systems are found below `systems/` of the project (COMPLIANCE_ROOT, or the nearest such folder from here upward); those that a
`defs.yaml` in `compliance_assets/defs` names already are not taken twice.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from compliance_assets.evidence.home import find_root
from compliance_assets.orchestration.assets import system_definitions
from compliance_assets.orchestration.sensors import alert_sensor
from compliance_assets.policy.definition import find_systems

COMPONENTS = Path(__file__).resolve().parent / "defs"


def _scaffolded() -> dg.Definitions:
    """What people added with `dg scaffold defs`; nothing where this package was installed without its project."""
    # An empty folder is not a component tree to Dagster (1.13.27 fails on it).
    if not any(COMPONENTS.rglob("defs.yaml")) or not (COMPONENTS.parents[1] / "pyproject.toml").is_file():
        return dg.Definitions()
    return dg.load_from_defs_folder(path_within_project=COMPONENTS)


def _systems_in(definitions: dg.Definitions) -> set[str]:
    return {key.path[0] for made in definitions.assets or () if isinstance(made, dg.AssetsDefinition) for key in made.keys}


@dg.definitions
def defs() -> dg.Definitions:
    """Everything in this project, for `dagster dev`, `dg` and `compliance up`."""
    root = find_root()
    scaffolded = _scaffolded()
    taken = _systems_in(scaffolded)
    found = [system_definitions(folder) for folder in find_systems(root) if folder.name not in taken]
    shared = dg.Definitions(executor=dg.in_process_executor, sensors=[alert_sensor(root)])
    return dg.Definitions.merge(scaffolded, *found, shared)
