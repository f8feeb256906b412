"""Where bfloat16 arithmetic pays: on accelerators, and on CPUs that have instructions for it.

Not here: what the weights are stored in. A CPU without AVX-512 computes bfloat16 convolutions in a plain loop: the tiny
world model then imagines 4 times slower than in float32 (10 against 38 frames a second, one thread of an AVX2 server
core).
"""

from __future__ import annotations

from functools import cache

import torch


def mixed(device: torch.device | str, *, enabled: bool = True, dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    """Autocast to `dtype` on `device` where `enabled` and the device is quick at it; otherwise float32 as it is."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype, enabled=enabled and (kind != "cpu" or cpu_is_quick()))


@cache
def cpu_is_quick() -> bool:
    """Whether this CPU's bfloat16 kernels are not slower than its float32 ones."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
