"""What a corpus of the foundation is to be made of: the robot's scripted experts, or recordings."""

from __future__ import annotations

from vlaw_assets.assets.recordings import is_recorded, plan_of
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Plan
from vlaw_models.robots.simulator import simulator_of

KEYS = {"demonstration": "demonstrations", "co_training": "co_training", "near_success": "near_success"}
"""Purpose -> the key of foundation.toml that says where its episodes come from."""


def plan_corpus(stage: Stage, purpose: str, source: str, count: int) -> Plan:
    """The plan of `count` episodes per task for a purpose. Raises VlawError for a robot that nothing simulates."""
    if is_recorded(source):
        return plan_of(
            stage,
            "recorded_corpus",
            source,
            purpose=purpose,
            tasks=(),
            per_task=count,
            world_model=purpose != "demonstration",
        )
    simulator = simulator_of(stage.robot, needed_by=stage.asset, remedy=f"{KEYS[purpose]} = 'recorded:NAME'")
    recipe = {
        "purpose": purpose,
        "count_per_task": count,
        "seed": stage.foundation.seed,
        "tasks": list(stage.robot.tasks),
        "robot": stage.robot.identity(),
        "renderer": simulator.renderer(),
    }
    return Plan(kind="scripted_episodes", recipe=recipe)
