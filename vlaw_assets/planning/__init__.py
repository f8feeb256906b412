"""What an experiment would take on given GPUs, stage by stage, before anything is made: `vlaw plan`."""

from __future__ import annotations

from vlaw_assets.planning.planner import Planner
from vlaw_assets.planning.stage_plan import StagePlan

__all__ = ["Planner", "StagePlan"]
