"""Files under a second name: weights that nobody changes need no copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> str:
    """Puts the file at `target`: as a second name of the same bytes where the disk can, else as a copy. Returns
    "linked" or "copied"."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
        return "copied"
    return "linked"
