"""What is noted of the surroundings that numbers depend on, and what of them is part of an identity."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import grimp
import pytest
import torch
from PIL import features

from vlaw_assets.pipeline import code_identity
from vlaw_assets.pipeline.code_identity import COMPUTING, OF_TORCH, made_with
from vlaw_models.device import compute_device
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.render import GlRenderer, RayRenderer, make_renderer
from vlaw_models.robots.tabletop.renderer import renderer_name
from vlaw_models.threads import on_threads

ROOT = Path(__file__).parents[2]
ONLY_A_WINDOW = {"gymnasium"}
"""Imported by vlaw_models, and no stage comes to it."""
ELSEWHERE = {"libero"}
"""Of the environment of another process, which VLAW_LIBERO_PYTHON names."""


def test_versions_and_codecs_are_noted():
    noted = made_with()
    for name in ("torch", "numpy", "mujoco", "pillow", "diffusers", "transformers", "av"):
        assert noted[name] == metadata.version(name)
    assert noted["libjpeg"].endswith(str(features.version("libjpeg_turbo") or features.version("jpg")))
    assert noted["zlib"] == features.version("zlib")
    assert noted["machine"]
    assert noted["processor"]
    assert all(isinstance(value, str) for value in noted.values())


def test_every_package_that_computes_or_stores_is_noted():
    graph = grimp.build_graph(
        "vlaw_assets", "vlaw_models", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    ours = [
        name
        for name in graph.modules
        if name.startswith(("vlaw_models.", "vlaw_assets.lake.", "vlaw_assets.importers."))
    ]
    outside = {name.split(".")[0] for module in ours for name in graph.find_modules_directly_imported_by(module)}
    outside -= {"vlaw_assets", "vlaw_models", *sys.stdlib_module_names} | ONLY_A_WINDOW | ELSEWHERE
    providers = metadata.packages_distributions()
    missing = {name for name in outside if not {one.lower() for one in providers.get(name, [name])} & set(COMPUTING)}
    assert missing <= {"annotated_types", "duckdb", "filelock", "msgpack", "obstore", "pandera", "triton"}, (
        "they name limits, look ids up, wait for locks, carry messages and objects and refuse rows; Triton is only "
        "loaded first"
    )


def test_threads_are_noted_as_they_are_when_it_is_made(monkeypatch):
    for count in (1, 2):
        with on_threads(count):
            assert made_with()["threads"] == str(count)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert made_with()["blas_threads"] == "3"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert made_with()["blas_threads"] == "2"
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name)
    assert int(made_with()["blas_threads"]) >= 1


def test_what_the_environment_tells_the_libraries_is_noted(monkeypatch):
    for name in ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    before = made_with()["settings"]
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert set(made_with()["settings"].split()) - set(before.split()) == {"MKL_CBWR=COMPATIBLE"}


def test_what_was_imported_before_is_not_noted(monkeypatch):
    before = made_with()["settings"]
    for name, value in (("KMP_DUPLICATE_LIB_OK", "True"), ("KMP_INIT_AT_FORK", "FALSE")):  # scikit-learn's
        monkeypatch.setenv(name, value)
    assert made_with()["settings"] == before


def test_what_torch_chooses_by_the_processor_is_noted(monkeypatch):
    assert made_with()["cpu_kernels"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("auto", "cuda", "cpu"):
        monkeypatch.setenv("VLAW_DEVICE", name)
        assert (made_with()["cpu_kernels"], made_with()["accelerator"]) == ("AVX9", "a card")
        assert made_with()["device"] == ("cpu" if name == "cpu" else "cuda")
    assert set(OF_TORCH) < set(made_with())


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "gpu", "cpu:1"])
def test_a_device_that_is_not_there_is_named_with_the_setting(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VLAW_DEVICE", name)
    with pytest.raises(VlawError, match=name) as raised:
        compute_device()
    assert raised.value.where == "VLAW_DEVICE"
    assert "auto" in raised.value.remedy


def test_of_torch_nothing_is_noted_where_it_is_not_loaded():
    said = subprocess.run(
        [sys.executable, "-c", "from vlaw_assets.pipeline.code_identity import made_with; print(sorted(made_with()))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert "'torch'" in said, "its version is"
    assert not [name for name in OF_TORCH if f"'{name}'" in said]


def test_the_renderer_is_noted_with_its_driver(monkeypatch):
    monkeypatch.delenv("VLAW_RENDERER", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    before = made_with()["settings"]
    monkeypatch.setenv("VLAW_RENDERER", "gl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    noted = set(made_with()["settings"].split()) - set(before.split())
    assert noted == {"VLAW_RENDERER=gl", "MUJOCO_GL=osmesa"}


def test_the_renderer_that_is_named_is_the_one_that_draws(monkeypatch):
    for name, kind in (("", RayRenderer), ("ray", RayRenderer), ("gl", GlRenderer)):
        monkeypatch.setenv("VLAW_RENDERER", name)
        assert isinstance(make_renderer(32), kind)
        assert renderer_name() == (name or "ray")
    monkeypatch.setenv("VLAW_RENDERER", "GL")
    for ask in (renderer_name, lambda: make_renderer(32)):
        with pytest.raises(VlawError, match="unknown renderer 'GL'"):
            ask()


def test_no_other_setting_of_the_environment_is_read_by_what_makes_data():
    """A new switch must be in an identity or be noted: then name it here."""
    readers = {
        module for module, path in _files().items() if "environ" in path.read_text() and "os." in path.read_text()
    }
    assert {module for module in readers if module.startswith("vlaw_models")} == {
        "vlaw_models.__init__",
        "vlaw_models.device",
        "vlaw_models.learners.loop",
        "vlaw_models.learners.resume",
        "vlaw_models.robots.libero.settings",
        "vlaw_models.robots.libero.world",
        "vlaw_models.robots.opengl",
        "vlaw_models.robots.tabletop.renderer",
        "vlaw_models.threads",
    }, (
        "the first: how threads wait; the last: how many processes read batches; learners: which of several processes "
        "this is, and how often a state is kept; LIBERO's world writes a path of its own"
    )
    assert {module for module in readers if module.startswith(("vlaw_assets.lake", "vlaw_assets.assets"))} == {
        "vlaw_assets.lake.lance_table",
        "vlaw_assets.lake.objects",
        "vlaw_assets.lake.replica",
        "vlaw_assets.lake.verified",
    }, "the last three: where a bucket, copies of it and a memory are, which change no answer"


def _files():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in code_identity.PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
