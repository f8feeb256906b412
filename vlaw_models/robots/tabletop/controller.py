"""The Cartesian controller's limits: what a commanded pose may be and how fast it may change (numbers: spec.py).

The robot and the world model clip with the same function, so an imagined state is what the robot would have had.
"""

from __future__ import annotations

import numpy as np

from vlaw_models.robots.tabletop.spec import SPEC

LOW = np.array(SPEC.action.low, dtype=np.float32)
HIGH = np.array(SPEC.action.high, dtype=np.float32)
MAX_DELTA = np.array(SPEC.action.largest_step, dtype=np.float32)
"""Largest change in one control step of 0.2 s."""
HOME = np.array([0.0, 0.0, 0.20, 0.0, 0.0], dtype=np.float32)
