"""Imagined rollouts: the policy inside the world model, from the first frames of real episodes.

With `imagine.world = "simulator"` (privileged) the policy acts on the true simulator instead. Every imagined episode
has exactly one real parent, and begins with its very pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlaw_assets.assets.encoded import latents_for, read_latents
from vlaw_assets.assets.origins import origins_in
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.starts import (
    BEGIN_REAL,
    Choice,
    Starts,
    begin_with_real_frames,
    start_parents,
    start_roles,
)
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.assets.written import write
from vlaw_assets.loop_roles import REAL
from vlaw_assets.pipeline import checks
from vlaw_models.robots.simulator import Simulator, simulator_of

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.recipes.schema import Recipe
    from vlaw_models.episodes import Episode

PRIVILEGED = "imagine.world = 'simulator'"


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    parents = {"policy": state.policy}
    tables = {
        **recipe.tables("imagine"),
        "tasks": list(recipe.tasks),
        "seed": stage.seed,
        "robot": stage.robot.identity(),
    }
    if on_the_simulator(recipe):
        tables["renderer"] = _simulator(stage).renderer()
    else:
        parents |= {
            "world_model": stage.require("world_model"),
            "autoencoder": stage.require_foundation("autoencoder"),
            **latents_for(
                stage, {"real_rollouts": stage.require("real_rollouts")}, corpora=recipe.imagine.starts == "real"
            ),
        }
    parents |= start_parents(stage, state)
    return Plan(kind="imagined_rollouts", recipe=tables, parents=parents, chosen_by=state.ref)


def make(stage: Stage, plan: Plan, work: Work) -> None:
    recipe = stage.recipe
    per_task, oracle = recipe.imagine.count, on_the_simulator(recipe)
    if not per_task:
        return
    from vlaw_assets.reports import stage_pictures

    rollouts, *others = [list(work.read(role).source(tasks=recipe.tasks, judged=True)) for role in start_roles(work)]
    scenes = [episode for found in others for episode in found]
    before = [
        work.read(role).episodes(frames=False, tasks=recipe.tasks, judged=True)
        for role in work.parents
        if role.startswith(REAL)
    ]
    choice = Choice(recipe.tasks, per_task, recipe.imagine.tries_per_failure, recipe.seed)
    starts = Starts(choice.starts(rollouts, scenes, before), read_latents(work))
    first: dict[str | None, np.ndarray | None] = {}

    def made() -> Iterator[list[Episode]]:
        count = 0
        for batch in (_on_the_simulator if oracle else _in_the_world_model)(stage, work, starts):
            first.clear()
            first.update({start.episode_id: start.images for start in starts[count : count + len(batch)]})
            count += len(batch)
            yield batch

    done = write(
        work,
        made(),
        purpose="imagined",
        tasks=recipe.tasks,
        labelled=False,
        robot=stage.robot,
        world=stage.robot.world if oracle else "world_model",
        policy=plan.parents["policy"].content_digest,
        world_model="" if oracle else plan.parents["world_model"].content_digest,
        also=lambda batch: begin_with_real_frames(batch, first, hint=_renderer(stage) if oracle else ""),
    )
    work.check(
        checks.Finding(checks.STARTS, passed=True, text=BEGIN_REAL.format(len(done.episodes))),
        checks.counts_as_asked((e.task for e in done.episodes), dict.fromkeys(recipe.tasks, per_task)),
    )
    by_id = {episode.episode_id: episode for episode in [*rollouts, *scenes]}
    pairs = [(by_id[str(made.start_episode_id)], made) for made in done.seen.episodes]
    work.draw("real starts, and what was imagined from them", lambda: stage_pictures.imagined(pairs))
    work.metrics["privileged"] = oracle
    work.metrics |= done.savings


def on_the_simulator(recipe: Recipe) -> bool:
    """Whether the policy acts on the true simulator instead of in a world model: an oracle, privileged."""
    return recipe.imagine.world == "simulator"


def _in_the_world_model(stage: Stage, work: Work, starts: Starts) -> Iterator[list[Episode]]:
    from vlaw_models.rollouts.imagine import imagine

    return imagine(
        work.read("policy").checkpoint(),
        work.read("world_model").checkpoint(),
        work.read("autoencoder").checkpoint(),
        starts,
        stage.recipe.imagine,
        robot=stage.robot,
        seed=stage.seed,
        progress=stage.progress,
        spread=stage.spread(work),
    )


def _on_the_simulator(stage: Stage, work: Work, starts: Starts) -> Iterator[list[Episode]]:
    from vlaw_models.rollouts.privileged import rollouts_from_starts

    origins = {
        name: origin for role in start_roles(work) for name, origin in origins_in(work.read(role), stage.robot).items()
    }
    return rollouts_from_starts(
        work.read("policy").checkpoint(),
        [starts.blank(index) for index in range(len(starts))],
        origins,
        stage.recipe.imagine,
        robot=stage.robot,
        seed=stage.seed,
        progress=stage.progress,
    )


def _simulator(stage: Stage) -> Simulator:
    return simulator_of(
        stage.robot, needed_by=f"{stage.asset} with {PRIVILEGED}", remedy="Set imagine.world = 'world_model'."
    )


def _renderer(stage: Stage) -> str:
    return (
        "the simulator renders other first frames than were recorded: VLAW_RENDERER is now "
        f"{_simulator(stage).renderer()!r}; use the renderer, picture size and kind of machine of the recording"
    )


imagined_rollouts = stage_asset(
    "imagined_rollouts",
    "N imagined episodes per task of the policy that made the real rollouts; nobody has judged them yet.",
    plan=plan,
    make=make,
    group="iteration",
    deps=(
        "loop_state",
        "real_rollouts",
        "world_model",
        "autoencoder",
        "expert_demonstrations",
        "co_training_data",
        "latents",
        "corpus_latents",
    ),
    pool=POOL,
    kinds=("deltalake", "lance"),
    checks=(*checks.EPISODES, checks.STARTS),
)
