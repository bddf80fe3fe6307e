"""The eight stages by name and in order: what each makes, what it needs, which gates it must pass, under which articles.

This file is part of every definition digest. Adding, removing or renaming a gate here changes the digest, voids older
verdicts and needs the approval of the people that the organisation names (AI Act Art. 17(1)(a)-(d)).
Articles are those of Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744; a stage *supports* them, it does
not fulfil them by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["compute", "act"]


@dataclass(frozen=True)
class Gate:
    """One blocking question about a stage's output. `version` rises when the way it is judged changes."""

    name: str
    version: int
    asks: str
    articles: tuple[str, ...]


@dataclass(frozen=True)
class StageRule:
    """What one stage owes: its place, its output, its inputs and its gates."""

    number: int
    name: str
    makes: str
    needs: tuple[str, ...]
    kind: Kind
    gates: tuple[Gate, ...]
    articles: tuple[str, ...]
    title: str
    refuses: str
    ordered_gates: bool = False
    """True: the first gate that does not pass halts the later ones, which are recorded as NOT_RUN."""
    reports: bool = False
    """True: the output is a report, so the verdicts are part of its bytes."""

    @property
    def gate_names(self) -> tuple[str, ...]:
        return tuple(gate.name for gate in self.gates)


RIVER: tuple[StageRule, ...] = (
    StageRule(
        1, "data_preparation", "dataset", (), "compute",
        (
            Gate("source", 1, "Are these the declared bytes?", ("Art. 10(2)(b)", "Art. 15(5)")),
            Gate("contract", 1, "Does every expectation of the data contract hold?", ("Art. 10(3)",)),
            Gate("completeness", 1, "Is as much known as declared, in every protected group too?", ("Art. 10(2)(f)", "Art. 10(3)")),
            Gate("uniqueness", 1, "Is every row identified once?", ("Art. 10(3)",)),
            Gate("label", 1, "Is the label complete, of two kinds, and in its declared band?", ("Art. 10(3)",)),
            Gate("representativeness", 1, "Do group shares match the declared population?", ("Art. 10(3)", "Art. 10(4)")),
            Gate("cell_sizes", 1, "Is every declared group large enough to be judged?", ("Art. 10(2)(f)",)),
            Gate("leakage", 1, "Do train, validation and holdout share nobody?", ("Art. 10(3)", "Art. 15(1)")),
            Gate("currentness", 1, "Is it recent enough?", ("Art. 10(3)", "Art. 10(4)")),
            Gate("shift", 1, "Does it still look like the data of an approved model?", ("Art. 9(8)", "Art. 10(3)")),
        ),
        ("Art. 10(2)", "Art. 10(3)", "Art. 10(4)", "Art. 17(1)(f)", "Annex IV(2)(d)"),
        "Data preparation", "any data quality check breaches its declared bound",
    ),
    StageRule(
        2, "feature_engineering", "features", ("dataset",), "compute",
        (
            Gate("schema", 1, "Are names, order and types those of the feature registry?", ("Art. 10(2)(c)",)),
            Gate("registered", 1, "Is every feature registered?", ("Art. 10(2)(c)", "Annex IV(2)(b)")),
            Gate("ranges", 1, "Does every value lie in its documented range?", ("Art. 10(2)(c)",)),
            Gate("nulls", 1, "Is nothing missing where it must not be?", ("Art. 10(3)",)),
            Gate("prohibited", 1, "Are protected attributes kept out unless declared with a reason?", ("Art. 10(2)(f)",)),
            Gate("proxies", 1, "Is every proxy of a protected attribute assessed?", ("Art. 10(2)(f)",)),
            Gate("leakage", 1, "Was everything known at the decision, and does no feature give the outcome away?",
                 ("Art. 10(3)", "Art. 15(1)")),
            Gate("parity", 1, "Does serving compute the same features as training?", ("Art. 15(1)",)),
        ),
        ("Art. 10(2)(c)", "Art. 10(2)(f)", "Annex IV(2)(b)", "Annex IV(2)(d)"),
        "Feature engineering", "a feature leaves its documented range, is unregistered, or does not match the registry",
    ),
    StageRule(
        3, "model_training", "candidate_model", ("features",), "compute",
        (
            Gate("convergence", 1, "Did training converge, with finite scores?", ("Art. 15(1)",)),
            Gate("record", 1, "Are seed, environment, duration and resources recorded?", ("Art. 11", "Annex IV(2)(c)")),
            Gate("storage", 1, "Is the model stored safely, and does it come back the same?", ("Art. 15(5)",)),
            Gate("isolation", 1, "Was the holdout out of reach of training?", ("Art. 15(1)",)),
        ),
        ("Art. 11", "Art. 17(1)(c)", "Annex IV(2)(a)", "Annex IV(2)(b)", "Annex IV(2)(c)"),
        "Model training", "training does not converge, or the model cannot be stored and restored safely",
    ),
    StageRule(
        4, "model_evaluation", "evaluation_report", ("candidate_model", "features"), "compute",
        (
            Gate("performance", 3, "Is it right often enough, and more often than one answer for everybody?", ("Art. 15(1)", "Art. 15(3)")),
            Gate("fairness", 2, "Are protected groups treated alike, within the bounds?", ("Art. 10(2)(f)", "Art. 10(2)(g)", "Art. 15(1)")),
            Gate("robustness", 2, "Does it stay right under disturbance?", ("Art. 15(4)",)),
            Gate("calibration", 2, "Does it know how sure it is?", ("Art. 13(3)(b)(ii)", "Art. 15(1)")),
            Gate("drift", 3, "How far is it from production and from the assessed baseline?", ("Art. 9(8)", "Art. 43(4)")),
        ),
        ("Art. 9(6)", "Art. 9(8)", "Art. 15(1)", "Art. 15(4)", "Annex IV(2)(g)", "Annex IV(3)"),
        "Model evaluation", "any gate fails; the first failure halts the later gates",
        ordered_gates=True, reports=True,
    ),
    StageRule(
        5, "model_registration", "staged_model", ("candidate_model", "evaluation_report"), "act",
        (
            Gate("definition", 1, "Was everything judged under the approved definition?", ("Art. 17(1)(a)",)),
            Gate("metadata", 1, "Is every required field there?", ("Art. 11", "Art. 12(1)", "Annex IV(1)(c)")),
            Gate("integrity", 1, "Does the registry hold exactly the evaluated bytes?", ("Art. 15(5)",)),
        ),
        ("Art. 11", "Art. 12(1)", "Art. 17(1)(k)", "Art. 18", "Annex IV(1)(c)", "Annex IV(2)(b)"),
        "Model registration", "one required field is missing, or the registry holds other bytes than were evaluated",
    ),
    StageRule(
        6, "integration_testing", "integration_report", ("staged_model", "features"), "act",
        (
            Gate("identity", 1, "Does the server answer with exactly the registered bytes?", ("Art. 15(5)",)),
            Gate("contract", 1, "Does it keep its interface, and refuse what lies outside it?", ("Art. 15(4)",)),
            Gate("parity", 1, "Do registry and server agree to the bit?", ("Art. 15(1)",)),
            Gate("golden", 1, "Are the golden cases of every subgroup decided as agreed?", ("Art. 9(6)", "Art. 9(8)")),
            Gate("end_to_end", 1, "Is every answer logged with its version and inference id?", ("Art. 12(1)",)),
            Gate("latency", 1, "Is it fast enough?", ("Art. 15(4)",)),
        ),
        ("Art. 9(6)", "Art. 9(8)", "Art. 12(1)", "Art. 14(4)", "Art. 15(4)", "Annex IV(2)(g)"),
        "Integration testing", "any integration, regression or contract test fails",
        reports=True,
    ),
    StageRule(
        7, "pre_deployment_approval", "approval", ("staged_model", "evaluation_report", "integration_report"), "act",
        (
            Gate("signatures", 1, "Is every decision signed by the person it names, over exactly these digests?",
                 ("Art. 17(1)(a)", "Art. 17(1)(m)")),
            Gate("quorum", 1, "Have enough people of the declared roles approved, and nobody rejected?", ("Art. 17(1)(m)",)),
            Gate("separation", 1, "Did nobody approve their own work?", ("Art. 17(1)(m)",)),
            Gate("freshness", 1, "Is every approval within its validity?", ("Art. 9(8)",)),
        ),
        ("Art. 9(5)", "Art. 9(8)", "Art. 17(1)(a)", "Art. 17(1)(d)", "Art. 17(1)(m)"),
        "Pre-deployment approval", "people have not approved exactly these artefacts; aligned with, not required by, Art. 14",
    ),
    StageRule(
        8, "deployment", "deployment_record", ("approval", "staged_model"), "act",
        (
            Gate("authority", 1, "Is there a valid approval for exactly this model and environment?", ("Art. 17(1)(a)",)),
            Gate("shadow", 1, "Did the shadow answer as evaluated?", ("Art. 9(8)", "Art. 15(4)")),
            Gate("canary", 1, "Did the canary stay within its abort criteria?", ("Art. 9(8)", "Art. 15(4)")),
            Gate("full", 1, "Does production answer with exactly the approved model?", ("Art. 12(1)", "Art. 15(5)")),
        ),
        ("Art. 12(1)", "Art. 17(1)(a)", "Art. 20", "Art. 72", "Annex IV(6)", "Annex IV(9)"),
        "Deployment", "no valid approval, or a rollout step leaves its bounds; the previous version then answers again",
        ordered_gates=True,
    ),
)

STAGE_NAMES: tuple[str, ...] = tuple(rule.name for rule in RIVER)
ASSETS: tuple[str, ...] = tuple(rule.makes for rule in RIVER)


def rule_named(name: str) -> StageRule:
    """The stage that is called `name`, or that makes an asset of that name. KeyError if there is none."""
    for rule in RIVER:
        if name in (rule.name, rule.makes, str(rule.number)):
            return rule
    raise KeyError(name)


def upstream_of(asset: str) -> tuple[str, ...]:
    """Every asset that `asset` rests on, directly or not, in river order."""
    found: set[str] = set()
    todo = list(rule_named(asset).needs)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(rule_named(name).needs)
    return tuple(name for name in ASSETS if name in found)
