"""Memory between the stages of one process."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

LEAST = 128 << 20
"""Bytes that a process must have grown by: to give back takes a third of a second, and small stages leave little."""
_left = [0]
"""Resident bytes after the last time."""


def give_back() -> None:
    """Return to the system what earlier stages have freed: glibc and Arrow keep it for themselves, and the next stage's
    peak would come on top of theirs."""
    if 0 < _resident() < _left[0] + LEAST:
        return
    gc.collect()
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other systems have none
    if trim is not None:
        trim(0)
    _left[0] = _resident()


def _resident() -> int:
    """Bytes of this process in memory; 0 on systems that do not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0
