"""Modules read and not run: where the file of one lies, and which modules it names.

Named is what it imports, also inside functions, but for type checkers only; and what stands in it as a string
"module:attribute", which is how a robot names its simulator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import find_spec, resolve_name
from pathlib import Path

from vlaw_models.errors import VlawError

_LOADERS = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES))
_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")


@cache
def file_of(module: str) -> Path | None:
    """The file of a module: a package's __init__.py, a .py or a compiled one; None where there is none."""
    spec = spec_of(module)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


@cache
def names_in(module: str, path: Path) -> tuple[str, ...]:
    """The modules that a module names, and names inside modules which may be modules themselves.

    Raises VlawError for a file that is not Python; a compiled module names nothing that can be read.
    """
    if path.suffix != ".py":
        return ()
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise VlawError(
            f"the code of module {module} cannot be read: {error}",
            where=str(path),
            remedy="Mend the file, or uninstall its package.",
        ) from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(sorted({*_names(tree, package), *_targets(tree)}))


@cache
def targets_in(path: Path) -> tuple[str, ...]:
    """The modules that a file names in strings "module:attribute"."""
    return tuple(sorted(set(_targets(ast.parse(path.read_bytes())))))


def _targets(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := _TARGET.fullmatch(node.value)):
            yield found[1]


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
        for other in node.orelse:
            yield from _names(other, package)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
    for child in ast.iter_child_nodes(node):
        yield from _names(child, package)


@cache
def spec_of(module: str) -> ModuleSpec | None:
    """Where a module lies. None of it is imported, nor the packages that it lies in."""
    parent = module.rpartition(".")[0]
    try:
        if not parent:
            return find_spec(module)
        above = spec_of(parent)
        folders = above.submodule_search_locations if above else None
        found = [spec for folder in folders or () if (spec := FileFinder(folder, *_LOADERS).find_spec(module))]
        return next((spec for spec in found if spec.has_location), found[0] if found else None)
    except (ImportError, ValueError):  # of a module that is loaded without saying from where
        return None
