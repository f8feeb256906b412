"""The corpora that every experiment starts from: of the robot's scripted experts, or recordings. Unpartitioned."""

from __future__ import annotations

from vlaw_assets.assets.corpora import plan_corpus
from vlaw_assets.assets.recordings import take, taken_from
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.assets.written import draw, in_batches, write
from vlaw_assets.pipeline import checks


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if taken_from(plan):
        take(stage, plan, work)
        return
    from vlaw_models.rollouts.demonstrate import iterate_demonstrations

    purpose, count, seed = (plan.recipe[key] for key in ("purpose", "count_per_task", "seed"))
    robot, tasks = stage.robot, stage.robot.tasks
    episodes = iterate_demonstrations(
        tasks, count, robot=robot, purpose=purpose, seed=seed, progress=stage.progress, spread=stage.spread(work)
    )
    done = write(
        work, in_batches(episodes), purpose=purpose, tasks=tasks, labelled=True, robot=robot, world=robot.world
    )
    work.check(checks.counts_as_asked((e.task for e in done.episodes), dict.fromkeys(tasks, count)))
    work.metrics["successes"] = done.successes
    draw(work, done)


expert_demonstrations = stage_asset(
    "expert_demonstrations",
    "Good episodes, of scripted experts or recorded: what the base policy was warm-started on the like of.",
    plan=lambda stage: plan_corpus(
        stage, "demonstration", stage.foundation.demonstrations, stage.foundation.demonstrations_per_task
    ),
    make=make,
    group="foundation",
    deps=("recorded_episodes",),
    checks=checks.EPISODES,
    kinds=("deltalake", "lance"),
    pool=POOL,
)
co_training_data = stage_asset(
    "co_training_data",
    "A broad corpus of mixed quality: the world model is finetuned on it too, with weight lambda (Eq. 2).",
    plan=lambda stage: plan_corpus(
        stage, "co_training", stage.foundation.co_training, stage.foundation.co_training_per_task
    ),
    make=make,
    group="foundation",
    deps=("recorded_episodes",),
    checks=checks.EPISODES,
    kinds=("deltalake", "lance"),
    pool=POOL,
)
