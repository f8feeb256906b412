"""How the packages import each other."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp
import pytest


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module -> modules that it imports, at its top or inside its functions; not what only a type checker reads."""
    graph = grimp.build_graph("vlaw_assets", "vlaw_models", exclude_type_checking_imports=True, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def room(module: str) -> str:
    """The folder or file of a package that a module lies in: "vlaw_assets.lake"."""
    return ".".join(module.split(".")[:2])


def test_no_module_imports_itself_by_way_of_others(imports):
    TopologicalSorter(imports).prepare()  # raises with the circle


def test_arrows_between_rooms_go_one_way(imports):
    rooms: dict[str, set[str]] = {}
    for module, others in imports.items():
        rooms.setdefault(room(module), set()).update(map(room, others))
    TopologicalSorter({name: others - {name} for name, others in rooms.items()}).prepare()


def test_the_models_do_not_know_the_pipeline(imports):
    assert not [
        module
        for module, others in imports.items()
        if room(module).startswith("vlaw_models") and any(other.startswith("vlaw_assets") for other in others)
    ]
