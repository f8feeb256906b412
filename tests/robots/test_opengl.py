"""Where no picture can be drawn: what a person is told, by every simulator that draws with OpenGL."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from vlaw_models.errors import VlawError
from vlaw_models.robots.libero.world import Scene
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


def test_without_a_word_it_is_the_one_with_a_screen(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    assert opengl_name() == "glfw"
