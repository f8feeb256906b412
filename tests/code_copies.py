"""Copies of the two packages in which functions are rewritten, and what each stage can reach, told without
`code_identity`."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vlaw_assets.assets.making import STAGES
from vlaw_assets.pipeline.code_identity import FOR_PEOPLE

ROOT = Path(__file__).parent.parent
PACKAGES = ("vlaw_assets", "vlaw_models")
LOADED_BY_NAME = ("policies", "world_models", "autoencoders", "reward_models")
"""Packages of vlaw_models whose classes are found by the name in a checkpoint, by the loader in their base.py."""
RUN_LEARNERS = ("vlaw_assets.assets.training_set", "vlaw_models.learners.policy")
"""Modules that run the learner that a recipe names."""
TARGET = re.compile(r'"(vlaw_models[\w.]+):\w+"')
SIMULATES = "vlaw_models.robots.simulator"
SIMULATORS = tuple(f"vlaw_models.robots.{robot}.simulator" for robot in ("tabletop", "metaworld", "libero"))
"""The module that loads what a robot names as its simulator, and those shipped."""
WAYS = ("raise RuntimeError('rewritten')", "return None", "rewritten = 1")
"""What a function's body is replaced with; the last one is put before the body, which still works then."""


@dataclass(frozen=True)
class Function:
    """One function of a package, and the lines that its body takes up."""

    module: str
    name: str
    path: str
    line: int
    end: int
    indent: int

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@cache
def files() -> dict[str, Path]:
    """Module name -> file, of both packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def functions(module: str) -> tuple[Function, ...]:
    """Every function and method of a module that has a body to rewrite."""
    path = files()[module]
    found = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return tuple(
        Function(module, node.name, str(path.relative_to(ROOT)), _begin(first), node.end_lineno, first.col_offset)
        for node in found
        for first in [next((part for part in node.body if not _is_docstring(part)), node.body[-1])]
        if _begin(first) > node.lineno and not _is_docstring(first)
    )


def rewritten(function: Function, way: str) -> str:
    """The text of the function's file with its body replaced, or, for the last of WAYS, begun by a new line."""
    lines = (ROOT / function.path).read_text().splitlines(keepends=True)
    kept = lines[function.line - 1 : function.end] if way == WAYS[-1] else []
    return "".join([*lines[: function.line - 1], " " * function.indent + way + "\n", *kept, *lines[function.end :]])


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of ours that a module imports anywhere but for type checkers, with the packages they lie in."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(files()[module].read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            names.update([str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)])
        waiting += ast.iter_child_nodes(node)
    whole = {
        ".".join(parts[:count]) for parts in (name.split(".") for name in names) for count in range(1, len(parts) + 1)
    }
    return frozenset(whole & files().keys())


def reached(module: str, *, without: Iterable[str]) -> set[str]:
    """All modules that `module` can come to, not through those of `without`."""
    found, waiting = set[str](), [module, *_above(module)]
    while waiting:
        name = waiting.pop()
        if name in found or name in without:
            continue
        found.add(name)
        waiting += imported(name)
        for package in LOADED_BY_NAME:
            if name == f"vlaw_models.{package}.base":
                text = files()[f"vlaw_models.{package}.registry"].read_text()
                waiting += [part for target in TARGET.findall(text) for part in [target, *_above(target)]]
        if name == SIMULATES:
            text = files()["vlaw_models.robots.registry"].read_text()
            waiting += [*SIMULATORS, *(part for spec in TARGET.findall(text) for part in [spec, *_above(spec)])]
        if name in RUN_LEARNERS:
            waiting += [f"vlaw_models.learners.{other}" for other in ("imitation", "recap", "dsrl", "grpo_learner")]
    return found


def module_of(asset: str) -> str:
    return STAGES[asset].make.__module__


def code_of(asset: str) -> set[str]:
    return reached(module_of(asset), without=FOR_PEOPLE)


def replaced(path: str, old: str, new: str) -> str:
    """The text of a file of ours with `new` for `old`, which is in it once."""
    text = (ROOT / path).read_text()
    assert text.count(old) == 1, f"{path}: {old!r} is there {text.count(old)} times"
    return text.replace(old, new)


def sample(rng: random.Random, modules: Iterable[str], count: int) -> list[Function]:
    """`count` different functions of some modules; each module as likely as the other, so that small ones have their
    turn."""
    pools = {module: list(functions(module)) for module in sorted(modules) if functions(module)}
    found: list[Function] = []
    while len(found) < count:
        function = rng.choice(pools[rng.choice(sorted(pools))])
        if function not in found:
            found.append(function)
    return found


class Copy:
    """Both packages in a folder of their own; what is changed there changes nothing here."""

    def __init__(self, folder: Path):
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
        (folder / "vlaw_models" / "weights").symlink_to(ROOT / "vlaw_models" / "weights")

    def change(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text)

    def restore(self) -> None:
        for path in files().values():
            name = path.relative_to(ROOT)
            if (self.folder / name).read_text() != path.read_text():
                shutil.copyfile(path, self.folder / name)

    def replace(self, path: str, old: str, new: str) -> None:
        self.change(path, replaced(path, old, new))

    def python(
        self, *arguments: str, environment: dict[str, str] | None = None, given: str = "", ok: bool = True
    ) -> str:
        """What a fresh Python on this copy prints."""
        surroundings = {
            **os.environ,
            **(environment or {}),
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            input=given,
            check=False,
            cwd=self.folder,
            env=surroundings,
        )
        assert done.returncode == 0 or not ok, done.stderr
        return done.stdout

    def digests(self, changes: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
        """Stage -> code digest: as it is, then under each change (file, its text) alone. In one process: it only
        reads."""
        return json.loads(self.python("-c", _DIGESTS, given=json.dumps(list(changes))))

    def stale(self, environment: dict[str, str]) -> dict[str, list[str]]:
        """Artifact -> why it is stale, of a lake, for the code of this copy."""
        return json.loads(self.python("-c", STALE, environment=environment))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _begin(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


_DIGESTS = """
import json, sys
from pathlib import Path
from vlaw_assets import definitions
from vlaw_assets.pipeline import code_identity
from vlaw_assets.assets.making import STAGES

def digests():
    code_identity.imports.cache_clear()
    code_identity.source_digest.cache_clear()
    return {asset: code_identity.code_digest(making.make.__module__) for asset, making in STAGES.items()}

found = [{asset: making.code for asset, making in STAGES.items()}]
for path, text in json.load(sys.stdin):
    file = Path(path)
    before = file.read_text()
    file.write_text(text)
    found.append(digests())
    file.write_text(before)
assert digests() == found[0]
print(json.dumps(found))
"""
STALE = """
import json, os
from vlaw_assets.rebuild.staleness import stale
from vlaw_assets.lake import Lake
found = stale(Lake.open(os.environ["VLAW_LAKE"]), recipes=os.environ["VLAW_RECIPES"])
print(json.dumps({item.name: [*item.reasons, *filter(None, [item.blocked])] for item in found}))
"""
