"""The JSON Schemas of system.yaml and organisation.yaml, for editors: every key with what it says."""

from __future__ import annotations

from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, dict[str, Any]]:
    """The schema of each declared file, by file name. Keys are as written in YAML (`from`, not `from_`)."""
    from compliance_assets.policy.organisation import Organisation
    from compliance_assets.policy.system import System

    return {name: {"$schema": DIALECT, **model.model_json_schema(by_alias=True)}
            for name, model in (("system.yaml", System), ("organisation.yaml", Organisation))}
