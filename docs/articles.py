"""Prints docs/articles.md from the river, so that the page cannot say anything else than the code."""

from compliance_assets.policy.river import RIVER


def page() -> str:
    """The table of stages, gates and the articles that they support."""
    lines = [
        "# Which article each stage and gate supports",
        "",
        "Generated from `compliance_assets/policy/river.py` (`python docs/articles.py > docs/articles.md`). Articles are those of",
        "Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744. *Supports* means: produces evidence that somebody who answers",
        "for the article will want. It does not mean that the article is fulfilled. The Act prescribes no numeric threshold; every bound",
        "is the declaring organisation's own. Chapter III Sections 1 to 3 apply to Annex III systems from 2 December 2027.",
        "",
        "The four-eyes approval before deployment is this project's rule, aligned with Art. 14, which is about oversight in use.",
        "",
        "| stage | makes | gate | asks | supports |",
        "|---|---|---|---|---|",
    ]
    for rule in RIVER:
        lines.append(f"| **{rule.number} {rule.title}** | `{rule.makes}` | | refuses when {rule.refuses} | {', '.join(rule.articles)} |")
        lines += [f"| | | {gate.name} | {gate.asks} | {', '.join(gate.articles)} |" for gate in rule.gates]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
