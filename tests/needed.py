"""What tests need that the project does not bring: programs, and rights that not every user has.

A test is skipped where its program is not installed or this user may not use it, and for no other reason: a program
that is here and does not work fails the test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / ".venv-tools" / "bin"
"""Programs of the environment that the Makefile has for tools."""
DENIED = re.compile(r"not permitted|permission denied|must be superuser|only root can", re.IGNORECASE)


def program(*names: str) -> str:
    """Path of the first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"{' or '.join(names)} is not installed")
    return found


def tool(name: str, how: str) -> str:
    """Path of a program of the environment for tools, or of this name that is installed elsewhere; `how` one gets
    it."""
    found = shutil.which(name, path=TOOLS) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {how}")
    return found


def worked(*command: str) -> None:
    """Run a command that this user may not be allowed to run."""
    program(command[0])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and DENIED.search(done.stderr):
        pytest.skip(f"this user may not: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, f"{command[0]} is installed and failed: {done.stderr.strip()[:500]}"
