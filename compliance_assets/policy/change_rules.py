"""What each part of a definition promises: which way a change of it goes, what it is for the AI system, and who must look.

A table, read from top to bottom; the first row whose pattern fits decides, and what no row knows is structural, never harmless.
Source: this project's classification of changes to a pipeline definition on two axes (effect on what the process assures; effect
on the AI system), under Art. 17(1)(a), (c), (d) and Art. 3(23) with Art. 43(4). The law has no numbers for either; the classes are
proposals to people, who determine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from compliance_assets.policy import change_judges as judge
from compliance_assets.policy.change_judges import Judge


class ChangeClass(StrEnum):
    """What a change is for the AI system, from least to most. SUBSTANTIAL is a candidate: a person determines it (Art. 3(23))."""

    ROUTINE = "ROUTINE"
    SIGNIFICANT = "SIGNIFICANT"
    SUBSTANTIAL = "SUBSTANTIAL"

    @property
    def rank(self) -> int:
        return tuple(ChangeClass).index(self)


OWNER, TECHNICAL, GOVERNANCE = "code owner", "Technical SME", "AI Governance Lead"
ASSESSOR, LEGAL, SECOND, DPO = "AI System Assessor", "Legal & Regulatory Advisor", "a second role beside the AI Governance Lead", "DPO"
STRENGTHENING_REVIEW = (OWNER, TECHNICAL)
NEUTRAL_REVIEW = (OWNER,)

_GOVERNED = (GOVERNANCE,)
_FAIR = (GOVERNANCE, SECOND)
_SYSTEM = (GOVERNANCE, TECHNICAL)
_REASSESS = (GOVERNANCE, LEGAL)
_PROCESS_LAW = "Art. 17(1)(a), (d)"
_BOUNDS_LAW = "Art. 9(8)"
_FAIR_LAW = "Art. 10(2)(f), (g)"
_SUBSTANTIAL_LAW = "Art. 3(23), Art. 43(4)"


@dataclass(frozen=True)
class Rule:
    """One row. `system` None: the class follows from the direction, since the model itself does not change."""

    pattern: tuple[str, ...]
    judge: Judge
    review: tuple[str, ...]
    law: str
    says: str
    system: ChangeClass | None = None

    def fits(self, path: tuple[str, ...]) -> bool:
        head = self.pattern[:-1] if self.pattern[-1] == "**" else self.pattern
        if len(path) < len(head) or (self.pattern[-1] != "**" and len(path) != len(head)):
            return False
        return all(fnmatchcase(part, pattern) for part, pattern in zip(path, head, strict=False))


def _rule(pattern: str, how: Judge, review: tuple[str, ...], law: str, says: str, system: ChangeClass | None = None) -> Rule:
    return Rule(tuple(pattern.split(" ")), how, review, law, says, system)


ROUTINE, SIGNIFICANT, SUBSTANTIAL = ChangeClass
RULES: tuple[Rule, ...] = (
    # the river: stages, gates, order
    _rule("river order", judge.reordered, _GOVERNED, "Art. 17(1)(a), (c)", "the order of stages"),
    _rule("river stages *", judge.lost_weakens, _GOVERNED, "Art. 17(1)(a), (c), (d)", "a stage"),
    _rule("river stages model_evaluation gates fairness", judge.lost_weakens, _FAIR, f"{_PROCESS_LAW}, {_FAIR_LAW}", "the fairness gate"),
    _rule("river stages * gates fairness blocking", judge.becomes_weak(False), _FAIR, f"{_PROCESS_LAW}, {_FAIR_LAW}",
          "whether the fairness gate blocks"),
    _rule("river stages * gates *", judge.lost_weakens, _GOVERNED, _PROCESS_LAW, "a gate"),
    _rule("river stages * gates * blocking", judge.becomes_weak(False), _GOVERNED, _PROCESS_LAW, "whether a gate blocks"),
    _rule("river stages * gates * severity", judge.becomes_weak("WARN", "warning", "info"), _GOVERNED, _PROCESS_LAW,
          "how severe a failed gate is"),
    _rule("river stages * gates * version", judge.structural, (TECHNICAL, GOVERNANCE), _PROCESS_LAW, "the way a gate is judged"),
    _rule("river stages * gates * *", judge.wording, NEUTRAL_REVIEW, "Art. 17(1)(a)", "what a gate says of itself"),
    _rule("river stages * gate_order", judge.reordered, _GOVERNED, "Art. 17(1)(a), (c)", "the order of gates"),
    _rule("river stages * ordered_gates", judge.becomes_weak(False), _GOVERNED, _PROCESS_LAW,
          "whether the first failed gate halts the rest"),
    _rule("river stages * needs *", judge.lost_weakens, _GOVERNED, "Art. 17(1)(a), (c)", "an input that a stage must check"),
    _rule("river stages * kind", judge.structural, _GOVERNED, "Art. 17(1)(a)", "whether a stage computes or acts"),
    _rule("river stages * reports", judge.becomes_weak(False), _GOVERNED, "Art. 11", "whether verdicts are part of the report's bytes"),
    _rule("river stages * makes", judge.structural, _GOVERNED, "Art. 17(1)(a)", "what a stage makes"),
    _rule("river stages * *", judge.wording, NEUTRAL_REVIEW, "Art. 17(1)(a)", "what a stage says of itself"),
    # bounds
    _rule("declaration evaluation fairness bounds *", judge.lost_weakens, _FAIR, f"{_BOUNDS_LAW}, {_FAIR_LAW}", "a fairness bound"),
    _rule("declaration evaluation fairness bounds * accepts", judge.wider_weakens, _FAIR, f"{_BOUNDS_LAW}, {_FAIR_LAW}",
          "a fairness bound"),
    _rule("declaration evaluation fairness bounds * judged_on", judge.becomes_weak("point"), _FAIR, f"{_BOUNDS_LAW}, {_FAIR_LAW}",
          "the end of the interval on which a fairness bound is judged"),
    _rule("declaration evaluation fairness primary", judge.structural, _FAIR, f"{_BOUNDS_LAW}, {_FAIR_LAW}",
          "the primary fairness criterion"),
    _rule("declaration evaluation fairness minimum_group *", judge.larger_weakens, _GOVERNED, _FAIR_LAW,
          "the smallest group that is judged: smaller ones are no longer seen"),
    _rule("declaration evaluation drift against *", judge.lost_weakens, _GOVERNED, f"{_BOUNDS_LAW}, {_SUBSTANTIAL_LAW}",
          "what a candidate is compared with"),
    _rule("declaration evaluation drift drifted_when above", judge.larger_weakens, _GOVERNED, f"{_BOUNDS_LAW}, {_SUBSTANTIAL_LAW}",
          "from which distance a feature counts as drifted"),
    _rule("declaration evaluation drift importance top", judge.smaller_weakens, _GOVERNED, f"{_BOUNDS_LAW}, {_SUBSTANTIAL_LAW}",
          "how many of the most important features are compared"),
    _rule("declaration evaluation drift importance rows", judge.smaller_weakens, (TECHNICAL, ASSESSOR), _BOUNDS_LAW,
          "on how many rows features are ranked"),
    _rule("declaration evaluation drift * because", judge.wording, NEUTRAL_REVIEW, _BOUNDS_LAW, "the reason for it"),
    _rule("declaration evaluation * bounds *", judge.lost_weakens, _GOVERNED, _BOUNDS_LAW, "a bound"),
    _rule("declaration evaluation * bounds * accepts", judge.wider_weakens, _GOVERNED, _BOUNDS_LAW, "a bound"),
    _rule("declaration evaluation * bounds * judged_on", judge.becomes_weak("point"), _GOVERNED, _BOUNDS_LAW,
          "the end of the interval on which a bound is judged"),
    _rule("declaration evaluation * bounds * level", judge.smaller_weakens, (TECHNICAL, ASSESSOR), "Art. 9(8), Art. 15(4)",
          "the strength of a disturbance"),
    _rule("declaration evaluation * bounds * because", judge.wording, NEUTRAL_REVIEW, _BOUNDS_LAW, "the reason of a bound"),
    _rule("declaration evaluation undecided", judge.becomes_weak("exception"), _FAIR, _BOUNDS_LAW,
          "what follows an undecided verdict: a refusal, or an exception"),
    _rule("declaration evaluation * bounds * seeds", judge.smaller_weakens, (TECHNICAL, ASSESSOR), "Art. 9(8), Art. 15(4)",
          "how many other seeds are tried"),
    _rule("declaration evaluation * bounds * tolerance", judge.larger_weakens, (TECHNICAL, ASSESSOR), "Art. 9(8), Art. 15(4)",
          "how far a score may go against its direction"),
    _rule("declaration evaluation * bounds * mutable", judge.fewer_weakens, (TECHNICAL, ASSESSOR), "Art. 9(8), Art. 15(5)",
          "which features somebody may move"),
    _rule("declaration evaluation * bounds * rows", judge.smaller_weakens, (TECHNICAL, ASSESSOR), "Art. 9(8), Art. 15(5)",
          "how many rows are asked"),
    _rule("declaration evaluation * bounds * with_proxies", judge.becomes_weak(False), _FAIR, f"{_BOUNDS_LAW}, {_FAIR_LAW}",
          "whether stand-ins are exchanged with the attribute"),
    _rule("declaration evaluation time_slices", judge.lost_weakens, _GOVERNED, "Art. 9(8), Art. 15(1)",
          "whether stretches of time are judged by themselves"),
    _rule("declaration evaluation time_slices cuts", judge.fewer_weakens, _GOVERNED, "Art. 9(8), Art. 15(1)",
          "where the holdout is cut by time"),
    _rule("declaration evaluation time_slices minimum *", judge.larger_weakens, _GOVERNED, "Art. 9(8), Art. 15(1)",
          "the smallest slice that is judged: smaller ones are no longer seen"),
    _rule("declaration evaluation time_slices minimum_group *", judge.larger_weakens, _GOVERNED, _FAIR_LAW,
          "the smallest group within a slice that is judged: smaller ones are no longer seen"),
    _rule("declaration evaluation time_slices because", judge.wording, NEUTRAL_REVIEW, "Art. 9(8)", "why it is cut by time"),
    _rule("declaration evaluation holdout_uses at_most", judge.larger_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "how often the same holdout may judge"),
    _rule("declaration evaluation holdout_uses", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "whether looks at the holdout are limited"),
    _rule("declaration evaluation holdout_uses because", judge.wording, NEUTRAL_REVIEW, "Art. 15(1)", "the reason of that limit"),
    _rule("declaration evaluation decision_threshold", judge.structural, _FAIR, "Art. 9(8), Art. 13(3)(b)",
          "the score from which a decision "
          "is favourable", SIGNIFICANT),
    # groups
    _rule("declaration data protected *", judge.lost_weakens, _FAIR, _FAIR_LAW, "a protected attribute"),
    _rule("declaration data protected * groups", judge.fewer_weakens, _FAIR, _FAIR_LAW, "the groups of a protected attribute"),
    _rule("declaration data protected * cuts", judge.fewer_weakens, _FAIR, _FAIR_LAW, "where the groups of a protected attribute are cut"),
    _rule("declaration data protected * *", judge.weakens, _FAIR, _FAIR_LAW, "how a protected attribute is coded"),
    _rule("declaration data intersections *", judge.lost_weakens, _FAIR, _FAIR_LAW, "an intersection of groups"),
    _rule("declaration data minimum_cell *", judge.smaller_weakens, _GOVERNED, "Art. 10(2)(f), Art. 10(3)",
          "the smallest group the data must hold"),
    _rule("declaration data used_as_features *", judge.gained_weakens, _FAIR, _FAIR_LAW,
          "a protected attribute that the model sees", SUBSTANTIAL),
    _rule("declaration data used_as_features * *", judge.wording, NEUTRAL_REVIEW, _FAIR_LAW, "the reason for it"),
    _rule("declaration data reference_population tolerance", judge.larger_weakens, _GOVERNED, "Art. 10(3), Art. 10(4)",
          "how far the data may be from its population"),
    _rule("declaration data reference_population because", judge.wording, NEUTRAL_REVIEW, "Art. 10(4)", "the reason of a tolerance"),
    _rule("declaration data reference_population shares *", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 10(4)",
          "an attribute held against "
          "the population"),
    _rule("declaration data reference_population shares **", judge.structural, _REASSESS, f"Art. 10(4), {_SUBSTANTIAL_LAW}",
          "the population that the system is for", SUBSTANTIAL),
    # data
    _rule("declaration data prohibited_columns **", judge.fewer_weakens, _FAIR, _FAIR_LAW, "columns that must not be there"),
    _rule("declaration data rows_change", judge.lost_weakens, _GOVERNED, "Art. 10(3)", "whether the number of rows is bounded"),
    _rule("declaration data identical_rows", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "whether doubles across parts are bounded"),
    _rule("declaration data identical_rows at_most", judge.larger_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "how many doubles may stand in two parts"),
    _rule("declaration data rows_change at_most", judge.larger_weakens, _GOVERNED, "Art. 10(3)", "how far the number of rows may move"),
    _rule("declaration features attribute_auc_review_above", judge.larger_weakens, _FAIR, _FAIR_LAW,
          "how far a feature may give a group away before somebody must look"),
    _rule("declaration features target_auc_review_above", judge.larger_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "how far a feature may give the outcome away before somebody must look"),
    _rule("declaration data conflicting_labels", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 15(5)",
          "whether different labels of those who look the same are bounded"),
    _rule("declaration data conflicting_labels at_most", judge.larger_weakens, _GOVERNED, "Art. 10(3), Art. 15(5)",
          "how many who look the same may be labelled differently"),
    _rule("declaration data decided_at", judge.structural, _GOVERNED, "Art. 10(3), Art. 15(1)", "when a decision is made"),
    _rule("declaration data currentness *", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 10(4)", "a bound on the age of rows"),
    _rule("declaration data currentness * accepts", judge.wider_weakens, _GOVERNED, "Art. 10(3), Art. 10(4)",
          "a bound on the age of rows"),
    _rule("declaration data currentness * oldest", judge.longer_weakens, _GOVERNED, "Art. 10(3), Art. 10(4)",
          "how old a row may be"),
    _rule("declaration data currentness * as_of", judge.structural, (TECHNICAL, GOVERNANCE), "Art. 10(3), Art. 10(4)",
          "the day on which ages are counted"),
    _rule("declaration training reproducibility_probe", judge.becomes_weak(False), (TECHNICAL, ASSESSOR), "Art. 11, Annex IV(2)(g)",
          "whether training is repeated and compared"),
    _rule("declaration data source **", judge.structural, (GOVERNANCE, TECHNICAL), "Art. 10(2)(b)", "the raw source", SIGNIFICANT),
    _rule("declaration data target prevalence", judge.wider_weakens, _GOVERNED, "Art. 10(3)", "the accepted share of favourable labels"),
    _rule("declaration data target *", judge.structural, _REASSESS, _SUBSTANTIAL_LAW, "what is predicted", SUBSTANTIAL),
    _rule("declaration data split seed", judge.structural, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "the split: another holdout needs a bridge run on both", SIGNIFICANT),
    _rule("declaration data split holdout", judge.smaller_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "the share of rows to judge by", SIGNIFICANT),
    _rule("declaration data split *", judge.structural, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "the split: another holdout needs a bridge run on both", SIGNIFICANT),
    _rule("declaration data provenance contains_personal_data", judge.structural, (GOVERNANCE, LEGAL, DPO), "Art. 10(2)(b)",
          "whether the data is about people", SIGNIFICANT),
    _rule("declaration data provenance legal_basis", judge.structural, (GOVERNANCE, LEGAL, DPO), "Art. 10(2)(b)",
          "why the data may be processed"),
    _rule("declaration data provenance *", judge.structural, _GOVERNED, "Art. 10(2)(b)", "where the data comes from"),
    _rule("declaration data completeness *", judge.lost_weakens, _GOVERNED, "Art. 10(2)(f), Art. 10(3)", "a bound on gaps"),
    _rule("declaration data completeness * accepts", judge.wider_weakens, _GOVERNED, "Art. 10(2)(f), Art. 10(3)", "a bound on gaps"),
    _rule("declaration data shift *", judge.lost_weakens, _GOVERNED, "Art. 9(8), Art. 10(3)", "a bound on shift"),
    _rule("declaration data shift * accepts", judge.wider_weakens, _GOVERNED, "Art. 9(8), Art. 10(3)", "a bound on shift"),
    _rule("declaration data [cs]* * judged_on", judge.becomes_weak("point"), _GOVERNED, "Art. 9(8)",
          "the end of the interval on which a bound is judged"),
    _rule("declaration data [cs]* * because", judge.wording, NEUTRAL_REVIEW, "Art. 9(8)", "the reason of a bound"),
    _rule("declaration data contract", judge.structural, _GOVERNED, "Art. 10(3)", "which file is the data contract"),
    _rule("declaration data **", judge.structural, _SYSTEM, "Art. 10(2)(c)", "how the data is prepared", SIGNIFICANT),
    # features
    _rule("declaration features registry *", judge.structural, _SYSTEM, f"Art. 10(2)(c), {_SUBSTANTIAL_LAW}", "a feature", SUBSTANTIAL),
    _rule("declaration features registry * range", judge.wider_weakens, (TECHNICAL, GOVERNANCE), "Art. 10(2)(c)",
          "the documented range of a feature", SIGNIFICANT),
    _rule("declaration features registry * nulls", judge.becomes_weak("allow"), (TECHNICAL, GOVERNANCE), "Art. 10(3)",
          "whether a missing value is refused", SIGNIFICANT),
    _rule("declaration features registry * categories", judge.more_weakens, (TECHNICAL, GOVERNANCE), "Art. 10(2)(c)",
          "the documented values of a feature", SIGNIFICANT),
    _rule("declaration features registry * known_at", judge.lost_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "whether it is held against when the value was known"),
    _rule("declaration features registry * gives_away", judge.gained_weakens, _GOVERNED, "Art. 10(3), Art. 15(1)",
          "an assessment that lets a feature through that tells the outcome"),
    _rule("declaration features registry * gives_away reviewed", judge.becomes_weak(True), _GOVERNED, "Art. 10(3), Art. 15(1)",
          "an assessment that lets a feature through that tells the outcome"),
    _rule("declaration features registry * gives_away note", judge.wording, NEUTRAL_REVIEW, "Art. 15(1)", "the reason of an assessment"),
    _rule("declaration features registry * proxy", judge.gained_weakens, _FAIR, _FAIR_LAW, "an assessment that lets a stand-in through"),
    _rule("declaration features registry * proxy reviewed", judge.becomes_weak(True), _FAIR, _FAIR_LAW,
          "an assessment that lets a stand-in through"),
    _rule("declaration features registry * proxy note", judge.wording, NEUTRAL_REVIEW, _FAIR_LAW, "the reason of an assessment"),
    _rule("declaration features registry * description", judge.wording, NEUTRAL_REVIEW, "Annex IV(2)(b)", "what a feature means"),
    _rule("declaration features registry * unit", judge.structural, (TECHNICAL,), "Annex IV(2)(b)", "the unit of a feature"),
    _rule("declaration features order", judge.reordered, (TECHNICAL,), "Art. 10(2)(c)", "the order of features", SIGNIFICANT),
    _rule("declaration features proxy_review_above", judge.larger_weakens, _FAIR, _FAIR_LAW, "the association that demands an assessment"),
    _rule("declaration features proxy_because", judge.wording, NEUTRAL_REVIEW, _FAIR_LAW, "the reason for it"),
    _rule("declaration features **", judge.structural, _SYSTEM, "Art. 10(2)(c)", "how a feature is computed", SIGNIFICANT),
    # training
    _rule("declaration training estimator", judge.structural, (GOVERNANCE, TECHNICAL, LEGAL), f"Annex IV(2)(b), {_SUBSTANTIAL_LAW}",
          "the kind of model", SUBSTANTIAL),
    _rule("declaration training seed", judge.weakens, (TECHNICAL, ASSESSOR), "Art. 15(1)",
          "a seed: another can be tried until a bound is met, unless shown otherwise", SIGNIFICANT),
    _rule("declaration training mitigation", judge.lost_weakens, _FAIR, _FAIR_LAW, "what is done against unfairness", SIGNIFICANT),
    _rule("declaration training mitigation because", judge.wording, NEUTRAL_REVIEW, _FAIR_LAW, "the reason of a mitigation"),
    _rule("declaration training mitigation *", judge.structural, _FAIR, _FAIR_LAW, "what is done against unfairness", SIGNIFICANT),
    _rule("declaration training resources *", judge.structural, (TECHNICAL,), "Annex IV(2)(c)", "what training may use"),
    _rule("declaration training rationale", judge.wording, NEUTRAL_REVIEW, "Annex IV(2)(b)", "why the model is as it is"),
    _rule("declaration training **", judge.structural, _SYSTEM, "Annex IV(2)(b)", "how the model learns", SIGNIFICANT),
    # integration
    _rule("declaration integration latency_p95_ms", judge.larger_weakens, (TECHNICAL, GOVERNANCE), "Art. 15(4)",
          "the longest accepted answer time"),
    _rule("declaration integration latency_because", judge.wording, NEUTRAL_REVIEW, "Art. 15(4)", "the reason of a bound"),
    _rule("declaration integration parity_rows", judge.smaller_weakens, (TECHNICAL, GOVERNANCE), "Art. 15(1)",
          "the rows on which registry and server must agree"),
    _rule("declaration integration golden", judge.structural, _GOVERNED, "Art. 9(6), Art. 9(8)", "which file holds the golden cases"),
    # approval
    _rule("declaration approval requires *", judge.smaller_weakens, (GOVERNANCE, LEGAL), "Art. 17(1)(a), (m)",
          "how many people of a role must approve"),
    _rule("declaration approval valid_for", judge.longer_weakens, (GOVERNANCE, LEGAL), "Art. 9(8), Art. 17(1)(m)",
          "how long an approval holds"),
    _rule("declaration approval separation *", judge.lost_weakens, (GOVERNANCE, LEGAL), "Art. 17(1)(m)", "a separation of duties"),
    _rule("declaration approval by_change * *", judge.smaller_weakens, (GOVERNANCE, LEGAL), "Art. 17(1)(a), (m)",
          "how many people of a role must approve a release of this class besides"),
    _rule("declaration approval by_change **", judge.lost_weakens, (GOVERNANCE, LEGAL), "Art. 17(1)(a), (m)",
          "who must approve a release of this class besides"),
    _rule("declaration approval exceptions", judge.gained_weakens, _FAIR, f"{_BOUNDS_LAW}, Art. 17(1)(m)",
          "whether a gate that failed may be excepted"),
    _rule("declaration approval exceptions covers *", judge.gained_weakens, _FAIR, f"{_BOUNDS_LAW}, Art. 17(1)(m)",
          "a verdict that may be excepted"),
    _rule("declaration approval exceptions longest", judge.longer_weakens, _FAIR, f"{_BOUNDS_LAW}, Art. 17(1)(m)",
          "how long an exception may hold"),
    _rule("declaration approval exceptions approved_by *", judge.smaller_weakens, _FAIR, "Art. 17(1)(a), (m)",
          "how many people of a role must approve an exception"),
    # rollout
    _rule("declaration deployment steps *", judge.lost_weakens, _SYSTEM, "Art. 9(8), Art. 15(4)", "a step of the rollout"),
    _rule("declaration deployment steps * share", judge.larger_weakens, _SYSTEM, "Art. 9(8), Art. 15(4)",
          "the share of people whom a canary answers"),
    _rule("declaration deployment steps * *", judge.smaller_weakens, _SYSTEM, "Art. 9(8), Art. 15(4)",
          "the requests before a step is judged"),
    _rule("declaration deployment abort_when *", judge.lost_weakens, _SYSTEM, "Art. 15(4), Art. 20", "a rule that undoes a rollout"),
    _rule("declaration deployment abort_when * tolerates", judge.wider_weakens, _SYSTEM, "Art. 15(4), Art. 20",
          "what a rollout may do before it is undone"),
    _rule("declaration deployment wait_seconds", judge.wording, NEUTRAL_REVIEW, "Art. 17(1)(a)", "how long a step waits before it holds"),
    _rule("declaration deployment environment", judge.structural, _REASSESS, _SUBSTANTIAL_LAW, "where the model answers", SUBSTANTIAL),
    # after deployment
    _rule("declaration deployment overrides", judge.lost_weakens, _SYSTEM, "Art. 14(4)(b), (d), Art. 72",
          "whether it is watched how often people decide otherwise"),
    _rule("declaration deployment overrides between", judge.wider_weakens, _SYSTEM, "Art. 14(4)(b), (d), Art. 72",
          "how often people are expected to decide otherwise"),
    _rule("declaration deployment overrides decisions", judge.larger_weakens, _SYSTEM, "Art. 14(4)(b), (d), Art. 72",
          "the decisions before it is said whether people decide otherwise as expected"),
    _rule("declaration deployment overrides because", judge.wording, NEUTRAL_REVIEW, "Art. 9(8)", "the reason of a bound"),
    _rule("declaration retraining on_drift", judge.lost_weakens, _SYSTEM, "Art. 72", "drift that starts a run"),
    _rule("declaration retraining on_drift psi", judge.larger_weakens, _SYSTEM, "Art. 72", "the drift that counts"),
    _rule("declaration retraining on_drift **", judge.structural, _SYSTEM, "Art. 72", "the windows in which drift counts"),
    _rule("declaration retraining on_new_data", judge.becomes_weak(False), _SYSTEM, "Art. 72", "whether new data starts a run"),
    _rule("declaration retraining schedule", judge.structural, _SYSTEM, "Art. 72", "when the system learns again"),
    _rule("declaration retention *", judge.smaller_weakens, (GOVERNANCE, LEGAL, DPO), "Art. 18(1), Art. 19(1)",
          "how long evidence is kept"),
    _rule("declaration retraining driven_by", judge.structural, _GOVERNED, "Art. 17(1)(a), (c)",
          "whether people by hand or the pipeline drive the stages"),
    _rule("declaration residency", judge.structural, (GOVERNANCE, LEGAL, DPO), "Art. 17(1)(f)", "where data and evidence are kept"),
    # what the system is
    _rule("declaration intended_purpose", judge.structural, _REASSESS, _SUBSTANTIAL_LAW, "the intended purpose", SUBSTANTIAL),
    _rule("declaration system", judge.structural, _REASSESS, _SUBSTANTIAL_LAW, "which system it is", SUBSTANTIAL),
    _rule("declaration risk annex_iii", judge.structural, _REASSESS, f"Art. 6(2), {_SUBSTANTIAL_LAW}",
          "the place in Annex III", SUBSTANTIAL),
    _rule("declaration risk basis", judge.wording, (GOVERNANCE,), "Art. 6(2)", "why the system falls there"),
    _rule("declaration provider", judge.structural, _REASSESS, "Art. 16, Art. 25(1)", "who answers for the system", SIGNIFICANT),
    _rule("declaration title", judge.wording, NEUTRAL_REVIEW, "Art. 17(1)(a)", "what people call it"),
    _rule("declaration aisdp *", judge.wording, NEUTRAL_REVIEW, "Art. 11", "a reference to the documentation"),
    # code and files
    _rule("code systems/*.py", judge.structural, _SYSTEM, "Art. 10(2)(c), Annex IV(2)(b)", "the system's own code", SIGNIFICANT),
    _rule("code systems/*", judge.structural, _GOVERNED, "Art. 9(8), Art. 10(3)", "a data contract or golden cases", SIGNIFICANT),
    _rule("code compliance_assets/metrics/*", judge.structural, (TECHNICAL, GOVERNANCE), "Art. 9(8), Art. 15(1)",
          "how a metric is computed: structural until a run on old and new agrees"),
    _rule("code compliance_assets/sources/*", judge.structural, _SYSTEM, "Art. 10(2)(c)", "how raw data is read", SIGNIFICANT),
    _rule("code *", judge.structural, (TECHNICAL, GOVERNANCE), "Art. 17(1)(a), (d)", "code that judges or orders"),
    # nothing is harmless because it is unknown
    _rule("**", judge.structural, _GOVERNED, "Art. 17(1)(a)", "something that this table does not know"),
)


def rule_for(path: tuple[str, ...]) -> Rule:
    """The first row that fits; the last one fits everything."""
    return next(rule for rule in RULES if rule.fits(path))
