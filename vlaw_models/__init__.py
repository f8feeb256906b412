"""Models, worlds and learners of the co-improvement loop: torch, MuJoCo and numpy.

Nothing here knows about storage or orchestration: functions take arrays and folders and give arrays and folders.
`vlaw_assets` is the only caller that persists anything.
"""

import os

# Before anything loads torch: beside another job a thread that waits for the others must leave the processor to them.
# Numbers do not depend on it (benchmarks/threads.py measures what it saves).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
