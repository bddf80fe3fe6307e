"""Who drives?

The only room that speaks Dagster: the eight stages as assets with their gates as checks (`assets`), what stands between them
(`io`), how an outcome is shown (`showing`) and a refusal said (`refusing`), jobs, schedules and sensors, the component that
makes a declared system a `defs.yaml` away (`component`), and how Dagster itself is run (`coordinator`, `webserver`). No rules:
Dagster orchestrates and shows; whether something may be consumed is asked of the dossier, through `pipeline`.
"""

from compliance_assets.orchestration.component import ComplianceSystem

__all__ = ["ComplianceSystem"]
