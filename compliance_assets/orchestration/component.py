"""Makes a declared system a `defs.yaml` away: the component names the declaration, and nothing else.

    type: compliance_assets.orchestration.ComplianceSystem
    attributes:
      declaration: systems/credit_lending/system.yaml

The file that people declare in is one and the same whichever way it is loaded; thresholds do not stand in `defs.yaml`, whose
templating could fetch them from an environment variable. Systems below `systems/` need no component: they are found.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from compliance_assets.errors import Misused
from compliance_assets.policy.definition import DECLARATION


class NamedAfterItsSystem(dg.Scaffolder):
    """`dg scaffold defs compliance_assets.orchestration.ComplianceSystem NAME` names systems/NAME/system.yaml."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        dg.scaffold_component(request, {"declaration": f"systems/{request.target_path.name}/{DECLARATION}"})


@dg.scaffold_with(NamedAfterItsSystem)
class ComplianceSystem(dg.Component, dg.Model, dg.Resolvable):
    """An AI system as declared in its system.yaml: eight gated assets, three jobs, a schedule and sensors."""

    declaration: str
    """Path to the declaration, relative to the project's root: systems/<name>/system.yaml."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        from compliance_assets.orchestration.assets import system_definitions

        path = Path(context.project_root) / self.declaration
        if path.name != DECLARATION or not path.is_file():
            raise Misused(f"{self.declaration} is not a declaration below {context.project_root}.", rule="declaration",
                          value=self.declaration, remedy="Give declaration: systems/<name>/system.yaml, from the project's root.")
        return system_definitions(path.parent)
