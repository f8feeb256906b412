"""How the packages import each other."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

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


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Names that import each other in turn, the first one again at the end; empty where there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_itself_by_way_of_others(imports):
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}), "one would be seen"
    assert circle(imports) == []


def test_arrows_between_rooms_go_one_way(imports):
    rooms: dict[str, set[str]] = {}
    for module, others in imports.items():
        rooms.setdefault(room(module), set()).update(map(room, others))
    assert circle({name: others - {name} for name, others in rooms.items()}) == []


def test_the_models_do_not_know_the_pipeline(imports):
    assert not [
        module
        for module, others in imports.items()
        if room(module).startswith("vlaw_models") and any(other.startswith("vlaw_assets") for other in others)
    ]
