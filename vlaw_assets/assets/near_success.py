"""Success and near-success (World-VLA-Loop's SANS data) of the robot's simulator, or recordings. Unpartitioned.

For recipes whose world model learns from it (world_model.near_success); of no pairs, where nobody wants any.
"""

from __future__ import annotations

from vlaw_assets.assets.corpora import plan_corpus
from vlaw_assets.assets.encoded import NEAR
from vlaw_assets.assets.recordings import is_recorded, take, taken_from
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.assets.written import draw, in_batches, write
from vlaw_assets.pipeline import checks


def plan(stage: Stage) -> Plan:
    source, count = stage.foundation.near_success, stage.foundation.near_success_per_task
    if not count and not is_recorded(source):  # no simulator is asked
        return Plan(kind="scripted_episodes", recipe={"purpose": NEAR, "count_per_task": 0})
    return plan_corpus(stage, NEAR, source, count)


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if taken_from(plan):
        take(stage, plan, work)
        return
    from vlaw_models.rollouts.near_success import iterate_near_success

    count, robot = plan.recipe["count_per_task"], stage.robot
    tasks, seed = robot.tasks if count else (), plan.recipe.get("seed", 0)
    # Where none are asked, nothing need simulate the robot.
    episodes = (
        iterate_near_success(tasks, count, robot=robot, seed=seed, progress=stage.progress) if count else iter(())
    )
    done = write(work, in_batches(episodes), purpose=NEAR, tasks=tasks, labelled=True, robot=robot, world=robot.world)
    work.check(checks.counts_as_asked((e.task for e in done.episodes), dict.fromkeys(tasks, 2 * count)))
    work.metrics["successes"] = done.successes
    draw(work, done)


near_success = stage_asset(
    NEAR,
    "Pairs of a success and of the same perturbed just enough to fail: the world model may be finetuned on them too.",
    plan=plan,
    make=make,
    group="foundation",
    deps=("recorded_episodes",),
    checks=checks.EPISODES,
    kinds=("deltalake", "lance"),
    pool=POOL,
)
