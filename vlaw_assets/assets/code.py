"""Which modules of `vlaw_models` make which artifacts: the code that an artifact's identity covers.

Here: module names only. Packages whose classes are found by name at run time are given whole ("package.*").
"""

from __future__ import annotations

ROLLOUTS = ("vlaw_models.collect", "vlaw_models.policies.*")
EVALUATION = (*ROLLOUTS, "vlaw_models.early_stopping")
SCRIPTED = ("vlaw_models.collect",)
WORLD_MODEL = ("vlaw_models.learn_world_model", "vlaw_models.world_models.*")
REWARD_MODEL = ("vlaw_models.learn_reward_model", "vlaw_models.rewards.*", "vlaw_models.imagine", "vlaw_models.world_models.*")
IMAGINE = ("vlaw_models.imagine", "vlaw_models.policies.*", "vlaw_models.world_models.*")
PRIVILEGED = ("vlaw_models.privileged", "vlaw_models.policies.*")
OUTCOMES = ("vlaw_models.privileged", "vlaw_models.metrics.stats")
SCORE = ("vlaw_models.score", "vlaw_models.rewards.*")
TRAINING_SET = ("vlaw_models.advantages",)
POLICY = ("vlaw_models.learn_policy", *ROLLOUTS)
WORLD_MODEL_METRICS = ("vlaw_models.imagine", "vlaw_models.metrics.rows", "vlaw_models.metrics.networks", *SCORE)
REWARD_MODEL_METRICS = ("vlaw_models.metrics.rows", *SCORE)
EMBED = ("vlaw_models.embed", "vlaw_models.rewards.*")
PROMOTION = ("vlaw_models.metrics.stats",)
REPORT = ("vlaw_models.metrics.stats", "vlaw_models.metrics.sequential")
