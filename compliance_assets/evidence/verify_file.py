"""The auditor's verifier as one file: four modules put one after the other, with Python's standard library as their only import.

    python -m compliance_assets.evidence.verify_file > verify.py

The modules are ordinary ones, so that they are read, typed and tested like the rest of the house; an auditor gets one text to read and
to keep. What would make the two mean different things refuses: a name that two modules define, an import from elsewhere.
"""

from __future__ import annotations

import ast
import sys

from compliance_assets.errors import Misused
from compliance_assets.evidence import verify_base, verify_bundle, verify_keys, verify_ssh

PARTS = (verify_base, verify_keys, verify_ssh, verify_bundle)
"""In the order of the file: each imports only from those before it. The last one's docstring is the file's."""


def one_file() -> str:
    """The text of verify.py."""
    import inspect

    imports: set[str] = set()
    modules: set[str] = set()
    defined: dict[str, str] = {}
    bodies = []
    for part in PARTS:
        text = inspect.getsource(part)
        tree = ast.parse(text)
        lines = text.splitlines()
        # The docstring and the imports lead each module; what follows them is kept to the letter.
        leading = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) or node is tree.body[0]]
        if tree.body[:len(leading)] != leading:
            raise _refused(part.__name__, "an import does not stand at its head")
        for node in leading[1:]:
            assert isinstance(node, ast.Import | ast.ImportFrom)
            origin = node.module if isinstance(node, ast.ImportFrom) else None
            if origin in {earlier.__name__ for earlier in PARTS[:PARTS.index(part)]} and not any(alias.asname for alias in node.names):
                continue  # defined further up in the file
            names = [alias.name for alias in node.names]
            if not {(origin or name).split(".")[0] for name in names} <= set(sys.stdlib_module_names):
                raise _refused(part.__name__, f"it imports {origin or ', '.join(names)}")
            if origin is None:
                modules.update(ast.unparse(ast.Import([alias])) for alias in node.names)
            elif origin != "__future__":
                imports.update(f"{origin} {ast.unparse(alias)}" for alias in node.names)
        for name in _names(tree.body[len(leading):]):
            if name in defined:
                raise _refused(part.__name__, f"{name} is defined in {defined[name]} too")
            defined[name] = part.__name__
        bodies.append("\n".join(lines[(leading[-1].end_lineno or 0):]).strip("\n"))
    told = ast.get_docstring(ast.parse(inspect.getsource(PARTS[-1])), clean=False)
    sources = sorted({line.split(" ")[0] for line in imports})
    chosen = [f"from {source} import {', '.join(sorted(line.split(' ', 1)[1] for line in imports if line.split(' ')[0] == source))}"
              for source in sources]
    head = f'#!/usr/bin/env python3\n"""{told}"""\n\nfrom __future__ import annotations\n'
    return "\n".join([head, *sorted(modules), *chosen, "", ""]) + "\n\n\n".join(bodies) + "\n"


def _names(body: list[ast.stmt]) -> list[str]:
    """What a module's top level defines, each name once."""
    found = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return list(dict.fromkeys(found))


def _refused(module: str, why: str) -> Misused:
    return Misused(f"{module} cannot be a part of the one file: {why}.", rule="one file of the standard library", value=module,
                   remedy="Give the name another one, or do without the import.")


if __name__ == "__main__":
    sys.stdout.write(one_file())
