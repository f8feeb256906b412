"""Memory between the stages of one process."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Return to the system what earlier stages have freed: glibc and Arrow keep it for themselves, and the next stage's
    peak would come on top of theirs."""
    gc.collect()
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other systems have none
    if trim is not None:
        trim(0)
