"""Where LIBERO is, as the environment says:

VLAW_LIBERO_PYTHON   the Python of an environment with hf-libero (or LIBERO) and msgpack, 3.10 or newer
VLAW_LIBERO_ASSETS   the folder of LIBERO's scene assets; without it, the one inside its package
MUJOCO_GL            egl or osmesa (opengl.py)
"""

from __future__ import annotations

import os
from pathlib import Path

from vlaw_models.errors import VlawError

PYTHON, ASSETS = "VLAW_LIBERO_PYTHON", "VLAW_LIBERO_ASSETS"
INSTALL = (
    "Make an environment of its own (python -m venv libero; libero/bin/pip install hf-libero msgpack), and set "
    f"{PYTHON} to its python."
)
SCENES = f"Set {ASSETS} to the folder of LIBERO's assets (the one with scenes/ and articulated_objects/)."


def libero_python() -> Path:
    """Raises VlawError where none is named, or is not there."""
    return _named(PYTHON, INSTALL)


def libero_assets() -> Path | None:
    """None where none is named. Raises VlawError for a folder that is not there, or has no scenes."""
    if not os.environ.get(ASSETS):
        return None
    folder = _named(ASSETS, SCENES).resolve()
    if not (folder / "scenes").is_dir():
        raise VlawError("there are no scenes in that folder", where=f"{ASSETS}={folder}", remedy=SCENES)
    return folder


def own_environment() -> dict[str, str]:
    """The variables of LIBERO's process: all of ours but those of our Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _named(variable: str, remedy: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise VlawError(f"{variable} is not set", where="environment", remedy=remedy)
    path = Path(value).expanduser()
    if not path.exists():
        raise VlawError("there is no such file or folder", where=f"{variable}={value}", remedy=remedy)
    return path
