"""An alert that a rule opened, and people who answer it with their own keys."""

from __future__ import annotations

from compliance_assets.evidence import inbox
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.alerts.keeping import Answer, _open, answer_statement
from compliance_assets.governance.alerts.rules import Found
from compliance_assets.governance.deciding import sign_statement
from compliance_assets.pipeline import River
from compliance_assets_tests.project import OWNER, SYSTEM, signer

WHY = "Looked at the last weeks of data; the new branch sends incomplete rows."


def raised(river: River, about: str = "contract", newest: int = 1) -> int:
    """The ledger index of a newly opened alert T1."""
    told = _open(river, SYSTEM, Found("T1", about, "fell from 97 % to 70 %", "last 20 verdicts", 40, {"p": "0.01"}, newest))
    return int(str(told["ledger_index"]))


def answered(river: River, index: int, event: Answer, person: str = OWNER) -> Record:
    """Somebody signs their answer with their SSH key, and the ledger takes it in."""
    who = signer(river, person)
    signed, _ = sign_statement(river, answer_statement(river, index, event, person, who.role, WHY, opened_seconds=9), who)
    admitted, refused = inbox.admit(river.archive)
    assert not refused
    return next(record for record in admitted if record.digest == signed.digest)
