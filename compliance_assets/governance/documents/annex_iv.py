"""Technical documentation in the order of Annex IV of the AI Act, from evidence alone: 23 points, each filled, partly filled or a gap.

What a point asks is paraphrased from Annex IV (Art. 11(1)). Nothing here is a default: what no record says and nobody signed stands as a
marked gap. Small and medium-sized enterprises and small mid-caps may give it in a simplified manner (Art. 11(1), as amended); this is
the full form.
"""

from __future__ import annotations

from collections.abc import Mapping

from compliance_assets.governance.charts.reading import words
from compliance_assets.governance.documents import in_words
from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.gathered import Gathered, release_of
from compliance_assets.governance.documents.human_parts import Part
from compliance_assets.governance.documents.paper import Line, Point

TITLE = "Technical documentation, in the order of Annex IV"
THRESHOLD = "Decision threshold: the favourable answer is given from this score on"
BASIS = "Art. 11(1) and Annex IV of Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744 (law; points paraphrased)"


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """All points, 1(a) to 9."""
    write = say.Writer(g, standing)
    return (*_general(g, write), *_development(g, write), *_remaining(g, write))


def _general(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    staged, model = g.record("staged_model"), g.record("candidate_model")
    release = release_of(g.river, g.one)
    return (
        write.point("1(a)", "intended purpose, name of the provider, version and its relation to previous versions", "◐", {
            "Provider": g.said("Provider", "provider"), "System": g.said("System", "title"),
            "Intended purpose": g.said("Intended purpose", "intended_purpose"),
            "Entry of Annex III": g.said("Declared entry of Annex III", "risk", "annex_iii"),
            "Why that entry": g.said("Why that entry", "risk", "basis"),
            "Release": Line("Release", release, g.from_record(staged, str(staged.body.output))) if release and staged else None,
            "Model file, sha256": Line("Model file, sha256", g.one.model, g.from_record(model)) if g.one.model and model else None,
            "Earlier models it was compared with": g.stated("evaluation_report", "Earlier models it was compared with", "references"),
        }, [say.became(g)], parts=["annex-iv/1(a)"]),
        write.point("1(b)", "how it interacts, or can interact, with hardware, software or other AI systems that are not part of it", "◐", {
            "Interface": g.verdict("integration_report", "contract"),
            "Registry": g.output("staged_model", "Listed in the model registry as", "registry_name"),
        }, parts=["annex-iv/1(b)"]),
        write.point("1(c)", "versions of relevant software or firmware, and requirements on version updates", "◐", {
            "Environment, digest": g.stated("candidate_model", "Environment, digest", "environment"),
            "Source code that it ran from": g.stated("candidate_model", "Source code that it ran from", "code", by=in_words.working_tree),
        }, grids=[say.libraries(g)], parts=["annex-iv/1(c)"]),
        write.point("1(d)", "the forms in which it is placed on the market or put into service", "◐", {
            "Environment": g.said("Environment it is deployed to", "deployment", "environment"),
            "Declared rollout": g.said("Declared rollout", "deployment", "steps", by=in_words.rollout),
        }, parts=["annex-iv/1(d)"]),
        write.point("1(e)", "the hardware on which it is intended to run", "◐", {
            "Answer time": g.output("integration_report", "Answer time in the integration test, 95th percentile", "latency_p95_ms",
                                    by=in_words.in_milliseconds),
            "Size of the model": g.stated("candidate_model", "Size of the model", "observations", "model_bytes", by=in_words.in_bytes),
        }, parts=["annex-iv/1(e)"]),
        write.point("1(f)", "photographs or illustrations, where it is a component of a product", "○", parts=["annex-iv/1(f)"]),
        write.point("1(g)", "a basic description of the user interface provided to the deployer", "○", parts=["annex-iv/1(g)"]),
        write.point("1(h)", "instructions for use for the deployer", "◐", grids=[say.for_everybody(g)], parts=["annex-iv/1(h)"]),
    )


def _development(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    def took(asset: str, what: str, observed: str) -> Line | None:
        return g.stated(asset, what, "observations", observed, by=in_words.in_seconds)

    return (
        write.point("2(a)", "methods and steps of development, including pre-trained systems or tools of third parties", "◐", {
            "Pipeline definition": g.stated("candidate_model", "Pipeline definition, digest", "definition"),
            "Kind of model": g.output("candidate_model", "Kind of model", "estimator"),
            "Types that the model file may hold": g.output("candidate_model", "Types that the model file may hold", "trusted_types"),
            "Libraries that trained it": g.stated("candidate_model", "Libraries that trained it", "observations", "libraries"),
        }, say.stage_lines(g), [say.gates_of_definition(g), say.code_files(g)], parts=["annex-iv/2(a)"]),
        write.point("2(b)", "design: logic, key choices with rationale and assumptions, groups, what it optimises for, trade-offs", "◐", {
            "Label": g.said("Label, what it learns to predict", "data", "target", by=in_words.label),
            "Why this kind of model": g.said("Why this kind of model", "training", "rationale"),
            "Hyperparameters": g.reported("candidate_model", "Hyperparameters", "hyperparameters"),
            "Decision threshold": g.said(THRESHOLD, "evaluation", "decision_threshold"),
            "Protected attributes": g.said("Protected attributes and how groups are made", "data", "protected"),
            "Protected attributes seen by the model": g.said("Protected attributes seen by the model", "data", "used_as_features"),
            "Mitigation in training": g.reported("candidate_model", "Mitigation of bias in training", "mitigation"),
            "Trials of hyperparameters": g.reported("candidate_model", "Trials of hyperparameters", "trials"),
            "Fairness criterion that counts most": g.said("Fairness criterion that counts most", "evaluation", "fairness", "primary",
                                                          by=words),
        }, grids=[say.features(g), say.assessed_proxies(g)], parts=["annex-iv/2(b)"]),
        write.point("2(c)", "system architecture; computational resources used to develop, train, test and validate", "◐", {
            "Fitting the model, by the clock": took("candidate_model", "Fitting the model, by the clock", "training_seconds"),
            "Fitting the model, processor time": took("candidate_model", "Fitting the model, processor time", "cpu_seconds"),
            "Largest memory": g.stated("candidate_model", "Largest memory of the process that trained", "observations", "peak_rss_bytes",
                                       by=in_words.in_bytes),
            "Threads": g.stated("candidate_model", "Threads in training", "observations", "threads"),
            "GPUs": g.stated("candidate_model", "GPUs in training", "observations", "gpu"),
            "Data preparation": took("dataset", "Data preparation, by the clock", "seconds"),
            "Feature engineering": took("features", "Feature engineering, by the clock", "seconds"),
            "Evaluation": took("evaluation_report", "Scoring and measuring in the evaluation, by the clock",
                               "scoring_and_measuring_seconds"),
            "Integration test": took("integration_report", "Integration test, by the clock", "seconds"),
        }, parts=["annex-iv/2(c)"]),
        write.point("2(d)", "data: training methods, datasets, provenance, scope, characteristics, selection, labelling, cleaning", "◐", {
            "Raw source": g.output("dataset", "Raw source, sha256", "source"), "Dataset": g.stated("dataset", "Dataset, digest", "output"),
            "Rows": g.output("dataset", "Rows", "rows", by=in_words.counted),
            "Collected by": g.said("Collected by", "data", "provenance", "collected_by"),
            "Collected how": g.said("Collected how", "data", "provenance", "method"),
            "Period": g.said("Period", "data", "provenance", "period"),
            "First collected for": g.said("First collected for", "data", "provenance", "original_purpose"),
            "Legal basis": g.said("Processed because", "data", "provenance", "legal_basis"),
            "Split": g.said("Split", "data", "split", by=in_words.split),
            "Preparation": g.reported("dataset", "Preparation", "preparation", "purpose"),
            "Declared population": g.said("Declared population", "data", "reference_population", by=in_words.population),
        }, grids=[say.splits(g), say.groups_in_data(g), say.checks_of_data(g), say.input_columns(g)],
            parts=["annex-iv/2(d)"]),
        write.point("2(e)", "assessment of the human oversight measures needed (Art. 14), and of what helps deployers to interpret outputs "
                    "(Art. 13(3)(d))", "○", parts=["annex-iv/2(e)"]),
        write.point("2(f)", "predetermined changes, and solutions that keep requirements met", "◐", {
            "Declared retraining": g.said("Declared retraining", "retraining", by=in_words.retraining),
            "Limits of a rollout": g.said("A rollout undoes itself on", "deployment", "abort_when", by=in_words.undone),
        }, parts=["annex-iv/2(f)"]),
        write.point("2(g)", "validation and testing: data, metrics for accuracy, robustness and potentially discriminatory impacts; "
                    "reports dated and signed", "◐", {
                        "Uses of the holdout": g.stated("evaluation_report", "Holdout opened", "observations", "holdout_opened",
                                                        by=in_words.holdout),
                        "Isolation of the holdout": g.verdict("candidate_model", "isolation"),
                    }, say.stage_lines(g, ("model_evaluation", "integration_testing")),
                    [say.bounds(g), say.findings(g, "evaluation_report", "Findings of the evaluation"), *say.for_groups(g)],
                    parts=["annex-iv/2(g)"]),
        write.point("2(h)", "cybersecurity measures", "◐", {
            "Origin of the data": g.verdict("dataset", "source"), "Storage of the model": g.verdict("candidate_model", "storage"),
            "Registry": g.verdict("staged_model", "integrity"), "Server": g.verdict("integration_report", "identity"),
            "Tests against attacks (made to mislead the model, or to find out who was in its data)": say.attacks(g),
        }, parts=["annex-iv/2(h)"]),
    )


def _remaining(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    return (
        write.point("3", "monitoring, functioning, control: capabilities and limits, accuracy for persons and groups, overall expected "
                    "accuracy, foreseeable unintended outcomes, oversight, input data", "◐", {
                        "Decision threshold": g.said(THRESHOLD, "evaluation", "decision_threshold"),
                        "Smallest group that is judged": g.said("Smallest group that is judged", "evaluation", "fairness",
                                                                "minimum_group", by=in_words.smallest),
                    }, say.small_groups(g),
                    [say.for_everybody(g), *say.for_groups(g, ("accuracy", "recall", "specificity")), say.features(g)],
                    parts=["annex-iv/3"]),
        write.point("4", "why the performance metrics are appropriate for this system", "◐", grids=[say.bounds(g)], parts=["annex-iv/4"]),
        write.point("5", "the risk management system (Art. 9)", "○", lines=(*say.refusals(g), *say.excepted(g)), parts=["annex-iv/5"]),
        write.point("6", "relevant changes made by the provider through the lifecycle", "◐",
                    lines=(*say.definitions(g), *say.approvals(g), *say.deployments(g)), parts=["annex-iv/6"]),
        write.point("7", "harmonised standards applied, or the other solutions adopted", "○", parts=["annex-iv/7"]),
        write.point("8", "a copy of the EU declaration of conformity (Art. 47)", "○", parts=["annex-iv/8"]),
        write.point("9", "the system that evaluates performance after placing on the market, and its plan (Art. 72(3))", "◐", {
            "Drift that starts a run": g.said("Drift that starts a run", "retraining", "on_drift", by=in_words.drift_rule),
            "Watched during a rollout": g.said("A rollout undoes itself on", "deployment", "abort_when", by=in_words.undone),
            "Expected overrides": g.said("Decisions that people are expected to override", "deployment", "overrides",
                                         by=in_words.overridden),
            "Kept for": g.said("Kept for", "retention", by=in_words.retention),
        }, parts=["annex-iv/9"]),
    )
