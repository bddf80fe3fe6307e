"""The definition of a system: what was declared, the eight stages' gates, and the code that judges and computes. One digest.

A verdict holds under the definition it was judged under (Art. 9(8)). The digest covers values and bytes, not places: moving the
folder, touching files, comments and the order of keys in YAML change nothing; a threshold, a byte of code or of a golden case
changes everything. Not covered: presentation, documents, logging, and the libraries (they are the environment digest).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from compliance_assets.errors import DeclarationError, Misused
from compliance_assets.policy import usercode
from compliance_assets.policy.contract import ColumnContract, check_contract, read_contract
from compliance_assets.policy.declared import Problem, Where
from compliance_assets.policy.reading import Document, read_document
from compliance_assets.policy.river import RIVER
from compliance_assets.policy.system import SimulatorSource, System
from compliance_assets.trust.canonical import Digest, digest_of, sha256_bytes

DECLARATION = "system.yaml"
PACKAGE_ROOT = Path(__file__).resolve().parents[1]
JUDGING_ROOMS = ("policy", "metrics", "stages", "sources")
JUDGING_FILES = ("pipeline.py", "features.py", "modelfile.py", "evidence/dossier.py", "evidence/decisions.py", "evidence/exceptions.py",
                 "evidence/conditions.py", "evidence/change_class.py")
"""What decides verdicts and artefacts: rooms, and files beside them (`sources` casts and splits; the dossier admits; decisions,
exceptions and conditions count; the class of a change says whose word is needed)."""


@dataclass(frozen=True)
class Definition:
    """A system as it is defined at this moment; files are read again only through digests that are kept here."""

    system: System
    folder: Path
    root: Path
    digest: Digest
    code: Mapping[str, Digest]
    """sha256 by path: `compliance_assets/…` from the package, `systems/<name>/…` from the root."""
    contract: tuple[ColumnContract, ...]
    document: Document = field(repr=False, compare=False)

    def parts(self) -> dict[str, Any]:
        """Everything that the digest covers, as JSON: its canonical bytes have the definition's digest."""
        return _parts(self.system, self.code)

    def load_code(self, spec: str) -> Callable[..., Any]:
        """What `systems.x.features:build` names. DeclarationError if it is not covered, or not callable."""
        found = usercode.load(self._code_base, spec)
        if not callable(found):
            raise DeclarationError(f"{spec} is not callable.", rule="declared code", value=spec,
                                   remedy="Name a function or a class.")
        return found  # type: ignore[no-any-return]  # checked just above

    def importable(self) -> None:
        """Make `systems.<name>` importable by its name, for a model file that names the system's own classes."""
        usercode.activate(self._code_base)

    def file(self, name: str) -> Path:
        """A file beside system.yaml. DeclarationError if it lies outside, is missing, or is covered and was changed since."""
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DeclarationError(f"{name} lies outside {self.folder}.", rule="declared files", value=name,
                                   remedy="Keep it beside system.yaml.")
        if not path.is_file():
            raise DeclarationError(f"{path} does not exist.", rule="declared files", value=name, remedy="Restore it.")
        covered = f"{usercode.PACKAGE}/{self.folder.name}/{Path(name).as_posix()}"
        if covered in self.code and sha256_bytes(path.read_bytes()) != self.code[covered]:
            raise DeclarationError(f"{path} was changed after its definition was read.", rule="covered files", value=name,
                                   remedy="Read the definition again; a changed one needs approval.")
        return path

    @property
    def covered(self) -> tuple[Path, ...]:
        """Every file that the digest covers, the declaration first."""
        package, prefix = PACKAGE_ROOT.parent, f"{usercode.PACKAGE}/{self.folder.name}/"
        return (self.folder / DECLARATION, *(self.folder / name.removeprefix(prefix) if name.startswith(prefix)
                                             else package / name for name in self.code))

    @property
    def _code_base(self) -> usercode.CodeBase:
        prefix = f"{usercode.PACKAGE}/{self.folder.name}/"
        return usercode.CodeBase(self.root, self.folder.name, tuple(
            (name, digest) for name, digest in self.code.items() if name.startswith(prefix) and name.endswith(".py")))


def find_systems(root: Path) -> tuple[Path, ...]:
    """The folder of every declared system below `root`/systems, sorted by name; () if there is none."""
    return tuple(sorted(path.parent for path in (root / usercode.PACKAGE).glob(f"*/{DECLARATION}")))


def load_definition(folder: Path) -> Definition:
    """The definition in `folder` (systems/<name>). DeclarationError with every problem found, each with file and line."""
    folder = folder.absolute()
    if folder.parent.name != usercode.PACKAGE:
        raise Misused(f"{folder} is not a system's folder.", rule="layout", value=str(folder),
                      remedy=f"A system lives in {usercode.PACKAGE}/<name>/, beside organisation.yaml.")
    document = read_document(folder / DECLARATION)
    system = document.read_as(System)
    contract: tuple[ColumnContract, ...] = ()
    problems = [*_misplaced(system, folder), *_missing_files(system, folder), *_missing_code(system, folder)]
    elsewhere: tuple[str, ...] = ()
    if (folder / system.data.contract).is_file():
        try:
            contract = read_contract(folder / system.data.contract)
        except DeclarationError as error:
            elsewhere = error.problems
        else:
            problems += check_contract(system, contract)
    if problems or elsewhere:
        refusal = document.refusal(problems)
        found = (*refusal.problems, *elsewhere)
        raise DeclarationError(f"{folder / DECLARATION} cannot be read as a declaration: "
                               f"{'one problem' if len(found) == 1 else f'{len(found)} problems'}.",
                               problems=found, value=str(folder / DECLARATION))
    code = MappingProxyType({**_package_code(), **_system_code(system, folder)})
    return Definition(system, folder, folder.parent.parent, digest_of(_parts(system, code)), code, contract, document)


def _parts(system: System, code: Mapping[str, Digest]) -> dict[str, Any]:
    return {"declaration": system.declaration(), "river": [asdict(rule) for rule in RIVER],
            "code": {name: str(digest) for name, digest in code.items()}}


def _package_code() -> dict[str, Digest]:
    rooms = [path for room in JUDGING_ROOMS for path in (PACKAGE_ROOT / room).rglob("*.py")]
    files = [PACKAGE_ROOT / name for name in JUDGING_FILES if (PACKAGE_ROOT / name).is_file()]
    return _digests((*rooms, *files), PACKAGE_ROOT.parent)


def _system_code(system: System, folder: Path) -> dict[str, Digest]:
    declared = (folder / system.data.contract, folder / system.integration.golden)
    return _digests((*folder.rglob("*.py"), *declared), folder.parent.parent)


def _digests(paths: tuple[Path, ...], base: Path) -> dict[str, Digest]:
    found = {path.relative_to(base).as_posix(): path for path in paths}
    strange = [name for name in found if not name.isascii()]
    if strange:
        raise DeclarationError(f"{strange[0]} has a name beyond ASCII.", rule="covered files", value=strange[0],
                               remedy="Rename it.")
    return {name: sha256_bytes(found[name].read_bytes()) for name in sorted(found)}


# ------------------------------------------------------------------------------------------------------ what must be there


def _misplaced(system: System, folder: Path) -> Iterator[Problem]:
    if system.system != folder.name:
        yield Problem(("system",), f"stands in the folder {folder.name}", "Give folder and system the same name.",
                      repr(system.system))


def _missing_files(system: System, folder: Path) -> Iterator[Problem]:
    places: tuple[tuple[Where, str], ...] = ((("data", "contract"), system.data.contract),
                                             (("integration", "golden"), system.integration.golden))
    for where, name in places:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            yield Problem(where, "lies outside the system's folder", "Keep it beside system.yaml.", repr(name))
        elif not path.is_file():
            yield Problem(where, f"there is no file {name} beside system.yaml", "Add it, or correct the name.")
    for path in sorted(folder.rglob("*.py")):
        if not path.resolve().is_relative_to(folder.resolve()):
            yield Problem((), f"{path.relative_to(folder)} is a link out of the system's folder", "Put the file itself there.")


def _missing_code(system: System, folder: Path) -> Iterator[Problem]:
    """Declared functions that are not there, found without running anything."""
    specs: list[tuple[Where, str]] = [(("features", "build"), system.features.build)]
    if system.data.prepare is not None:
        specs.append((("data", "prepare"), system.data.prepare))
    if isinstance(system.data.source, SimulatorSource):
        specs.append((("data", "source", "build"), system.data.source.build))
    if system.training.estimator.startswith(f"{usercode.PACKAGE}.") or ":" in system.training.estimator:
        specs.append((("training", "estimator"), system.training.estimator))
    for where, spec in specs:
        yield from _code_problems(where, spec, folder)


def _code_problems(where: Where, spec: str, folder: Path) -> Iterator[Problem]:
    module, _, name = spec.rpartition(":" if ":" in spec else ".")
    own = f"{usercode.PACKAGE}.{folder.name}"
    if not module.startswith(f"{own}."):
        yield Problem(where, f"must lie in {own}, which the definition covers", f"Write it like {own}.features:build.", repr(spec))
        return
    stem = folder.joinpath(*module.removeprefix(f"{own}.").split("."))
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    shown = path.relative_to(folder.parent.parent).as_posix()
    if not path.is_file():
        yield Problem(where, f"there is no file {shown}", "Add it, or correct the declaration.", repr(spec))
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        yield Problem(where, f"{shown}:{line} is not valid Python: {getattr(error, 'msg', error)}", "Correct it.")
        return
    if name not in set(_top_level_names(tree)):
        yield Problem(where, f"{shown} defines no {name}", "Define it at the top level, or correct the declaration.", repr(spec))


def _top_level_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
