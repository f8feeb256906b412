"""What the pages, docstrings and comments name exists: files, folders, modules, headings, questions."""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from documents import PAGES, ROOT, Said, prose, words_of

SUFFIXES = "py|md|toml|sql|png|gif|yaml|lock"
ROOMS = "vlaw_assets|vlaw_models|tests|benchmarks|docs|sql"
NAMED = re.compile(
    rf"(?<![\w/.*<>-])(?:\.\./)*(?:[\w*-]+/)*[\w*.-]*[\w*]\.(?:{SUFFIXES})\b(?!/)"  # a file
    rf"|(?<![\w/.*<>-])(?:{ROOMS})/[\w/.*-]*"  # anything inside one of the rooms
    rf"|(?<=[`(])[a-z_]+/(?=[`,);:])"  # a folder
)
MODULE = re.compile(r"\bvlaw_(?:assets|models)(?:\.[A-Za-z_]\w*)+")
PLACEHOLDER = re.compile(r"\b(FILE|NAME|PATH|DIR)")
NOT_OURS = {
    "locks/": "of a lake",
    "tmp/": "of a lake",
    "lake/": "made by the first run",
    "arm.toml": "of whoever follows the page",
    "my_lab/foundation.toml": "of whoever follows the page",
    "my_lab/vlaw_droid.toml": "of whoever follows the page",
    "node.toml": "of whoever follows the page",
    "recording.toml": "of a recording in the inbox",
    "refused/": "of an inbox",
    "taken/": "of an inbox",
    "report.md": "a file of an artifact",
}
"""Named in the pages, and in no working tree."""


@cache
def tree() -> tuple[frozenset[str], frozenset[str]]:
    """Files and folders of the working tree that git tracks or would, as paths from the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = frozenset(name for name in listed.split("\0") if name and (ROOT / name).exists())
    return files, frozenset(folder.as_posix() for name in files for folder in Path(name).parents)


def exists(name: str, beside: Path) -> bool:
    """Whether a file or folder of that name is in the tree: from the root, from the file that names it, or as the end
    of a path."""
    files, folders = tree()
    name = name.rstrip("/.")
    here = (beside.parent / name).resolve()
    if here.is_relative_to(ROOT) and any(here.relative_to(ROOT).as_posix() in paths for paths in (files, folders)):
        return True
    wanted = name.removeprefix("../")
    return bool(fnmatch.filter(ends_of_paths(), wanted)) if "*" in wanted else wanted in ends_of_paths()


@cache
def ends_of_paths() -> frozenset[str]:
    """Each path of the tree, and what is left of it without its first folders."""
    split = [path.split("/") for paths in tree() for path in paths]
    return frozenset("/".join(parts[first:]) for parts in split for first in range(len(parts)))


def module_exists(name: str) -> bool:
    """Whether a dotted name is a module, or something that is defined or imported in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:count])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return count == len(parts) or parts[count] in names_of(path)
        if base.is_dir():
            return count == len(parts)
    return False


@cache
def names_of(path: Path) -> frozenset[str]:
    """Top-level names of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return frozenset(found)


def missing(said: Said) -> list[str]:
    """Every name in a text that leads nowhere, with its line."""
    wrong = []
    for found in NAMED.finditer(said.text):
        name = found[0]
        if not (PLACEHOLDER.search(name) and not exists(name, said.path)) and name not in NOT_OURS:
            wrong += [] if exists(name, said.path) else [(found.start(), name)]
    wrong += [(f.start(), f[0]) for f in MODULE.finditer(said.text) if not module_exists(f[0])]
    return [
        f"{said.path.relative_to(ROOT)}:{said.line + said.text[:start].count(chr(10))} names {name}"
        for start, name in wrong
    ]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    wrong = missing(Said(prose(page), page, 1))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["vlaw_models", "vlaw_assets", "tests", "benchmarks"])
def test_what_docstrings_and_comments_name_exists(room):
    sources = [ROOT / name for name in sorted(tree()[0]) if name.startswith(f"{room}/") and name.endswith(".py")]
    wrong = [line for source in sources for said in words_of(source) for line in missing(said)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("the losses (learn_policy.py)", ["learn_policy.py"]),
        ("worlds (`worlds/`) and rewards (rewards/)", ["worlds/", "rewards/"]),
        ("vlaw_models/worlds and vlaw_models/worlds.py", ["vlaw_models/worlds"]),
        ("see vlaw_models.presets.foundation, vlaw_models.presets.cellar", ["vlaw_models.presets.cellar"]),
        ("lake/verify.py, lake/upkeep/verify.py", ["lake/verify.py"]),
        ("`sql/study_*.sql`, `sql/nothing_*.sql`", ["sql/nothing_*.sql"]),
        ("writes FILE.gif, NAME_notes.md and pictures/<sha256>.png; and/or 3/4 of it", []),
    ],
)
def test_a_name_that_leads_nowhere_is_found(text, names):
    found = [line.rpartition(" names ")[2] for line in missing(Said(text, ROOT / "README.md", 1))]
    assert found == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in headings(other)):
            wrong.append(target)
    assert not wrong


def test_every_page_is_reached_from_the_readme():
    seen, coming = set(), [ROOT / "README.md"]
    while coming:
        page = coming.pop()
        if page not in seen:
            seen.add(page)
            found = re.findall(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)", prose(page))
            coming += [(page.parent / target).resolve() for target in found if "://" not in target]
    notes = {ROOT / "docs" / f"{study}_notes.md" for study in ("study", "world_vla_loop")}
    assert set(PAGES) - seen <= notes, "the notes are part of the report"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_question_is_listed():
    listed = (ROOT / "docs" / "audit.md").read_text()
    questions = [path.stem for path in (ROOT / "sql").glob("*.sql") if not path.stem.startswith("study_")]
    assert not [name for name in questions if f"`{name}`" not in listed]


def test_every_benchmark_is_listed():
    listed = (ROOT / "docs" / "benchmarks.md").read_text()
    assert not [
        path.name for path in (ROOT / "benchmarks").glob("*.py") if f"python benchmarks/{path.name}" not in listed
    ]


def test_the_moving_picture_is_small():
    assert (ROOT / "docs" / "rollout.gif").stat().st_size <= 1_500_000
