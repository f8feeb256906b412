"""Models, worlds and learners of the co-improvement loop: torch, MuJoCo and numpy.

Nothing here knows about storage or orchestration: functions take arrays and folders and give arrays and folders.
`vlaw_assets` is the only caller that persists anything.
"""

import os

# Before anything loads torch: a thread that waits for the others spins for some microseconds, which is all it takes
# where it has its core to itself, and then leaves the core to others. Numbers do not depend on it, times do: spinning
# on beside another job, or sleeping at once without one, costs half as much again or more (benchmarks/threads.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
