"""How often has this holdout been looked at? Counted from the records, limited where that is declared, shown with every evaluation.

Who evaluates candidate after candidate on the same people chooses by them in the end, and the holdout becomes a training set that
nobody declared. An evaluation that is answered from an earlier record opens nothing and does not count; one that broke off does.
No source gives a limit; domain practice and this project's suggestion is 20, then split again with another seed or add people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compliance_assets.errors import OutOfTurn
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    from compliance_assets.evidence.archive import Archive
    from compliance_assets.policy.system import System

_FILE = "dataset/holdout.parquet"


def holdout_of(archive: Archive, features: str) -> str:
    """sha256 of the holdout's rows behind a feature set, from the records of stages 1 and 2 alone."""
    dataset = archive.executions_of(Digest.parse(features))[-1].body.inputs["dataset"]
    return str(archive.executions_of(Digest.parse(dataset))[-1].body.files[_FILE])


def admit(archive: Archive, system: System, features: str) -> dict[str, Any]:
    """What to write down about this opening of the holdout. `OutOfTurn` if it was opened as often as is declared."""
    holdout = holdout_of(archive, features)
    same: dict[str, bool] = {}
    count = 0
    for record in archive.made_by(system.system, "model_evaluation"):
        theirs = str(record.body.inputs["features"])
        if theirs not in same:
            same[theirs] = holdout_of(archive, theirs) == holdout
        count += record.body.computed and same[theirs]
    limit = system.evaluation.holdout_uses
    if limit is not None and count >= limit.at_most:
        raise OutOfTurn(f"This holdout has been opened {count} times, and {limit.at_most} are declared.", rule="holdout uses",
                        value=str(count), remedy="Split again with another seed, or add people nobody was judged by yet; the limit "
                                                 "itself is part of the definition and needs the approval of people.")
    return {"holdout_opened": {"times": count + 1, "limit": "none declared" if limit is None else limit.at_most, "holdout": holdout}}
