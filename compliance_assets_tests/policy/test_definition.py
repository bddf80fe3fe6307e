"""A definition's digest covers what decides, and nothing else; its code runs from exactly the bytes that were covered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from compliance_assets.errors import ComplianceError, DeclarationError
from compliance_assets.policy.definition import find_systems, load_definition
from compliance_assets.trust.canonical import canonical_json, sha256_bytes
from compliance_assets_tests.small_lender import REMOVED, SYSTEM, files, write_small_lender


@pytest.fixture
def folder(tmp_path):
    return write_small_lender(tmp_path)


def rewrite(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def problems(folder):
    with pytest.raises(DeclarationError) as error:
        load_definition(folder)
    return [problem.replace(f"{folder}/", "") for problem in error.value.problems]


def test_the_healthy_definition_is_loaded(folder, tmp_path):
    definition = load_definition(folder)
    assert (definition.system.system, definition.folder, definition.root) == ("small_lender", folder, tmp_path)
    assert {
        "systems/small_lender/features.py",
        "systems/small_lender/simulator.py",
        "systems/small_lender/expectations.json",
        "systems/small_lender/golden.json",
        "compliance_assets/policy/river.py",
        "compliance_assets/policy/gates.py",
        "compliance_assets/metrics/fairness.py",
        "compliance_assets/stages/stage.py",
        "compliance_assets/pipeline.py",
    } <= set(definition.code)
    assert not [name for name in definition.code if name.startswith(("compliance_assets/web/", "compliance_assets/governance/"))]
    assert all(path.is_file() for path in definition.covered)
    assert definition.contract[0].name == "application_id"


def test_the_digest_is_that_of_the_parts(folder):
    definition = load_definition(folder)
    assert sha256_bytes(canonical_json(definition.parts())) == definition.digest
    assert definition.parts()["river"][0]["name"] == "data_preparation"


# ------------------------------------------------------------------------------------------------------------- digest


def test_moving_touching_and_bytecode_change_nothing(folder, tmp_path):
    before = load_definition(folder).digest
    moved = tmp_path / "elsewhere" / "systems" / "small_lender"
    shutil.copytree(folder, moved)
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__" / "features.cpython-311.pyc").write_bytes(b"anything")
    (moved / "README.md").write_text("documents are not part of it")
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    assert load_definition(moved).digest == before


def test_comments_spacing_and_the_order_of_keys_change_nothing(folder):
    before = load_definition(folder).digest
    rewrite(
        folder,
        "system.yaml",
        "title: Small loans\nprovider: Example Lender\n",
        "# said otherwise\nprovider:   'Example Lender'\n\ntitle: \"Small loans\"\n",
    )
    rewrite(folder, "system.yaml", "decision_threshold: 0.5", "decision_threshold: 0.50")
    assert load_definition(folder).digest == before


def test_another_process_and_another_working_folder_find_the_same_digest(folder):
    code = (
        "from pathlib import Path; from compliance_assets.policy.definition import load_definition; "
        f"print(load_definition(Path({folder.name!r})).digest)"
    )
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": package, "PYTHONHASHSEED": "7"},
    )
    assert found.stdout.strip() == load_definition(folder).digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("system.yaml", "at_least: 0.75, judged_on: lower, because: below", "at_least: 0.74, judged_on: lower, because: below"),
        ("system.yaml", "below this the officer does better alone", "below this the officer does better alone (board)"),
        ("system.yaml", "valid_for: 48h", "valid_for: 49h"),
        ("system.yaml", "{name: monthly_income, dtype", "{description: gross, name: monthly_income, dtype"),
        ("system.yaml", "title: Small loans", "title: Small loan"),
        ("features.py", "row by row", "row by  row"),
        ("simulator.py", "0.6, 0.25, 0.15", "0.6, 0.2, 0.2"),
        ("golden.json", "3200.0", "3200.5"),
        ("expectations.json", '"max_value": 100', '"max_value": 101'),
    ],
)
def test_a_threshold_a_reason_or_one_byte_changes_it(folder, name, old, new):
    before = load_definition(folder).digest
    rewrite(folder, name, old, new)
    assert load_definition(folder).digest != before


def test_a_new_source_file_changes_it(folder):
    before = load_definition(folder).digest
    (folder / "model.py").write_text("")
    assert load_definition(folder).digest != before


def test_numbers_and_texts_that_look_like_numbers_are_never_the_same_definition(tmp_path):
    folder = write_small_lender(tmp_path, **{"training.hyperparameters.max_iter": "40"})
    assert "looks like a number" in problems(folder)[0]


# ------------------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"golden.json": REMOVED}, "integration.golden: there is no file golden.json beside system.yaml"),
        ({"expectations.json": REMOVED}, "data.contract: there is no file expectations.json beside system.yaml"),
        ({"features.py": REMOVED}, "features.build: there is no file systems/small_lender/features.py"),
        (
            {"features.py": "def built(frame):\n    return frame\n"},
            "features.build: systems/small_lender/features.py defines no build",
        ),
        ({"features.py": "def build(frame)\n    return frame\n"}, "systems/small_lender/features.py:1 is not valid Python"),
        ({"simulator.py": REMOVED}, "data.source.build: there is no file systems/small_lender/simulator.py"),
        ({"features.build": "systems.other.features:build"}, "features.build: must lie in systems.small_lender"),
        ({"features.build": "os:system"}, "features.build: must lie in systems.small_lender"),
        (
            {"data.prepare": "systems.small_lender.cleaning:clean"},
            "data.prepare: there is no file systems/small_lender/cleaning.py",
        ),
        ({"training.estimator": "systems.small_lender.model:make"}, "training.estimator: there is no file"),
        ({"integration.golden": "../golden.json"}, "integration.golden: lies outside the system's folder"),
        ({"system": "other_lender"}, "system: stands in the folder small_lender"),
        ({"data.key": "loan_id"}, "data.key: the contract does not speak of the key, column loan_id"),
        ({"features.registry.2.from": ["age"]}, None),
        ({"features.registry.2.from": ["postcode"]}, "features.registry[2].from: the contract does not speak of column postcode"),
    ],
)
def test_what_is_declared_must_be_there(tmp_path, change, words):
    folder = write_small_lender(tmp_path, **change)
    if words is None:
        assert load_definition(folder)
        return
    found = problems(folder)
    assert any(words in problem for problem in found), found
    assert all(problem.split(":")[0] == "system.yaml" and problem.split(":")[1].isdigit() for problem in found), found


def test_the_line_is_where_the_name_stands(tmp_path):
    folder = write_small_lender(tmp_path, **{"golden.json": REMOVED})
    (problem,) = problems(folder)
    assert problem.startswith(f"system.yaml:{SYSTEM[: SYSTEM.index('golden: golden.json')].count(chr(10)) + 1}: ")


def test_problems_of_the_declaration_and_of_the_contract_are_told_together(tmp_path):
    folder = write_small_lender(
        tmp_path, **{"golden.json": REMOVED, "expectations.json": files()["expectations.json"].replace('"int64"', '"int46"')}
    )
    found = problems(folder)
    assert found[0].startswith("system.yaml:")
    assert sum(problem.startswith("expectations.json:") for problem in found) == 3


def test_a_folder_without_a_declaration_and_one_elsewhere_are_refused(tmp_path):
    (tmp_path / "systems" / "empty").mkdir(parents=True)
    with pytest.raises(DeclarationError, match="no such file"):
        load_definition(tmp_path / "systems" / "empty")
    with pytest.raises(ComplianceError, match="not a system's folder"):
        load_definition(tmp_path)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere.py").write_text("x = 1\n")
    (folder / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    assert "linked.py is a link out of the system's folder" in problems(folder)[0]


def test_systems_are_found_by_their_declaration(tmp_path):
    assert find_systems(tmp_path) == ()
    second, first = write_small_lender(tmp_path, "second"), write_small_lender(tmp_path, "first")
    (tmp_path / "systems" / "notes").mkdir()
    assert find_systems(tmp_path) == (first, second)
    assert load_definition(first).system.system == "first"


# ---------------------------------------------------------------------------------------------------------------- code


def test_declared_code_runs(folder):
    definition = load_definition(folder)
    frame = definition.load_code("systems.small_lender.simulator:simulate")(rows=50, seed=1)
    built = definition.load_code("systems.small_lender.features:build")(frame.lazy()).collect()
    assert tuple(built.columns) == tuple(feature.name for feature in definition.system.features.registry)
    assert built.height == 50


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("os:system", "lies outside systems.small_lender"),
        ("systems.other.features:build", "lies outside systems.small_lender"),
        ("systems.small_lender_2.features:build", "lies outside"),
        ("systems.small_lender.nothing:build", "not a source file of this definition"),
        ("systems.small_lender.features:built", "has no 'built'"),
        ("systems.small_lender.features:__doc__", "is not callable"),
    ],
)
def test_only_covered_functions_are_loaded(folder, spec, words):
    with pytest.raises(DeclarationError, match=words):
        load_definition(folder).load_code(spec)


def test_code_that_changed_after_the_definition_was_read_does_not_run(folder):
    definition = load_definition(folder)
    rewrite(folder, "features.py", "clip(0, 2)", "clip(0, 1)")
    with pytest.raises(DeclarationError, match="was changed after its definition was read"):
        definition.load_code("systems.small_lender.features:build")


def test_a_declared_file_that_changed_after_the_definition_was_read_is_refused(folder):
    definition = load_definition(folder)
    assert definition.file("golden.json").read_text() == files()["golden.json"]
    rewrite(folder, "golden.json", "3200.0", "3200.5")
    with pytest.raises(DeclarationError, match="was changed after"):
        definition.file("golden.json")
    with pytest.raises(DeclarationError, match="lies outside"):
        definition.file("../../secret.txt")
    with pytest.raises(DeclarationError, match="does not exist"):
        definition.file("nothing.json")


def test_planted_bytecode_does_not_run(folder):
    import importlib.util
    import marshal

    source = folder / "features.py"
    stat = source.stat()
    planted = compile("def build(frame):\n    raise SystemExit('planted')\n", str(source), "exec")
    header = (
        importlib.util.MAGIC_NUMBER
        + bytes(4)
        + int(stat.st_mtime).to_bytes(4, "little")
        + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    )
    cache = folder / "__pycache__" / f"features.{sys.implementation.cache_tag}.pyc"
    cache.parent.mkdir()
    cache.write_bytes(header + marshal.dumps(planted))
    built = load_definition(folder).load_code("systems.small_lender.features:build")
    assert built.__doc__.startswith("The registry's columns")


def test_an_edit_within_the_same_second_is_seen(folder):
    for answer in ("1", "2", "3"):
        (folder / "features.py").write_text(f"def build(frame):\n    return {answer}\n")
        assert load_definition(folder).load_code("systems.small_lender.features:build")(None) == int(answer)


SIBLINGS = {
    "features.py": "from systems.small_lender.numbers import ONE\nfrom . import numbers\n\n\ndef build(frame):\n"
    "    from systems.small_lender import late\n\n    return ONE, numbers.ONE, late.LATE\n",
}


def siblings(root, value):
    return write_small_lender(root, **SIBLINGS, **{"numbers.py": f"ONE = {value}\n", "late.py": f"LATE = {value}\n"})


def test_two_roots_with_a_system_of_the_same_name_do_not_mix(tmp_path):
    one, two = load_definition(siblings(tmp_path / "a", 1)), load_definition(siblings(tmp_path / "b", 2))
    first = one.load_code("systems.small_lender.features:build")
    second = two.load_code("systems.small_lender.features:build")
    assert first(None) == (1, 1, 1)  # imports its sibling only now, after the other root was loaded
    assert second(None) == (2, 2, 2)
    assert one.load_code("systems.small_lender.features:build")(None) == (1, 1, 1)


def test_systems_of_one_root_stand_beside_each_other(tmp_path):
    one, two = load_definition(write_small_lender(tmp_path, "one")), load_definition(write_small_lender(tmp_path, "two"))
    first, second = one.load_code("systems.one.features:build"), two.load_code("systems.two.features:build")
    assert sys.modules["systems.one.features"].build is first
    assert sys.modules["systems.two.features"].build is second


def test_another_systems_code_cannot_be_used_uncovered(tmp_path):
    write_small_lender(tmp_path, "other")
    for line in (
        "from systems.other.features import build",
        "import systems.other.features as x",
        "from systems import other",
        "from ..other.features import build",
    ):
        folder = write_small_lender(tmp_path, **{"features.py": f"{line}\n\n\ndef build(frame):\n    return frame\n"})
        with pytest.raises(DeclarationError, match=r"systems\.other.* lies outside systems\.small_lender"):
            load_definition(folder).load_code("systems.small_lender.features:build")


def test_classes_keep_their_names_and_can_be_imported_by_them(tmp_path):
    import importlib

    folder = write_small_lender(
        tmp_path,
        **{
            "model.py": "from __future__ import annotations\n\nfrom dataclasses import dataclass\n\n\n"
            "@dataclass\nclass Model:\n    size: int = 3\n"
        },
    )
    definition = load_definition(folder)
    model = definition.load_code("systems.small_lender.model:Model")
    assert (model.__module__, model().size) == ("systems.small_lender.model", 3)
    definition.importable()
    assert importlib.import_module("systems.small_lender.model").Model is model


def test_an_error_in_users_code_shows_its_line(folder):
    rewrite(folder, "features.py", "    return frame.select(", "    raise KeyError('what')\n    return frame.select(")
    build = load_definition(folder).load_code("systems.small_lender.features:build")
    with pytest.raises(KeyError, match="what") as error:
        build(None)
    assert str(error.traceback[-1].path) == str(folder / "features.py")
