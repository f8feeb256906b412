"""The digest of the code that makes an artifact: the sources of all modules that its stage can reach, and of no others.

The stage's own module is where it begins; imports are followed through `vlaw_assets` and `vlaw_models`, also those
inside functions, not those for type checkers only (`grimp` reads them from the files: nothing is imported). What
is found by name in a registry (vlaw_models/registry.py) cannot be told from imports: who runs it is FOUND_BY_NAME, who
reaches that reaches all that is shipped; and what an installed package adds is code of those artifacts that use it
(plugins.py). FOR_PEOPLE cannot be told from them either.

Blank lines and comments do not count, docstrings do. What an artifact was made with besides code and inputs (versions,
kind of machine, threads) is noted in the ledger for people; it is in no digest.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import vlaw_models
from vlaw_assets.pipeline import read_code
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.registry import Registry

ROOT = Path(vlaw_models.__file__).parent.parent
PACKAGES = ("vlaw_assets", "vlaw_models")
FOUND_BY_NAME = {
    **{
        f"vlaw_models.{kind}.base": f"vlaw_models.{kind}.registry"
        for kind in ("policies", "world_models", "autoencoders", "reward_models")
    },
    "vlaw_assets.assets.training_set": "vlaw_models.learners.base",
    "vlaw_models.learners.policy": "vlaw_models.learners.base",
    "vlaw_models.robots.simulator": "vlaw_models.robots.registry",
}
"""Module that runs what a checkpoint or a recipe names -> module with the registry that finds it: who reaches the one
runs what the other finds, and what these name as module:attribute (a robot's simulator). Recipes load learners and
robots too, but only to check settings; what a stage reads of its robot is in the recipe of its identity."""
FOR_PEOPLE = frozenset(
    {
        "vlaw_assets.pipeline.memory",
        "vlaw_assets.pipeline.mirror",
        "vlaw_assets.pipeline.page",
        "vlaw_assets.pipeline.progress",
        "vlaw_assets.reports.iteration",
        "vlaw_assets.reports.iteration.page",
        "vlaw_assets.reports.numbers",
        "vlaw_assets.reports.plots",
        "vlaw_assets.reports.stage_pictures",
        "vlaw_assets.reports.stage_plots",
        "vlaw_models.film",
        "vlaw_models.pictures",
    }
)
"""Pictures, progress, memory given back and what Dagster is told of a commit: no artifact is made of these (a test
replaces them all and makes the same content)."""
COMPUTING = (
    "accelerate",
    "av",
    "deltalake",
    "diffusers",
    "h5py",
    "lancedb",
    "metaworld",
    "mujoco",
    "numpy",
    "peft",
    "pillow",
    "pyarrow",
    "pylance",
    "safetensors",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "tokenizers",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
)
"""Packages that compute or write data (a test compares them with what `vlaw_models` and the lake import)."""
SETTINGS = (
    "ATEN_",
    "CUBLAS_",
    "DNNL_",
    "KMP_",
    "MKL_",
    "MUJOCO_",
    "NVIDIA_TF32_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TORCH_",
    "VLAW_DEVICE",
    "VLAW_LIBERO_",
    "VLAW_RENDERER",
)
"""Beginnings of the environment variables by which torch, numpy, simulators and what they stand on choose how to
compute and to draw."""
CHANGE_NOTHING = ("_NUM_THREADS", "_WAIT_POLICY", "_DUPLICATE_LIB_OK", "_INIT_AT_FORK")
"""Ends of those that change no number, or are noted otherwise; scikit-learn sets the last two when it is imported."""
OF_TORCH = ("threads", "cpu_kernels", "float32_matmul", "accelerator", "device")
"""What is noted of torch where it is loaded."""
TOKEN = re.compile(
    r"""("{3}[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3}|'{3}[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'{3}"""
    r"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')|#[^\n]*""",
    re.DOTALL,
)
"""A string of Python (group 1), or a comment: what looks like the other inside either is none. A pattern and not the
tokenizer, which takes a second for both packages: loading the definitions pays for it each time."""


def code_digest(*modules: str) -> str:
    """sha256 (hex) over the sources of some modules and of all that they can reach."""
    return digest_of_files(sources(*modules))


def digest_of_files(files: Mapping[str, Path]) -> str:
    """sha256 (hex) over the code in some files: module name -> file."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}={source_digest(path)}\n".encode())
    return digest.hexdigest()


def sources(*modules: str) -> dict[str, Path]:
    """Module name -> file of some modules and all that they can reach, in these two packages and in their own.

    ModuleNotFoundError where one of them does not exist.
    """
    imported = imports()
    outside = {top_level(module) for module in modules} - set(PACKAGES)
    for module in modules:
        if not (module in imported or (top_level(module) in outside and read_code.file_of(module))):
            raise ModuleNotFoundError(f"there is no module {module}, whose code is part of what is made by it")
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if "." in name:  # importing a.b.c runs the code of a and a.b first
            waiting.append(name.rpartition(".")[0])
        if name in found or name in FOR_PEOPLE:
            continue
        if name in imported:
            found[name] = _file_of(name)
            waiting += imported[name]
            for module in shipped_for(name):
                waiting += [module, *read_code.targets_in(_file_of(module))]
        elif top_level(name) in outside and (path := read_code.file_of(name)):
            found[name] = path
            waiting += read_code.names_in(name, path)
    return found


def top_level(module: str) -> str:
    return module.partition(".")[0]


def shipped_for(module: str) -> list[str]:
    """The modules of what is shipped in the registries whose things a module runs."""
    return [target.partition(":")[0] for registry in registries_of(module) for target in registry.shipped.values()]


@cache
def registries_of(module: str) -> tuple[Registry, ...]:
    """The registries whose things a module runs. The module that defines them is imported: it is quick (a test)."""
    from vlaw_models.registry import Registry

    if module not in FOUND_BY_NAME:
        return ()
    held = vars(importlib.import_module(FOUND_BY_NAME[module])).values()
    return tuple(value for value in held if isinstance(value, Registry))


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules that it imports, in both packages, from the files as they are when it is first asked for.

    Raises VlawError for a file that is not Python.
    """
    from grimp import build_graph
    from grimp.exceptions import SourceSyntaxError

    try:
        # Without its cache, which would be a folder in the caller's working directory and saves nothing here.
        graph = build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    except SourceSyntaxError as error:
        raise VlawError(
            f"what the code of a stage is cannot be told: {error}", where=str(error.filename), remedy="mend the file"
        ) from error
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


@cache
def _file_of(module: str) -> Path:
    package = ROOT.joinpath(*module.split("."), "__init__.py")
    return package if package.is_file() else package.parent.with_suffix(".py")


@cache
def source_digest(path: Path) -> str:
    """Digest of a file's code: without comments, and without lines that are blank then; of all of it where it is no
    Python."""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # Line ends inside a string are part of it, whatever its lines look like.
    code = TOKEN.sub(lambda token: (token[1] or "").replace("\n", "\0"), path.read_text(encoding="utf-8"))
    return hashlib.sha256("\n".join(filter(None, map(str.rstrip, code.split("\n")))).encode()).hexdigest()


def made_with() -> dict[str, str]:
    """What numbers and bytes depend on besides code and inputs: versions, the machine, settings, threads.

    Of torch only if it is loaded: what did without it does not depend on it. The CPU's kernels decide whether bfloat16
    is computed in (vlaw_models/device.py), too.
    """
    found = _libraries() | {"blas_threads": _blas_threads(), "settings": _settings()}
    torch = sys.modules.get("torch")
    if torch is not None:
        accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        device = sys.modules.get("vlaw_models.device")  # loaded by whatever computes with torch
        found |= dict(
            zip(
                OF_TORCH,
                (
                    str(torch.get_num_threads()),
                    torch.backends.cpu.get_cpu_capability(),
                    torch.get_float32_matmul_precision(),
                    accelerator,
                    str(device.compute_device()) if device is not None else "cpu",
                ),
                strict=True,
            )
        )
    return found


@cache
def _libraries() -> dict[str, str]:
    """Versions of what computes or writes data, of the codecs inside Pillow, and what kind of machine this is."""
    from PIL import features

    found = {"python": platform.python_version(), "machine": platform.machine(), "processor": _processor()}
    for name in COMPUTING:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    jpeg, zlib = features.version_feature("libjpeg_turbo"), features.version_codec("zlib")
    return found | {"libjpeg": f"turbo {jpeg}" if jpeg else str(features.version_codec("jpg")), "zlib": str(zlib)}


def _processor() -> str:
    """The CPU's own name: libraries choose their kernels by it."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
        )
    return platform.processor()


def _settings() -> str:
    """What the environment tells the libraries about how to compute; numbers of threads are noted as they turned
    out, and how threads wait for one another (OMP_WAIT_POLICY) changes no number."""
    given = sorted(name for name in os.environ if name.startswith(SETTINGS) and not name.endswith(CHANGE_NOTHING))
    return " ".join(f"{name}={os.environ[name]}" for name in given)


def _blas_threads() -> str:
    """On how many threads numpy multiplies matrices: OpenBLAS's rule."""
    given = next(filter(None, map(os.environ.get, ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))), "")
    return given or str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


@cache
def code_revision() -> str:
    """The commit that is checked out where this code lies, or '' outside a git checkout. For people: not in any
    digest."""
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
