"""A declaration that cannot be read says file, line, rule and remedy, and says everything that is wrong at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.reading import read_declared, read_document
from compliance_assets.policy.system import System
from compliance_assets_tests.policy.declaring import broken, line_of, problems_in, says
from compliance_assets_tests.small_lender import SYSTEM


def read(tmp_path, text):
    """The values of a YAML text, read without a model."""
    (tmp_path / "x.yaml").write_text(text)
    return read_document(tmp_path / "x.yaml")


def refused(tmp_path, text):
    """The problems of a YAML text as YAML."""
    try:
        return tuple(problem.key + ": " + str(problem) for problem in read(tmp_path, text).problems)
    except DeclarationError as error:
        return error.problems


def test_the_healthy_declaration_is_read(tmp_path):
    (tmp_path / "system.yaml").write_text(SYSTEM)
    system = read_declared(tmp_path / "system.yaml", System)
    assert system.system == "small_lender"
    assert system.evaluation.performance[0].at_least == 0.75
    assert system.data.protected["age_band"].groups == ("below_45", "from_45")


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path):
    (problem,) = broken(tmp_path, "  undecided: refuse", "  undecided: refuse\n  thresold: 0.4")
    assert says(
        problem,
        line_of("  undecided: refuse") + 1,
        "evaluation.thresold",
        "unknown key 'thresold'",
        "did you mean",
        "decision_threshold",
    )


def test_the_python_name_of_a_key_is_no_second_spelling(tmp_path):
    problems = broken(tmp_path, "{from: age, cuts: [45]}", "{from_: age, cuts: [45]}")
    assert any("unknown key 'from_', did you mean 'from'?" in problem for problem in problems)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("title: Small loans\n", "title"),
        ("  key: application_id\n", "data.key"),
        ("  decision_threshold: 0.5\n", "evaluation.decision_threshold"),
        ("residency: eu\n", "residency"),
        ("  undecided: refuse\n", "evaluation.undecided"),
    ],
)
def test_a_missing_key_is_told_at_the_thing_it_is_missing_from(tmp_path, line, key):
    (problem,) = broken(tmp_path, line, "")
    parent = {"data": "data:\n", "evaluation": "evaluation:\n"}.get(key.split(".")[0])
    assert says(problem, line_of(parent) if parent else 1, key, "is missing")


def test_a_missing_number_is_not_filled_in(tmp_path):
    (problem,) = broken(tmp_path, "  decision_threshold: 0.5\n", "")
    assert "No number is filled in for you." in problem


def test_missing_families_of_bounds_name_the_conventions_and_that_they_are_not_law(tmp_path):
    start, end = SYSTEM.index("  calibration:"), SYSTEM.index("  drift:")
    (problem,) = broken(tmp_path, SYSTEM[start:end], "  calibration: []\n")
    assert says(
        problem,
        line_of("  calibration:"),
        "evaluation.calibration",
        "at least 1 entry",
        "none of them law",
        "At most 0.05 is common in practice (no standard)",
    )


def test_every_problem_is_told_at_once_in_the_order_of_lines(tmp_path):
    text = (
        SYSTEM.replace("title: Small loans", "title: 12")
        .replace("train: 0.6", "train: 1.6")
        .replace("at_most: 0.2, judged_on: upper, because: saying", "at_most: 0.2, judged_on: uper, because: saying")
        .replace("residency: eu\n", "")
    )
    problems = problems_in(tmp_path / "system.yaml", text)
    assert [problem.split(": ")[1] for problem in problems] == [
        "residency",
        "title",
        "data.split.train",
        "evaluation.performance[1].judged_on",
    ]


def test_the_error_names_the_file_and_counts(tmp_path):
    (tmp_path / "system.yaml").write_text(SYSTEM.replace("residency: eu\n", ""))
    with pytest.raises(DeclarationError, match="one problem") as refused_:
        read_declared(tmp_path / "system.yaml", System)
    assert f"{tmp_path / 'system.yaml'}:1: residency: is missing" in str(refused_.value)


def test_the_only_entry_of_a_list_is_told_by_its_own_mistake(tmp_path):
    start, end = SYSTEM.index("    - {metric: brier_score"), SYSTEM.index("  fairness:")
    text = SYSTEM[:start] + SYSTEM[end:]
    problems = problems_in(tmp_path / "system.yaml", text.replace("metric: roc_auc,", "metric: roc_acu,"))
    assert len(problems) == 1
    assert "unknown metric 'roc_acu'" in problems[0]


# ------------------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("decision_threshold: 0.5", 'decision_threshold: "0.5"', "evaluation.decision_threshold", ("a number", "without quotes")),
        ("decision_threshold: 0.5", "decision_threshold: true", "evaluation.decision_threshold", ("a number", "got true")),
        ("title: Small loans", "title: 12", "title", ("must be text", "in quotes")),
        ("title: Small loans", "title:", "title", ("must be text", "got nothing")),
        ("rows: 2000, seed", "rows: 2000.5, seed", "data.source.rows", ("a whole number",)),
        ("  undecided: refuse", "  undecided: refused", "evaluation.undecided", ("refuse or exception", "Did you mean 'refuse'?")),
        (
            "contains_personal_data: false",
            'contains_personal_data: "false"',
            "data.provenance.contains_personal_data",
            ("true or false", "without quotes"),
        ),
        ("residency: eu", "residency: [eu]", "residency", ("must be text",)),
        ("  valid_for: 48h", "  valid_for: 2 days", "approval.valid_for", ("hours or days", "48h")),
        ("  key: application_id", "  key: ''", "data.key", ("must not be empty",)),
        (
            "retention: {documentation_years: 10,",
            "retention: {documentation_years: 9,",
            "retention.documentation_years",
            ("at least 10", "Art. 18(1)"),
        ),
        ("system: small_lender", "system: Small Lender", "system", ("must be a name", "Small Lender")),
        ("kind: simulator,", "kind: simulater,", "data.source.kind", ("csv, parquet, sql, openml or simulator", "'simulator'")),
        ("favourable: true", "favourable: [true]", "data.target.favourable", ("true or false or a whole number or text",)),
        ("  used_as_features: none", "  used_as_features: nothing", "data.used_as_features", ("must be none",)),
        ("provider: Example Lender", "provider: {name: x}", "provider", ("must be text",)),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_where_it_stands(tmp_path, old, new, key, words):
    (problem,) = broken(tmp_path, old, new)
    assert says(problem, line_of(old), key, *words), problem


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "0" * 63, "g" * 64])
def test_a_digest_that_is_none_is_refused(tmp_path, digest):
    (problem,) = broken(
        tmp_path,
        '{kind: simulator, build: "systems.small_lender.simulator:simulate", rows: 2000, seed: 11}',
        f'{{kind: parquet, path: x.parquet, sha256: "{digest}"}}',
    )
    assert says(problem, line_of("source: {kind"), "data.source.sha256", "64 lower-case hexadecimal digits")


def test_only_the_branch_that_was_meant_is_heard(tmp_path):
    for old, new, key in (
        ("sex: {groups: [female, male]}", "sex: {groups: [female]}", "data.protected.sex.groups"),
        ("{from: age, cuts: [45]}", "{from: age, cuts: [45, 45]}", "data.protected.age_band.cuts"),
        ("{from: age, cuts: [45]}", "{column: age}", "data.protected.age_band"),
        ("    - shadow: {requests: 60}", "    - shadow: {request: 60}", "deployment.steps[0].shadow"),
        ("    - full: {}", "    - all: {}", "deployment.steps[2]"),
    ):
        problems = broken(tmp_path, old, new)
        assert problems, new
        assert all(problem.split(": ")[1].startswith(key) for problem in problems), problems
        assert all(int(problem.split(":")[0]) == line_of(old) for problem in problems), problems
        assert "ShadowStep" not in "".join(problems)


# ------------------------------------------------------------------------------------------------------------- YAML


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path):
    (problem,) = broken(tmp_path, "residency: eu\n", "residency: eu\ntitle: Other\n")
    assert says(problem, line_of("residency: eu") + 1, "title (again)", "a second time, first in line 2")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: &x 1\nb: 2\n", 1, "anchor"),
        ("a: 1\nb: !!python/none x\n", 2, "tag"),
        ("a: !!str 1\n", 1, "tag"),
        ("a: {k: 1}\nb:\n  <<: {k: 2}\n", 3, "merge key"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("%YAML 1.1\n---\na: 1\n", 1, "directives"),
        ("? [a]\n: 1\n", 1, "a key must be text"),
        ("12: x\n", 1, "keys are text"),
        ("yes: x\n", 1, "truth value"),
        ("x:\n  ~: 1\n", 2, "keys are text"),
        ("- a\n- b\n", 1, "one mapping"),
        ("just text\n", 1, "one mapping"),
        ("a: ${HOME}\n", 1, "template"),
        ('a: "x{{ name }}"\n', 1, "template"),
        ("a: {{ name }}\n", 1, "template"),
        ("a:\n  b: <%= x %>\n", 2, "template"),
        ("a: 1\nb:\n\tc: 2\n", 3, "spaces, not tabs"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: .nan\n", 1, "not a finite"),
        ("a: -.inf\n", 1, "not a finite"),
        ("a: 1e999\n", 1, "not a finite"),
        ("a: 9007199254740993\n", 1, "2**53-1"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", 1, "nested deeper"),
        ("a: x\nb: \x07\n", 2, "character"),
    ],
)
def test_what_hides_a_meaning_is_refused_with_its_line(tmp_path, text, line, words):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    try:
        document = read_document(path)
        problems = tuple(document.locate(problem) for problem in document.problems)
    except DeclarationError as error:
        problems = error.problems
    assert any(problem.startswith(f"{path}:{line}: ") and words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("no", "truth value"),
        ("Yes", "truth value"),
        ("on", "truth value"),
        ("OFF", "truth value"),
        ("0123", "octal"),
        ("08", "octal"),
        ("0x1f", "base than ten"),
        ("0o17", "base than ten"),
        ("0b11", "base than ten"),
        ("48:00", "base sixty"),
        ("1:30:00", "base sixty"),
    ],
)
def test_words_that_yaml_readers_disagree_about_are_refused_and_explained(tmp_path, written, words):
    (problem,) = refused(tmp_path, f"a: {written}\n")
    assert words in problem
    assert f"`{written}`" in problem
    assert read(tmp_path, f'a: "{written}"\n').value == {"a": written}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("50_000", 50_000),
        ("-3", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("0.80", 0.8),
        ("6.02e23", 6.02e23),
        ("2026-11-25", "2026-11-25"),
        ("2026-11-25T07:05:00Z", "2026-11-25T07:05:00Z"),
        ("1.2.3", "1.2.3"),
        ("5(b)", "5(b)"),
        ("'12'", "12"),
        ("127.0.0.1", "127.0.0.1"),
        ("y", "y"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("sex*age_band", "sex*age_band"),
        ("0", 0),
        ("+7", 7),
        ("", None),
    ],
)
def test_what_all_readers_agree_about_is_read(tmp_path, written, value):
    found = read(tmp_path, f"a: {written}\n")
    assert found.problems == ()
    assert found.value == {"a": value}
    assert type(found.value["a"]) is type(value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Z"])),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_json_is_read_as_json_reads_it(tmp_path_factory, value):
    import json

    text = json.dumps({"top": value})
    if any(mark in text for mark in ("${", "{{", "<%")):
        return
    path = tmp_path_factory.mktemp("json") / "x.yaml"
    path.write_text(text.replace('"no":', '"nn":').replace('"on":', '"oo":'))
    assert read_document(path).value == json.loads(path.read_text())


def test_a_template_in_a_comment_is_only_a_comment(tmp_path):
    assert read(tmp_path, "a: 1  # not ${HOME}, not {{ this }}\n").problems == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "1: is empty"),
        (b"   \n\n", "1: is empty"),
        (b"# nothing\n", "one mapping"),
        (b"a: 1\nb: \xff\xfe\n", "2: is not UTF-8"),
        (b"\x00\x01\x02PAR1", "character"),
        (b"x" * ((1 << 20) + 1), "larger than"),
    ],
)
def test_a_file_that_holds_no_declaration_is_refused(tmp_path, content, words):
    (problem,) = problems_in(tmp_path / "system.yaml", content)
    assert words in problem


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, words in ((tmp_path / "nowhere.yaml", "there is no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(DeclarationError) as error:
            read_declared(path, System)
        assert words in error.value.problems[0]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    assert problems_in(tmp_path / "system.yaml", b"\xef\xbb\xbf" + SYSTEM.replace("\n", "\r\n").encode()) == ()


def test_a_refused_value_is_not_refused_a_second_time_by_its_model(tmp_path):
    problems = broken(tmp_path, "decision_threshold: 0.5", "decision_threshold: ${THRESHOLD}")
    assert len(problems) == 1
    assert "template" in problems[0]
