"""Installed packages in an artifact's code: of what they add to the registries, that which the artifact uses.

It uses a thing of a package where the recipe names it, or a checkpoint among the parents is of its class, and the
stage's code reaches what runs things of its registry (FOUND_BY_NAME in code_identity.py). Then all that its module
reaches in its own top-level package, and in ours, is the artifact's code as well. A package that it does not use
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vlaw_assets.once import once
from vlaw_assets.pipeline.code_identity import PACKAGES, digest_of_files, registries_of, sources, top_level
from vlaw_models.errors import VlawError
from vlaw_models.registry import Entry, Registry

STAGE = "stage"
"""Key of the digest of our own code."""
CODE_VERSION = "code_version"
"""Metric of an artifact whose code digest covers other packages too: the digest of its stage's code without them."""
Names = frozenset[tuple[str, str]]
"""(entry point group, name in it)."""


@once
def code_parts(module: str, names: Names, where: str) -> Mapping[str, str]:
    """Digests of the code of a stage whose module is `module`, and that finds things by `names`.

    STAGE -> our own; and where it uses things of other packages "policy 'Mine' of package mine" -> theirs. Raises
    VlawError where a registry that it reaches knows a name twice. A name that none knows is told by whoever loads it.
    """
    used = _used(module, names, where)
    reached = _sources([module, *(entry.module for entry in used.values())], where)
    parts = {STAGE: digest_of_files({name: path for name, path in reached.items() if _ours(name)})}
    for thing, entry in used.items():
        own = {name: path for name, path in _sources([entry.module], where).items() if not _ours(name)}
        parts[thing] = digest_of_files(own)
    return parts


def _used(module: str, names: Names, where: str) -> dict[str, Entry]:
    """The things of other packages: a thing may itself reach another registry, whose things it uses."""
    used: dict[str, Entry] = {}
    while True:
        reached = _sources([module, *(entry.module for entry in used.values())], where)
        now = {
            f"{registry.kind} {name!r} of package {entry.package or top_level(entry.module)}": entry
            for holder in sorted(reached)
            for registry, entries in _registries(holder)
            for group, name in sorted(names)
            if group == registry.group and name in entries
            for entry in [entries[name][0] if len(entries[name]) == 1 else registry.entry(name, where=where)]
            if not _ours(entry.module)
        }
        if now.keys() == used.keys():
            return used
        used = now


def _sources(modules: Iterable[str], where: str) -> dict[str, Path]:
    try:
        return sources(*modules)
    except ModuleNotFoundError as error:
        raise VlawError(str(error), where=where, remedy="Install its package again, or uninstall it.") from error


@once
def _registries(module: str) -> list[tuple[Registry, dict[str, list[Entry]]]]:
    """The registries whose things a module runs, with what is in them: finding installed packages takes a while."""
    return [(registry, registry.entries()) for registry in registries_of(module)]


def _ours(module: str) -> bool:
    return top_level(module) in PACKAGES
