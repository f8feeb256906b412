"""OpenGL for the simulators that draw with it: which one the environment names, and what to do where there is none."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import mujoco

VARIABLE = "MUJOCO_GL"
KINDS = ("egl", "osmesa", "glfw")
REMEDY = (
    f"Without a screen set {VARIABLE}=egl (Debian's libegl1 and libgl1-mesa-dri; any GPU's driver has it) or "
    f"{VARIABLE}=osmesa (libosmesa6) before the process starts; with one, {VARIABLE}=glfw."
)


def opengl_name() -> str:
    """'egl', 'osmesa' or 'glfw' (the default), as MUJOCO_GL says. VlawError for anything else."""
    kind = (os.environ.get(VARIABLE) or "glfw").lower()
    if kind not in KINDS:
        raise VlawError(f"unknown OpenGL {kind!r}", where=f"environment variable {VARIABLE}", remedy=REMEDY)
    return kind


def open_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """MuJoCo's renderer of square pictures. Raises VlawError where there is no OpenGL."""
    import mujoco

    # Mesa draws in software by an LLVM of its own: the one in torch's triton, loaded after it, ends the process.
    with suppress(ImportError):
        import triton._C.libtriton  # noqa: F401
    try:
        return mujoco.Renderer(model, size, size)
    except Exception as error:  # each OpenGL fails in a way of its own
        raise no_opengl(error) from error


def no_opengl(error: Exception) -> VlawError:
    """What a person is told where no picture can be drawn."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    return VlawError(
        f"nothing can be drawn: {said}", where=f"environment variable {VARIABLE} ({opengl_name()})", remedy=REMEDY
    )
