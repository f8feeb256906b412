"""What is particular about a robot stays in its folder: nothing else in the packages knows a camera, a task or a
simulator by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vlaw_models.robots.registry import DEFAULT, ROBOTS, find_robot

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "vlaw_models" / "robots"
SHIPPED = [find_robot(name) for name in ROBOTS.shipped]
CAMERAS = {name for robot in SHIPPED for name in robot.camera_names}
TASKS = {task for robot in SHIPPED for task in robot.tasks}
NAMES = {robot.name for robot in SHIPPED} | {robot.world for robot in SHIPPED}
ROLES = {"exterior", "wrist"}
"""What a robot's cameras are for: roles belong to nobody."""
ALLOWED = {
    "vlaw_models/pretrain/stages.py": (TASKS, "how much of each task the shipped weights have seen"),
    "vlaw_assets/importers/ctrl_world.py": ({"droid"}, "the layout is that of one robot's recordings"),
    "vlaw_assets/importers/droid.py": ({"droid", *CAMERAS}, "the layout is that of one robot's recordings"),
    "vlaw_assets/importers/registry.py": ({"droid"}, "the name of that layout"),
    "vlaw_assets/importers/cameras.py": ({"wrist"}, "words in the names of cameras at a wrist"),
    "vlaw_assets/pipeline/code_identity.py": ({"metaworld"}, "the package of that name"),
    "vlaw_assets/cli/weights.py": ({"droid"}, "the robot of most published weights, where nobody names one"),
    "vlaw_models/presets/policies.py": ({"wrist"}, "roles of the cameras that published policies look at"),
    "vlaw_models/presets/reward_models.py": ({"wrist"}, "roles of the cameras that a judge looks at"),
}
"""File -> the words it may say, and why."""
PACKAGES = ("vlaw_models", "vlaw_assets")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if HOUSE not in path.parents)


def words_of(path: Path) -> set[str]:
    """The strings of a file's code, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
    }


def test_no_other_file_says_the_name_of_a_camera_a_task_or_a_robot():
    found = {}
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        said = words_of(path) & (CAMERAS | TASKS | NAMES) - ALLOWED.get(name, (set(), ""))[0]
        if said:
            found[name] = sorted(said)
    assert found == {}
    for name, (words, why) in ALLOWED.items():
        assert words_of(ROOT / name) & words, f"{name} needs no exception any more ({why})"


def test_no_other_file_imports_a_robot():
    """A simulator, its scene and its limits are asked for by the spec's name for them."""
    inside = re.compile(r"vlaw_models\.robots\.(" + "|".join(re.escape(robot.name) for robot in SHIPPED) + r")\b")
    named = [path for path in SOURCES if inside.search(path.read_text(encoding="utf-8"))]
    found = [str(path.relative_to(ROOT)) for path in named if inside.search(_code(path))]
    assert found == []


def test_no_other_file_says_a_rate():
    rate = re.compile(r"\b\d+(\.\d+)? Hz\b|CONTROL_HZ|control_hz ?= ?\d")
    assert [str(path.relative_to(ROOT)) for path in SOURCES if rate.search(path.read_text(encoding="utf-8"))] == []


def test_the_default_is_named_in_one_place():
    assert DEFAULT in ROBOTS.shipped
    says = [path for path in (ROOT / "vlaw_models").rglob("*.py") if f'DEFAULT = "{DEFAULT}"' in path.read_text()]
    assert says == [HOUSE / "registry.py"]


def _code(path: Path) -> str:
    """The imports of a file, as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@pytest.mark.parametrize("word", ["exterior_1", "stack", "tabletop"])
def test_the_search_finds_what_it_looks_for(tmp_path, word):
    path = tmp_path / "one.py"
    path.write_text(f'"""Says {word}."""\n\n\ndef f(x="{word}"):\n    "{word}"\n    return x\n')
    assert words_of(path) == {word}
    path.write_text(f'"""{word}"""\n')
    assert words_of(path) == set()
