"""Loads a system's own code (features, simulator, model) from exactly the bytes that its definition covers.

Only `systems.<folder>.…` of the declared system can be loaded, from source, never from cached bytecode, and each file's sha256
is compared when it is executed: code changed after the definition was read is refused. Modules keep their real names, so that
a model file can name its classes; where two roots hold a system of the same name (tests, a rebuilt release), each function
goes on to see the modules of its own root.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from compliance_assets.errors import DeclarationError
from compliance_assets.trust.canonical import Digest, sha256_bytes

PACKAGE = "systems"


@dataclass(frozen=True)
class CodeBase:
    """A system's folder and the sha256 of every source file in it that the definition covers, by path from the root."""

    root: Path
    name: str
    covered: tuple[tuple[str, Digest], ...]

    def path_of(self, module: str) -> str:
        """`systems.a.features` → `systems/a/features.py`, or the package's `__init__.py`."""
        stem = module.replace(".", "/")
        package = f"{stem}/__init__.py"
        return package if package in dict(self.covered) else f"{stem}.py"

    def is_folder(self, module: str) -> bool:
        return any(path.startswith(module.replace(".", "/") + "/") for path, _ in self.covered)

    def source(self, path: str) -> bytes:
        """The file's bytes, if they are still those that the definition covers."""
        content = (self.root / path).read_bytes()
        if sha256_bytes(content) != dict(self.covered)[path]:
            raise DeclarationError(f"{path} was changed after its definition was read.", rule="covered code", value=path,
                                   remedy="Read the definition again; a changed one needs approval.")
        return content


_lock = threading.RLock()
_active: dict[str, CodeBase] = {}


def load(code: CodeBase, spec: str) -> Any:
    """What `module:name` names in `code`. DeclarationError if it is outside, not covered, or not there."""
    module_name, _, name = spec.partition(":")
    require_covered(code, module_name)
    with _lock:
        activate(code)
        module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise DeclarationError(f"{code.path_of(module_name)} has no {name!r}.", rule="declared code", value=spec,
                               remedy=f"Define {name}, or correct the declaration.")
    return getattr(module, name)


def require_covered(code: CodeBase, module: str) -> None:
    """Refuse a module outside the system's own folder, and one without a covered source file."""
    own = f"{PACKAGE}.{code.name}"
    if module != own and not module.startswith(f"{own}."):
        raise DeclarationError(f"{module} lies outside {own}, so its definition does not cover it.", rule="covered code",
                               value=module, remedy=f"Keep the system's code in {PACKAGE}/{code.name}/.")
    if code.path_of(module) not in dict(code.covered) and not code.is_folder(module):
        raise DeclarationError(f"{code.path_of(module)} is not a source file of this definition.", rule="covered code",
                               value=module, remedy="Correct the declaration, or add the file.")


def activate(code: CodeBase) -> None:
    """From now on `systems.<name>` means this code base; modules of another one with the same name are forgotten."""
    with _lock:
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)
        if _active.get(code.name) == code:
            return
        own = f"{PACKAGE}.{code.name}"
        for known in [module for module in sys.modules if module == own or module.startswith(f"{own}.")]:
            del sys.modules[known]
        _active[code.name] = code


class _Finder(MetaPathFinder):
    """Answers for the packages of active code bases, and for nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        parts = fullname.split(".")
        if parts[0] != PACKAGE or not _active:
            return None
        if len(parts) == 1:
            spec = ModuleSpec(PACKAGE, None, is_package=True)
            spec.submodule_search_locations = [str(code.root / PACKAGE) for code in _active.values()]
            return spec
        code = _active.get(parts[1])
        if code is None:
            return None
        covered = code.path_of(fullname)
        if covered in dict(code.covered):
            return importlib.util.spec_from_file_location(
                fullname, code.root / covered, loader=_Loader(code, covered),
                submodule_search_locations=[] if covered.endswith("/__init__.py") else None)
        if code.is_folder(fullname):
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
        return None


class _Loader(Loader):
    def __init__(self, code: CodeBase, path: str) -> None:
        self.code = code
        self.path = path

    def exec_module(self, module: ModuleType) -> None:
        source = self.code.source(self.path)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(self.code)}
        # Exactly the covered bytes run: no cached bytecode, which the digest would not cover.
        exec(compile(source, str(self.code.root / self.path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102

    def get_source(self, fullname: str) -> str:
        """For tracebacks and `inspect`."""
        return self.code.source(self.path).decode()


def _importer(code: CodeBase) -> Callable[..., Any]:
    """`__import__` as a covered module sees it: `systems` is its own root's, and only its own folder of that."""
    def imported(name: str, globals: Mapping[str, Any] | None = None, locals: Mapping[str, Any] | None = None,
                 fromlist: Sequence[str] = (), level: int = 0) -> ModuleType:
        full = name
        if level:
            package = str((globals or {}).get("__package__") or "")
            full = importlib.util.resolve_name("." * level + name, package)
        if full != PACKAGE and not full.startswith(f"{PACKAGE}."):
            return builtins.__import__(name, globals, locals, fromlist, level)
        if full == PACKAGE:
            for part in fromlist:
                require_covered(code, f"{PACKAGE}.{part}")
        else:
            require_covered(code, full)
        with _lock:
            activate(code)
            return builtins.__import__(name, globals, locals, fromlist, level)

    return imported


_FINDER = _Finder()
