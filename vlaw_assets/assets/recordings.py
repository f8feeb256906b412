"""Real data that come from recordings instead of a simulator: imported datasets as the source of a stage's episodes.

A recipe says `source = "recorded:NAME"`. The stage copies the chosen episodes of `recorded_episodes[NAME|00]`, in
bounded memory, and each copy names the recording it is of (`start_episode_id`): so which recordings an iteration has is
in the lake, and what a recording reached is answered row by row. With "{iteration}" in the name every iteration has a
dataset of its own, "recorded:lab_{iteration}" is lab_01, lab_02, ...; without it the iterations' rollouts share one
dataset, each task's episodes dealt out in turn, and evaluations take all of theirs.

Episodes for world models alone (lake/decisions.py) are taken where a world model learns, beside those that were asked
for, and have no outcome there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.assets.written import draw, in_batches, write
from vlaw_assets.partitions import single_partition, split_partition
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Handle, Lake, Ledger
    from vlaw_assets.recipes.schema import Foundation, Recipe
    from vlaw_models.episodes import Episode

RECORDED = "recorded:"
ASSET = ROLE = "recorded_episodes"
ITERATION = "{iteration}"
NO_SIMULATOR = "Set its source to 'recorded:NAME' of an imported dataset, or use a robot that can be simulated."
"""Remedy where a robot without a simulator is to be rolled out."""
SHOWN = 6


def is_recorded(source: str) -> bool:
    return source.startswith(RECORDED)


def recording(stage: Stage, source: str, number: int = 0) -> ArtifactRef:
    """The imported dataset that a source means in an iteration. Raises VlawError where it was not imported, or is of
    another robot."""
    where = f"{stage.asset} [{stage.partition or 'foundation'}], source = {source!r}"
    found = _find(stage.ledger, source, number, robot=stage.robot.name, where=where)
    stage.required.append(found)
    return found


def _find(ledger: Ledger, source: str, number: int, *, robot: str, where: str) -> ArtifactRef:
    name = source.removeprefix(RECORDED).replace(ITERATION, f"{number:02d}")
    found = ledger.current(ASSET, single_partition(name))
    if found is None:
        known = sorted({split_partition(ref.partition)[0] for ref in ledger.artifacts() if ref.asset == ASSET})
        raise VlawError(
            f"there is no recording {name!r}; there are: {', '.join(known) or 'none yet'}",
            where=where,
            remedy=f"{'Name one of these, or import' if known else 'Import'} the dataset by that name: vlaw import "
            f"FORMAT PATH --name {name} (`vlaw import --help` lists the formats).",
        )
    of_robot = json.loads(found.recipe_json).get("robot", {}).get("name", robot)
    if of_robot != robot:
        raise VlawError(
            f"recording {name!r} is of robot {of_robot!r}, this is for {robot!r}",
            where=where,
            remedy=f"Name a recording of {robot!r}, or set robot = {of_robot!r} in the recipe and in foundation.toml.",
        )
    return found


def check_sources(recipe: Recipe, foundation: Foundation, lake: Lake, *, iterations: int) -> None:
    """Raises VlawError, naming file and key, where what a recipe's first iterations, or a foundation that is still to
    be made, would take from recordings is not there.

    A recording with "{iteration}" in its name may be made while the experiment runs, and is not asked for.
    """
    rollouts, evaluation, metrics = recipe.rollouts, recipe.evaluation, recipe.world_model_metrics
    takes = [
        ("rollouts.source", rollouts.source, rollouts.episodes_per_task, number, recipe.iterations, True)
        for number in range(1, iterations + 1)
    ]
    takes += [("evaluation.source", evaluation.source, evaluation.episodes_per_task, 0, 1, False)]
    takes += [("world_model_metrics.source", metrics.source, metrics.clips_per_task, 1, 1, False)]
    asked = [(recipe.file, recipe.tasks, *each) for each in takes]
    for asset, key, count in _corpora(recipe, foundation):
        if lake.ledger.current(asset, "") is None:
            asked.append((foundation.file, (), key, getattr(foundation, key), count, 0, 1, key != "demonstrations"))
    for file, tasks, key, source, count, number, shares, world_model in asked:
        if count and is_recorded(source) and ITERATION not in source:
            where = f"{file}, key '{key}'"
            found = _find(lake.ledger, source, number, robot=recipe.robot, where=where)
            _taken(
                lake.counted(found).table("episodes").to_pylist(),
                _settings(source, tasks, count, number, shares, world_model=world_model),
                where,
            )


def _corpora(recipe: Recipe, foundation: Foundation) -> list[tuple[str, str, int]]:
    """(asset, key of foundation.toml with its source, episodes per task) of each corpus that a recipe stands on."""
    near = foundation.near_success_per_task if recipe.world_model.near_success else 0
    return [
        ("expert_demonstrations", "demonstrations", foundation.demonstrations_per_task),
        ("co_training_data", "co_training", foundation.co_training_per_task),
        ("near_success", "near_success", near),
    ]


def frames_of_corpora(recipe: Recipe, foundation: Foundation, lake: Lake | None) -> dict[str, int | None]:
    """Corpus -> its frames in time: of a corpus that was made what it holds, else of what it would take from an
    imported dataset. None where nobody knows: the dataset was not imported, or experts are still to be asked."""
    found: dict[str, int | None] = {}
    for asset, key, count in _corpora(recipe, foundation):
        source = getattr(foundation, key)
        if not count:
            continue
        made = lake.ledger.current(asset, "") if lake else None
        name = source.removeprefix(RECORDED).replace(ITERATION, "00")
        ref = made or (lake.ledger.current(ASSET, single_partition(name)) if lake and is_recorded(source) else None)
        if lake is None or ref is None:
            found[asset] = None
            continue
        rows = lake.counted(ref).table("episodes").to_pylist()
        taken = {row["episode_id"] for row in rows}
        if made is None:
            taken = set(chosen(rows, _settings(source, (), count, 0, 1, world_model=key != "demonstrations")))
        found[asset] = sum(row["num_frames"] for row in rows if row["episode_id"] in taken)
    return found


def _settings(
    source: str, tasks: Sequence[str], per_task: int, number: int, shares: int, *, world_model: bool
) -> dict[str, Any]:
    """Which episodes of a recording are taken, see `chosen`."""
    share = [1, 1] if ITERATION in source or shares == 1 else [number, shares]
    also = {"world_model": True} if world_model else {}
    return {"tasks": list(tasks), "per_task": per_task, "share": share, **also}


def plan_of(
    stage: Stage,
    kind: str,
    source: str,
    *,
    purpose: str,
    tasks: Sequence[str],
    per_task: int,
    number: int = 0,
    shares: int = 1,
    world_model: bool = False,
) -> Plan:
    """A plan to take episodes from a recording, of each task at most `per_task`.

    Args:
        tasks: () takes whatever tasks there are.
        number: the iteration that they are for: what "{iteration}" becomes, and which share it takes.
        shares: between how many a recording is dealt out that has no "{iteration}" in its name.
        world_model: take also episodes that are for world models alone.
    """
    settings = _settings(source, tasks, per_task, number, shares, world_model=world_model)
    return Plan(
        kind=kind,
        recipe={"recorded": settings, "purpose": purpose},
        parents={ROLE: recording(stage, source, number)},
    )


def taken_from(plan: Plan) -> list[str]:
    """Roles of the recordings that a plan takes episodes from, in the order in which it takes them; [] for a plan of
    something else."""
    return sorted(role for role in plan.parents if role.startswith(ROLE))


def chosen(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """Ids of the episodes that a plan takes, in recorded order; `rows` are the recording's, as handles give them.

    Of each task the episodes with an outcome are dealt out in turn over the shares, then at most `per_task` are kept.
    No tasks: all. With `world_model` the episodes without one, of these tasks and of none, are taken in the same way.
    """
    from vlaw_assets.lake.decisions import UNNAMED_TASK

    (number, shares), limit = settings["share"], settings["per_task"]
    tasks = settings["tasks"] or list(dict.fromkeys(row["task"] for row in rows))
    dealt: dict[tuple[str, bool], list[str]] = {}
    for row in rows:
        dealt.setdefault((row["task"], row["success"] is not None), []).append(row["episode_id"])
    kinds = [(task, True) for task in tasks]
    if settings.get("world_model"):
        kinds += [(task, False) for task in dict.fromkeys([*tasks, UNNAMED_TASK])]
    wanted = {name for kind in kinds for name in dealt.get(kind, [])[number - 1 :: shares][:limit]}
    return [row["episode_id"] for row in rows if row["episode_id"] in wanted]


def _taken(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], where: str) -> list[str]:
    """As `chosen`. Raises VlawError where there is none of a task, or none with an outcome that is asked for."""
    ids = set(chosen(rows, settings))
    judged = {row["task"] for row in rows if row["episode_id"] in ids and row["success"] is not None}
    mute = {row["task"]: row["episode_id"] for row in rows if row["success"] is None}
    missing = [task for task in settings["tasks"] if task not in judged]
    none = [task for task in missing if task not in mute]
    if none or not (ids or mute):
        raise VlawError(
            f"the recording has no episode of {', '.join(none) or 'any task'} for this iteration",
            where=where,
            remedy="Record and import more, lower `iterations`, or name the recording's own tasks in the recipe: "
            + ", ".join(sorted({row["task"] for row in rows})[:SHOWN]),
        )
    if missing or not ids:
        raise VlawError(
            f"no episode of {', '.join(missing) or 'any task'} can be learned from or counted: they have no success "
            f"label, or no instruction, such as {next(mute[task] for task in (missing or mute))}",
            where=where,
            remedy="Label them (vlaw label EPISODE success|failure|near_success --why ...), or label the recording and "
            "import it again (--require-success says which are missing); of one without an instruction say that it is "
            "to be used all the same (vlaw label EPISODE keep --why ...).",
        )
    return [row["episode_id"] for row in rows if row["episode_id"] in ids]


def take(stage: Stage, plan: Plan, work: Work, *, policy: str = "", last_frame: bool = False) -> list[Episode]:
    """Copies the plan's episodes into the artifact; returns them without frames.

    Args:
        policy: content digest of the policy that acted, where it is known.
        last_frame: keep the last picture only, as evaluations do.

    Raises VlawError where there is none of a task, or none with an outcome that is asked for.
    """
    from vlaw_assets.lake.labels import labelled

    settings, rows = plan.recipe["recorded"], list[dict[str, Any]]()
    holds: dict[str, Handle] = {}
    for role in taken_from(plan):
        handle = work.read(role)
        available = handle.available()
        held = labelled(stage.lake.read(plan.parents[role]).table("episodes"), handle.labels)
        own = [row for row in held.to_pylist() if row["episode_id"] in available]
        rows += own
        holds |= {row["episode_id"]: handle for row in own}
    by_id = {row["episode_id"]: row for row in rows}
    names = sorted({split_partition(plan.parents[role].partition)[0] for role in taken_from(plan)})
    said = f"recording {names[0]}" if len(names) == 1 else f"{len(names)} recordings"
    ids = _taken(rows, settings, f"{stage.asset} [{stage.partition or 'foundation'}], {said}")
    done = write(
        work,
        _batches(holds, ids, by_id, last_frame=last_frame),
        purpose=plan.recipe["purpose"],
        tasks=None,
        labelled=None if settings.get("world_model") else True,
        world=lambda batch: by_id[str(batch[0].start_episode_id)]["world"],
        policy=policy,
        label_source="recorded",
    )
    draw(work, done)
    judged = sum(episode.success is not None for episode in done.episodes)
    work.metrics |= {"successes": done.successes, "recorded": len(done.episodes), "judged": judged}
    return done.episodes


def _batches(
    holds: Mapping[str, Handle], ids: Sequence[str], rows: Mapping[str, Mapping[str, Any]], *, last_frame: bool
) -> Iterator[list[Episode]]:
    """`holds`: episode id -> the recording that holds it; those of one recording follow each other in `ids`."""
    from vlaw_assets.lake.decisions import marked, stored
    from vlaw_assets.lake.rules import KEEP, WORLD_MODEL_ONLY

    def decision(handle: Handle, name: str) -> str:
        """An episode that lacks an outcome because nobody gave one is kept: a label of the copy gives it one."""
        if name in handle.labels:
            return WORLD_MODEL_ONLY if handle.labels[name] is None else KEEP
        return stored(rows[name]["extra_json"])

    for handle, own in groupby(ids, key=holds.__getitem__):
        for names in in_batches(own):
            batch = handle.episodes(frames=True, episode_ids=names)
            yield [
                replace(
                    episode,
                    images=episode.images[-1:].copy() if last_frame else episode.images,
                    start_episode_id=episode.episode_id,
                    episode_id="",
                    extra=marked(episode.extra, decision(handle, episode.episode_id)),
                )
                for episode in batch
            ]
