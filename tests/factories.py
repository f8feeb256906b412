"""What tests put into lakes, made in one way: episodes, identities, artifacts, checkpoints and recipes."""

from __future__ import annotations

import copy
import json
import os
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit

from vlaw_assets.lake import ArtifactRef, Draft, Identity, Lake
from vlaw_assets.lake.durable import canonical_json
from vlaw_assets.recipes import recipe_files
from vlaw_models.episodes import Episode

TASKS = ("stack", "book")
PARTITION = "vlaw|01"
CODE = "code-1"
NO_PARENTS: Mapping[str, ArtifactRef] = {}

# ---- episodes


def episode(
    task: str = "stack",
    seed: int = 0,
    *,
    success: bool | None = True,
    event: str | None = None,
    instruction: str | None = None,
    start: str | None = None,
    steps: int = 2,
    cameras: int | tuple[str, ...] = 1,
    size: tuple[int, int] = (2, 2),
    dims: tuple[int, int] = (2, 2),
    noise: np.random.Generator | int | None = None,
    images: np.ndarray | None = None,
    states: np.ndarray | None = None,
    actions: np.ndarray | None = None,
    **more: Any,
) -> Episode:
    """One episode; what is not given as an array is made up.

    Args:
        cameras: their number, or their names.
        event: without one it follows from `success`: 'success', 'missed', or '' for an episode that nobody judged.
        size: height and width of the pictures.
        dims: numbers in a state and in an action.
        noise: pixels and poses are drawn from it. Without it pixels are black, actions 0, and states the seed.
        more: other fields of the episode.
    """
    steps = next((len(given) - 1 for given in (states, images) if given is not None), steps)
    names, count = ((), cameras) if isinstance(cameras, int) else (tuple(cameras), len(cameras))
    shape = (steps + 1, count, *size, 3)
    if noise is None:
        made = (
            np.zeros(shape, np.uint8),
            np.full((steps + 1, dims[0]), seed, np.float32),
            np.zeros((steps, dims[1]), np.float32),
        )
    else:
        rng = np.random.default_rng(noise)
        made = (
            rng.integers(0, 256, shape, dtype=np.uint8),
            rng.random((steps + 1, dims[0]), dtype=np.float32),
            rng.random((steps, dims[1]), dtype=np.float32),
        )
    return Episode(
        task=task,
        instruction=f"{task} it" if instruction is None else instruction,
        seed=seed,
        images=made[0] if images is None else images,
        states=made[1] if states is None else states,
        actions=made[2] if actions is None else actions,
        success=success,
        event={True: "success", False: "missed", None: ""}[success] if event is None else event,
        start_episode_id=start,
        cameras=names,
        **more,
    )


def sample_episodes(count: int = 3, *, seed: int = 0, steps: int = 4, **options: Any) -> list[Episode]:
    """Small episodes with noise for pixels, so that any mix-up or loss of a frame shows. Those with an odd index are
    successes of 'book', the others failures of 'stack'."""
    rng = np.random.default_rng(seed)
    kept = {"cameras": 3, "size": (16, 24), "dims": (5, 4)} | options
    return [
        episode(
            TASKS[index % 2],
            1000 + index,
            success=bool(index % 2),
            event="success" if index % 2 else "toppled",
            instruction=f"do {index}",
            steps=steps,
            noise=rng,
            extra={"note": index},
            **kept,
        )
        for index in range(count)
    ]


# ---- artifacts


def identity(
    kind: str,
    recipe: Mapping[str, Any] | None = None,
    parents: Mapping[str, ArtifactRef] = NO_PARENTS,
    *,
    code: str = CODE,
    excluded: Sequence[str] = (),
    labels: Mapping[str, bool] | None = None,
) -> Identity:
    """`parents`: role -> the artifact that is read in it."""
    made_from = tuple((role, ref.content_digest) for role, ref in parents.items())
    return Identity(kind, code, canonical_json(recipe or {}), made_from, tuple(excluded), tuple((labels or {}).items()))


def commit(
    lake: Lake,
    asset: str,
    partition: str = "",
    parents: Mapping[str, ArtifactRef] = NO_PARENTS,
    write: Callable[[Draft], Any] = lambda _draft: None,
    *,
    kind: str = "",
    recipe: Mapping[str, Any] | None = None,
    code: str = CODE,
    excluded: Sequence[str] = (),
    labels: Mapping[str, bool] | None = None,
    reads: Collection[str] | None = None,
    rows: Collection[str] = (),
    state: ArtifactRef | None = None,
    run_id: str = "run-1",
    code_revision: str = "abc123",
    force: bool = False,
) -> ArtifactRef:
    """One artifact that reads its parents and is then filled by `write`, unless its identity is there already.

    Args:
        kind: the asset's name without one.
        reads: the roles that are read, all of them by default; `write` may read what is not named here.
        rows: those of them that are read by row.
        state: the loop state that chose the parents.
    """
    made = identity(kind or asset, recipe, parents, code=code, excluded=excluded, labels=labels)
    with lake.commit(
        asset=asset, partition=partition, identity=made, run_id=run_id, code_revision=code_revision, force=force
    ) as draft:
        if state is not None:
            draft.stands_on(parents, state=state)
        if draft.reused is None:
            for role in parents if reads is None else reads:
                draft.read(parents[role], role=role, by_row=role in rows)
            write(draft)
    assert draft.ref is not None
    return draft.ref


def weights(text: str) -> bytes:
    """2,048 bytes in place of the weights of the checkpoint of this text."""
    return (text.encode() * 2048)[:2048]


def write_checkpoint(folder: Path, text: str = "Sample", *, file: str = "model.safetensors") -> None:
    """A checkpoint in a folder that is there; every text makes another one."""
    (folder / "config.json").write_text(json.dumps({"class": text}))
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(weights(text))


def checkpoint(text: str, **metrics: Any) -> Callable[[Draft], None]:
    """A writer of such a checkpoint, and of these metrics, for `commit`."""

    def write(draft: Draft) -> None:
        write_checkpoint(draft.checkpoint_dir(), text)
        draft.set_metrics(metrics)

    return write


def fill(draft: Draft, episodes: list[Episode] | None = None) -> None:
    """Write something of everything."""
    ids = draft.write_episodes(episodes or sample_episodes(), purpose="rollout", world="tabletop", policy="p0")
    draft.write_scores([{"episode_id": ids[0], "p_success": 0.25}])
    draft.write_members([{"episode_id": ids[0], "owner": draft.artifact_id, "weight": 1.0, "source": "real"}])
    draft.write_evaluations([{"task": "stack", "trials": 4, "successes": 1, "value": 0.25}])
    write_checkpoint(draft.checkpoint_dir(), file="sub/model.safetensors")


def commit_all(lake: Lake, *, run_id: str = "run", partition: str = PARTITION, force: bool = False) -> ArtifactRef:
    """A parent `base` and a child `all` that reads it and holds something of everything. Returns the child's row."""

    def read_and_fill(draft: Draft) -> None:
        draft.read(base, role="start").episodes()
        fill(draft)

    base = commit(
        lake,
        "base",
        write=lambda draft: draft.write_episodes(sample_episodes(1, seed=9), purpose="demonstration"),
        run_id=run_id,
    )
    return commit(
        lake,
        "all",
        partition,
        {"start": base},
        read_and_fill,
        kind="everything",
        recipe={"seed": 1},
        run_id=run_id,
        force=force,
    )


# ---- damage


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes of the same size, with the old times."""
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---- recipes


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which `changes` stand: tables are changed key by key, and what is None is taken out."""
    made = copy.deepcopy(dict(values))
    for key, value in changes.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Mapping):
            made[key] = changed(made.get(key, {}), value)
        else:
            made[key] = value
    return made


def write_toml(path: Path, values: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomlkit.dumps(values))
    return path


def edit_toml(path: Path, **changes: Any) -> None:
    """The file with these changes (see `changed`)."""
    write_toml(path, changed(tomllib.loads(path.read_text()), changes))


def write_recipe(folder: Path, name: str, base: str | None = "smoke", **changes: Any) -> Path:
    """A recipe file in `folder`: the packaged recipe `base` (None: only defaults) under this name, with `changes`."""
    values = tomllib.loads(recipe_files()[base].read_text()) if base else {}
    return write_toml(folder / f"{name}.toml", changed(values, {"name": name, **changes}))
