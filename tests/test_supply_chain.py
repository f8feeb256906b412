"""What is installed is what was locked: every pin with hashes, floors that the lock keeps, no registry named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import needed
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# In brackets, so that this file names none either.
REGISTRIES = re.compile(
    r"py[p]i\.org|pythonhoste[d]\.org|download\.pytorc[h]\.org|(?:extra-)?index-ur[l]|find-link[s]", re.IGNORECASE
)


NOT_LOCKED = {
    "dagster-k8s",
    "dagster-postgres",
    "dagster-ray",
    "metaworld",
    "obstore",
    "psycopg2-binary",
    "ray",
    "submitit",
}
"""Simulators of others, clusters, stores and databases: in no environment that the lock makes, and pinned where the
extra is named."""


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name -> (version, hashes), of a lock in which nothing else is said."""
    found = {}
    for entry in (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split()
        name, version = PIN.fullmatch(pin).groups()
        assert all(HASH.fullmatch(word) for word in hashes), entry
        assert canonicalize_name(name) not in found, f"{name} is there twice"
        found[canonicalize_name(name)] = version, hashes
    return found


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = [text for group in project["project"]["optional-dependencies"].values() for text in group]
    return [
        Requirement(text)
        for text in (*project["build-system"]["requires"], *project["project"]["dependencies"], *extra)
    ]


def test_every_pin_has_hashes():
    assert not [name for name, (_, hashes) in locked().items() if not hashes], "write them with `make lock`"


@pytest.mark.parametrize("requirement", [one for one in wanted() if one.name not in NOT_LOCKED], ids=str)
def test_the_lock_is_one_that_the_project_allows(requirement):
    version, _ = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


def test_what_is_not_locked_is_pinned():
    pinned = {one.name for one in wanted() if [spec.operator for spec in one.specifier] == ["=="]}
    assert pinned >= NOT_LOCKED
    assert not NOT_LOCKED & locked().keys()


def test_what_decodes_the_files_of_others_has_a_floor():
    floors = {requirement.name: [spec.operator for spec in requirement.specifier] for requirement in wanted()}
    assert {name: floors[name] for name in ("av", "pillow")} == {"av": [">="], "pillow": [">="]}


def test_set_up_takes_nothing_that_the_lock_does_not_name():
    rule = re.search(r"^\$\(VENV\)/ready:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    lines = [line for line in rule[1].splitlines() if "$(BIN)/pip install" in line]
    assert len(lines) == 2, "and `pip check` says whether the lock is complete"
    assert all(
        "--require-hashes --only-binary :all: --no-deps" in line
        or "--no-deps --no-build-isolation --editable ." in line
        for line in lines
    )


def test_no_tracked_file_names_a_registry():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git working tree")
    listed = subprocess.run(
        [needed.program("git"), "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".safetensors", ".png", ".gif") or not path.is_file():
            continue
        named += [name] if REGISTRIES.search(path.read_text(errors="replace")) else []
    assert not named


def test_a_wheel_has_the_questions_recipes_and_weights(tmp_path):
    """`sql/` lies beside the packages; a link in the package takes it along."""
    skipped = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "tests", "docs", "lake", "runs", "dagster_home"
    )

    def copy(source: str, target: str) -> None:
        if source.endswith(".safetensors"):  # 20 MB to compress, of which the names are looked at
            Path(target).touch()
        else:
            shutil.copy2(source, target)

    shutil.copytree(ROOT, tmp_path / "source", ignore=skipped, symlinks=True, copy_function=copy)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            ".",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            tmp_path,
        ],
        cwd=tmp_path / "source",
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in (
        ("vlaw_assets/sql", ROOT / "sql"),
        ("vlaw_assets/recipes", ROOT / "vlaw_assets" / "recipes"),
    ):
        files = {
            f"{package}/{path.relative_to(folder)}" for end in ("sql", "toml") for path in folder.rglob(f"*.{end}")
        }
        assert files
        assert files <= held
    weights = ROOT / "vlaw_models" / "weights"
    assert {f"vlaw_models/weights/{path.relative_to(weights)}" for path in weights.rglob("*.safetensors")} <= held
