"""Which renderer draws the tabletop: the environment's choice, part of the identity of whatever holds its pictures.

The name alone, which costs no import of MuJoCo; the renderers are in render.py.
"""

from __future__ import annotations

import os

from vlaw_models.errors import VlawError

RENDERER = "VLAW_RENDERER"
RAY, GL = "ray", "gl"


def renderer_name() -> str:
    """'ray' (default) or 'gl', as VLAW_RENDERER says. VlawError for anything else."""
    kind = os.environ.get(RENDERER) or RAY
    if kind not in (RAY, GL):
        raise VlawError(
            f"unknown renderer {kind!r}",
            where=f"environment variable {RENDERER}",
            remedy=f"set it to {RAY!r} or {GL!r}",
        )
    return kind
