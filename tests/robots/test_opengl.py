"""Where no picture can be drawn: what a person is told, by every simulator that draws with OpenGL."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from vlaw_models.errors import VlawError
from vlaw_models.robots.libero.world import Libero, Scene
from vlaw_models.robots.metaworld.simulator import SIMULATOR
from vlaw_models.robots.opengl import open_renderer, opengl_name

SAID = r"nothing can be drawn: no display.*\n.*MUJOCO_GL \(osmesa\).*\n.*libgl1-mesa-dri.*libosmesa6"


def no_display(*_given: object, **_named: object) -> None:
    raise RuntimeError("no display\nand a long trace of the library's")


@pytest.fixture(autouse=True)
def osmesa(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "OSMesa")


def test_mujocos_renderer_that_cannot_start_is_told_with_a_remedy(monkeypatch):
    mujoco = ModuleType("mujoco")
    mujoco.Renderer = no_display
    monkeypatch.setitem(sys.modules, "mujoco", mujoco)
    with pytest.raises(VlawError, match=SAID) as caught:
        open_renderer(SimpleNamespace(), 32)
    assert "long trace" not in str(caught.value)


def test_liberos_scene_that_cannot_be_drawn_is_told_with_a_remedy():
    scene = Scene.__new__(Scene)
    scene.size, scene.env = 32, SimpleNamespace(sim=SimpleNamespace(render=no_display))
    with pytest.raises(VlawError, match=SAID):
        scene.draw()


class Missing:
    """Finds modules that stumble over an OpenGL library that is not there, as PyOpenGL does."""

    def __init__(self, *names: str):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise AttributeError("no display")


@pytest.mark.parametrize("ask", ["world", "player"])
def test_a_library_that_is_not_there_is_told_where_meta_world_is_imported(monkeypatch, ask):
    for name in ("metaworld", "vlaw_models.robots.metaworld.scene", "vlaw_models.robots.metaworld.world"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing("metaworld"), *sys.meta_path])
    with pytest.raises(VlawError, match=SAID):
        getattr(SIMULATOR, ask)()


def test_a_library_that_is_not_there_is_told_where_libero_is_imported(monkeypatch, tmp_path):
    package = tmp_path / "libero" / "libero"
    (package / "assets" / "scenes").mkdir(parents=True)
    (tmp_path / "libero" / "__init__.py").touch()
    (package / "__init__.py").write_text("raise AttributeError('no display')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", "")
    with pytest.raises(VlawError, match=SAID):
        Libero("")
    for name in ("libero", "libero.libero"):
        sys.modules.pop(name, None)


def test_without_a_word_it_is_the_one_with_a_screen(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    assert opengl_name() == "glfw"
