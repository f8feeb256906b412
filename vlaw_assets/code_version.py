"""The digest of the code that makes an artifact: the source files its stage depends on, and no others.

A stage names the modules it calls; their imports are followed through `vlaw_models` (also those inside functions). Where
classes are found by name at run time, the stage names the package: "vlaw_models.policies.*" is all modules in it.
Lines that are blank or hold a comment only do not count. Nothing is imported, and imports are found by a pattern instead of
the parser: loading the definitions pays for this each time. Versions of installed packages and the revision are noted in the
ledger for people; they are in no digest.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import vlaw_models

ROOT = Path(vlaw_models.__file__).parent.parent
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(vlaw_models[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+(vlaw_models[\w.]*))", re.MULTILINE)
"""Absolute imports only (a test proves that vlaw_models has no others)."""
NOT_MAKING = frozenset({"vlaw_models.config", "vlaw_models.errors", "vlaw_models.pictures"})
"""Modules that make nothing: the configuration's values are part of the recipe's digest, the others are for people."""


def code_digest(modules: tuple[str, ...], files: tuple[Path, ...] = ()) -> str:
    """sha256 (hex) over the sources of `modules` with all they import from `vlaw_models`, and over `files`."""
    digest = hashlib.sha256()
    for module, path in sorted(sources(modules).items()):
        digest.update(f"{module}={_source_digest(path)}\n".encode())
    for path in sorted(files):
        digest.update(f"{path.name}={_source_digest(path)}\n".encode())
    return digest.hexdigest()


def sources(modules: tuple[str, ...]) -> dict[str, Path]:
    """Module name -> file: the given modules and every module of `vlaw_models` that they can reach by imports."""
    found: dict[str, Path] = {}
    waiting = [name for module in modules for name in _expanded(module)]
    while waiting:
        module = waiting.pop()
        path = _file_of(module)
        if path is None or module in found or module in NOT_MAKING or module.endswith(".__main__"):
            continue
        found[module] = path
        waiting += _imports(path)
    return found


def _expanded(module: str) -> list[str]:
    """["a.b"] of "a.b"; every module below the package of "a.b.*". A name that is no module is a mistake of ours."""
    package = module.removesuffix(".*")
    path = _file_of(package)
    if path is None:
        raise ModuleNotFoundError(f"{module}: a stage names it as its code, but it does not exist")
    if package == module:
        return [module]
    files = sorted(path.parent.rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@cache
def _file_of(module: str) -> Path | None:
    """The source file of a dotted name, or None where it is no module (a class, a package we do not own)."""
    if module.split(".", maxsplit=1)[0] != "vlaw_models":
        return None
    base = ROOT.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Dotted names that a file may import: modules of ours, and names that turn out to be none (functions, classes)."""
    names: set[str] = set()
    for match in IMPORT.finditer(path.read_text(encoding="utf-8")):
        base, imported = match[1] or match[3], match[2] or ""
        names.add(base)
        names.update(f"{base}.{name}" for name in re.findall(r"\w+", re.sub(r"#[^\n]*|\bas\s+\w+", "", imported)))
    # Importing a.b.c runs the code of a and a.b first.
    return tuple(names | {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 1)})


@cache
def _source_digest(path: Path) -> str:
    """Digest of a file's lines, without blank lines and those that hold a comment only."""
    lines = (line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    kept = (line for line in lines if line and not line.lstrip().startswith("#"))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def made_with() -> dict[str, str]:
    """What numbers depend on besides code and inputs: versions, the kind of machine, and torch's CPU threads if it is used."""
    torch = sys.modules.get("torch")
    return _versions() | ({"threads": str(torch.get_num_threads())} if torch else {})


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("torch", "numpy", "mujoco", "diffusers", "transformers"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@cache
def code_revision() -> str:
    """The commit that is checked out where this code lies, or '' outside a git checkout. For people: not in any digest."""
    head = ROOT / ".git" / "HEAD"
    if not head.is_file():
        return ""
    text = head.read_text(encoding="utf-8").strip()
    if not text.startswith("ref: "):
        return text
    ref = text.removeprefix("ref: ")
    loose, packed = ROOT / ".git" / ref, ROOT / ".git" / "packed-refs"
    if loose.is_file():
        return loose.read_text(encoding="utf-8").strip()
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")
