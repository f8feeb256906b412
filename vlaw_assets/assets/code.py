"""Which modules of `vlaw_models` make which artifacts: the code that an artifact's identity covers.

Here: module names only. Packages whose classes are found by name at run time are given whole ("package.*").
"""

from __future__ import annotations

ROLLOUTS = ("vlaw_models.collect", "vlaw_models.policies.*")
SCRIPTED = ("vlaw_models.collect",)
WORLD_MODEL = ("vlaw_models.learn_world_model", "vlaw_models.world_models.*")
REWARD_MODEL = ("vlaw_models.learn_reward_model", "vlaw_models.rewards.*")
IMAGINE = ("vlaw_models.imagine", "vlaw_models.policies.*", "vlaw_models.world_models.*")
SCORE = ("vlaw_models.score", "vlaw_models.rewards.*")
POLICY = ("vlaw_models.learn_policy", "vlaw_models.policies.*")
WORLD_MODEL_METRICS = ("vlaw_models.imagine", "vlaw_models.metrics.video", "vlaw_models.metrics.stats", *SCORE)
REWARD_MODEL_METRICS = ("vlaw_models.metrics.stats", *SCORE)
EMBED = ("vlaw_models.embed", "vlaw_models.rewards.*")
REPORT = ("vlaw_models.metrics.stats",)
