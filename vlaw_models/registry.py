"""Finding what a recipe or a checkpoint names: robots, model classes, learners, importers, one registry each.

A registry knows its own entries as "module:attribute", imported when first asked for, and those of installed packages
by their entry points:

    [project.entry-points."vlaw.robots"]
    arm = "my_package.arm:ARM"

A package that cannot be imported is named when somebody asks for what it adds, and by `vlaw doctor`; the rest goes on.
Two entries of the same name are refused when that name is asked for: nobody can tell which was meant.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from vlaw_models.errors import VlawError


@dataclass(frozen=True)
class Entry:
    """One thing that a registry can load."""

    name: str
    target: str
    """ "module:attribute"."""
    package: str = ""
    """The installed distribution that adds it; empty for what is shipped here."""

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]


@dataclass
class Registry:
    """Names to things of one kind. `kind` is a noun for people ("robot"), `group` the entry points' group."""

    kind: str
    group: str
    shipped: Mapping[str, str]
    """Name -> "module:attribute" of what this project has itself."""
    _added: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, target: str) -> None:
        """Adds an entry for this process only, where an installed package is too much: a notebook, a test.

        Raises VlawError for a target that is not "module:attribute".
        """
        if ":" not in target:
            raise VlawError(
                f"{target!r} is not of the form 'module:attribute'",
                where=f"{self.kind} {name!r}",
                remedy="Name the module and the attribute, e.g. 'my_package.my_module:MyClass'.",
            )
        self._added[name] = target

    def entries(self) -> dict[str, list[Entry]]:
        """Name -> its entries, several where packages compete for it; in the order shipped, added, installed."""
        found: dict[str, list[Entry]] = {}
        for name, target in {**self.shipped, **self._added}.items():
            found.setdefault(name, []).append(Entry(name, target))
        for entry in _installed(self.group, _import_folders()):
            if entry not in found.setdefault(entry.name, []):
                found[entry.name].append(entry)
        return found

    def names(self) -> list[str]:
        """What can be asked for, sorted."""
        return sorted(self.entries())

    def entry(self, name: str, *, where: str) -> Entry:
        """The entry of that name, not loaded. Raises VlawError where there is none, or more than one."""
        found = self.entries().get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            owners = " and ".join(entry.package or "vlaw" for entry in found)
            raise VlawError(
                f"more than one {self.kind} is called {name!r}: of {owners}",
                where=where,
                remedy="Uninstall one of these packages, or rename its entry point.",
            )
        raise VlawError(
            f"there is no {self.kind} {name!r}",
            where=where,
            remedy=f"Choose from {', '.join(self.names())}; an installed package adds more by the entry point group "
            f"{self.group!r}.",
        )

    def load(self, name: str, *, where: str) -> Any:
        """The thing of that name. Raises VlawError for an unknown or ambiguous name, or one that cannot be imported."""
        entry = self.entry(name, where=where)
        try:
            return attribute_of(entry.target)
        except Exception as error:
            if not entry.package and name not in self._added:
                raise  # a defect of our own, which its traceback shows
            raise VlawError(
                f"the {self.kind} {name!r} of package {entry.package or entry.module} cannot be imported: "
                f"{type(error).__name__}: {error}",
                where=where,
                remedy=f"Mend {entry.target}, or uninstall the package.",
            ) from error


@lru_cache(maxsize=64)
def _installed(group: str, _folders: tuple[Any, ...]) -> list[Entry]:
    """What installed packages add to a group. Kept as long as the folders are as they were: to look through all
    packages takes a tenth of a second, and a recipe asks several times."""
    points = sorted(metadata.entry_points(group=group), key=lambda point: (point.name, point.value))
    return [Entry(point.name, point.value, point.dist.name if point.dist else point.module) for point in points]


def _import_folders() -> tuple[Any, ...]:
    """Where packages are looked for, and when one was last added there or taken away."""
    found = []
    for folder in sys.path:
        try:
            about = os.stat(folder or os.curdir)
        except OSError:
            continue
        found.append((folder, about.st_dev, about.st_ino, about.st_mtime_ns))
    return tuple(found)


def attribute_of(target: str) -> Any:
    """What "module:attribute" names; the module is imported."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
