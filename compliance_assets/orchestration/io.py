"""What stands between two assets: digests, and the question whether they may be published or consumed.

A bare `IOManager` without config fields, since a field could be overridden from the launchpad, and bound to each asset itself,
so that no other one can be put in its place. Dagster's latest materialisation is a *pointer* to a digest: it can be forged,
deleted and edited. Whether the digest may be consumed is asked of the dossier by `pipeline.advance`, at that moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import dagster as dg

from compliance_assets.errors import ComplianceError, OutOfTurn
from compliance_assets.orchestration.refusing import failure
from compliance_assets.orchestration.resources import opened
from compliance_assets.pipeline import published
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest

DATA_VERSION_TAG = "dagster/data_version"


class DigestsOnly(dg.IOManager):
    """Publishes only what has a complete passing record; hands on a digest, never bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Refuse to publish a digest that no complete passing record of this system and stage names."""
        system, asset = context.asset_key.path
        try:
            published(opened(self._root), system, asset, Digest.parse(str(obj)))
        except ComplianceError as error:
            raise failure(error) from error

    def load_input(self, context: dg.InputContext) -> str:
        """The digest that Dagster's latest materialisation of the input points to: unverified, and text only."""
        system, asset = context.asset_key.path
        found = context.instance.fetch_materializations(context.asset_key, limit=1).records
        materialised = found[0].asset_materialization if found else None
        version = (materialised.tags or {}).get(DATA_VERSION_TAG) if materialised else None
        try:
            if version is None:
                self._refuse_missing(system, asset, context.op_def.name.removeprefix(f"{system}__"))
            return str(Digest.parse(version))
        except ComplianceError as error:
            raise failure(error) from error

    def _refuse_missing(self, system: str, asset: str, consumer: str) -> NoReturn:
        """Dagster knows no materialisation: say what the ledger knows about why."""
        river, rule, needed_by = opened(self._root), rule_named(asset), rule_named(consumer).name
        made = [record for record in river.archive.made_by(system, rule.name) if record.body.outcome != "error"]
        if made:
            river.dossier(system).admit(asset, Digest.parse(made[-1].body.output), needed_by=needed_by)
        raise OutOfTurn(f"{needed_by} needs {asset} of {system}, of which Dagster knows no publication.", rule="order",
                        value=f"{system}/{asset}",
                        remedy=f"Materialise {asset} first (`{rule.name}`); what is proven already is not computed again.")
