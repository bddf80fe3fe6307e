"""Which attacks were tried, what each is refused with, and which check holds it off: writes attacks.md from the tests' own tables.

    python docs/attacks.py > docs/attacks.md

A test holds the page against this program, and each row is a test that runs: the attack is refused with these words, it succeeds once the
checks named are taken out of the program, and, where there are several, with any one of them left in it is still refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compliance_assets_tests import test_attacks_unchecked as river
from compliance_assets_tests.evidence import test_ledger_attacked as ledger
from compliance_assets_tests.evidence import test_verify_bundle as bundle
from compliance_assets_tests.governance import test_alert_answers as alerts

INTRODUCTION = """\
# Attacks

Made by `docs/attacks.py` from the tests; do not edit.

{count} attacks. Each is tried in the tests, refused with the words shown, and succeeds once the checks named are taken out of
the program: a check is the function, and the words that it refuses with; a function without words was emptied. Where several
stand in a row ({several} rows), each of them alone holds the attack off: it succeeds only when all are out. C.6 are approvals that
others' pipelines were seen to let through. Ways around the stages themselves are in `orchestration/test_bypasses.py`, each also
tried with the wall emptied (`python -m compliance_assets_tests.emptied_wall`)."""

Row = tuple[str, str, tuple[str, ...], str]


def tables() -> dict[str, tuple[str, list[Row]]]:
    """Each part's heading, what stands under it, and its rows: attack, words, checks, test."""
    here = "evidence/test_verify_bundle.py"
    insider = "test_an_insider_with_every_machine_key_is_refused_and_succeeds_without_the_check"
    return {
        "The auditor's verifier": (
            f"`{here}`, `{insider}`.\n"
            "The insider holds the pipeline's, the gate's, the deployer's and the log's key, makes everything fit (digests, references,\n"
            "tree, checkpoint, manifest) and tells the auditor a head that fits. People's keys sign only where an attack says so.",
            [(name, words, checks, insider) for name, _, words, checks in bundle.ATTACKS]),
        "What only a head or a policy that somebody holds can show": (
            f"`{here}`, `test_what_the_auditor_holds_shows_what_the_bundle_cannot`.",
            [(name, words, checks, "") for name, words, checks in bundle.HELD]),
        "Answers to alerts": (
            "`governance/test_alert_answers.py`, `test_an_answer_that_may_not_count_leaves_the_alert_open_for_every_reader`.\n"
            "A person signs it with their own key all the same.",
            [(f"an alert closed: {name}", alerts.SIGNED[name][1], checks, "") for name, checks in alerts.CHECKS.items()]),
        "The pipeline": ("`test_attacks_unchecked.py`.", river.ROWS),
        "The ledger": (
            "`evidence/test_ledger_attacked.py`. Triggers stop whoever edits by accident; whoever drops them is found by what was signed.",
            [*((name, words, checks, "") for name, _, _, words, checks in ledger.LEDGER),
             *((name, words, (f"trigger {trigger}",), "") for name, _, words, trigger in ledger.STATEMENTS),
             (ledger.SPLIT[0], ledger.SPLIT[1], (f"witness.{ledger.SPLIT[2]}",), "")]),
    }


def page() -> str:
    parts = tables()
    count = sum(len(rows) for _, rows in parts.values())
    several = sum(len(checks) > 1 for _, rows in parts.values() for *_, checks, _ in rows)
    lines = [INTRODUCTION.format(count=count, several=several)]
    for heading, (under, rows) in parts.items():
        lines += ["", f"## {heading}", "", under, "", "| attack | refused with | holds it off |", "|---|---|---|"]
        lines += [f"| {name} | {said(words)} | {'; '.join(f'`{check}`' for check in checks)} |" for name, words, checks, _ in rows]
    return "\n".join(lines) + "\n"


def said(words: str) -> str:
    return " or ".join(f"*{each.strip()}*" for each in words.split("|")).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
