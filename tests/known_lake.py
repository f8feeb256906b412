"""A lake of two iterations in which every answer is known: a handful of episodes, committed as the pipeline commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import factories
from begun import begin
from factories import commit, write_checkpoint

from vlaw_assets.lake import ArtifactRef, Draft, Lake
from vlaw_models.episodes import Episode


def episode(task: str, event: str, seed: int, steps: int = 10, start: str | None = None) -> Episode:
    """Judged as `event` says; '' is an imagined episode that nobody judged."""
    success = (event == "success") if event else None
    return factories.episode(task, seed, success=success, event=event, instruction=task, start=start, steps=steps)


class KnownLake:
    """Makes artifacts in a lake and keeps them by 'asset 1' (asset and iteration); ids of episodes by short names."""

    def __init__(self, lake: Lake):
        self.lake = lake
        self.refs: dict[str, ArtifactRef] = {}
        self.ids: dict[str, str] = {}

    def make(
        self,
        name: str,
        parents: dict[str, str],
        write: Callable[[Draft], Any] = lambda _draft: None,
        *,
        checkpoint: str = "",
        recipe: dict[str, Any] | None = None,
        **options: Any,
    ) -> ArtifactRef:
        """Commit `name`, of which the part before ':' is its recipe without one; `parents`: role -> name."""

        def fill(draft: Draft) -> None:
            if checkpoint:
                write_checkpoint(draft.checkpoint_dir(), checkpoint)
            write(draft)

        self.refs[name] = commit(
            self.lake,
            name.partition(" ")[0],
            parents={role: self.refs[parent] for role, parent in parents.items()},
            write=fill,
            recipe=recipe or {"of": name.partition(":")[0]},
            **options,
        )
        return self.refs[name]

    def episodes(self, prefix: str, purpose: str, found: list[Episode], **models: str) -> Callable[[Draft], None]:
        """A writer of these episodes; they are called prefix0, prefix1, ..."""

        def write(draft: Draft) -> None:
            world = "world_model" if purpose == "imagined" else "tabletop"
            for number, name in enumerate(draft.write_episodes(found, purpose=purpose, world=world, **models)):
                self.ids[f"{prefix}{number}"] = name

        return write


STARTED = ((1, 0.95), (1, 0.85), (2, 0.75), (4, 0.3), (0, 0.99))
"""What each imagined episode d0..d4 of iteration 1 started from (r0..r5), and what the judge says of it."""


_names: dict[str, str] = {}
_ids: dict[str, str] = {}


def known(lake: Lake) -> KnownLake:
    """The lake of the tests of `sql/`. Iteration 1 of 'vlaw' in full, its second one in part; 'other' shares
    rollouts."""

    def make() -> None:
        made = _known(lake)
        _names.update({name: ref.artifact_id for name, ref in made.refs.items()})
        _ids.update(made.ids)

    begin(lake, "known", make)
    k = KnownLake(lake)
    k.refs = {name: lake.ledger.get(artifact) for name, artifact in _names.items()}
    k.ids = dict(_ids)
    return k


def _known(lake: Lake) -> KnownLake:
    k = KnownLake(lake)
    k.make("base_policy", {}, checkpoint="base", kind="policy")
    k.make("world_model 1", {}, checkpoint="world", partition="vlaw|01")
    k.make("reward_model 1", {}, checkpoint="judge", partition="vlaw|01")
    digest = {name: ref.content_digest for name, ref in k.refs.items()}
    models = {"policy": digest["base_policy"], "world_model": digest["world_model 1"]}
    judge = digest["reward_model 1"]

    real = [
        episode("stack", "success", 1),
        episode("stack", "toppled", 2),
        episode("stack", "missed_grasp", 3),
        episode("book", "success", 4, 20),
        episode("book", "half_open", 5, 20),
        episode("book", "not_opened", 6, 20),
    ]
    k.make(
        "real_rollouts 1",
        {"policy": "base_policy"},
        k.episodes("r", "rollout", real, policy=models["policy"]),
        partition="vlaw|01",
    )
    evaluate(
        k,
        "start_evaluation 1",
        "base_policy",
        ["missed_grasp", "success", "toppled", "success"],
        "s",
        digest["base_policy"],
    )
    clips = [
        episode("stack", event, 20 + i) for i, event in enumerate(("success", "success", "toppled", "missed_grasp"))
    ]
    k.make(
        "validation_rollouts 1", {"policy": "base_policy"}, k.episodes("v", "validation", clips), partition="vlaw|01"
    )
    k.make(
        "reward_model_metrics 1",
        {"reward_model": "reward_model 1", "clips": "validation_rollouts 1"},
        score(k, "validation_rollouts 1", {"v0": 0.9, "v1": 0.6, "v2": 0.7, "v3": 0.1}, judge),
        partition="vlaw|01",
    )
    dreams = [episode(real[start].task, "", 30 + i, 10, k.ids[f"r{start}"]) for i, (start, _) in enumerate(STARTED)]
    k.make(
        "imagined_rollouts 1",
        {"starts": "real_rollouts 1", "policy": "base_policy", "world_model": "world_model 1"},
        k.episodes("d", "imagined", dreams, **models),
        partition="vlaw|01",
        rows=("starts",),
    )
    said = {f"d{i}": p for i, (_, p) in enumerate(STARTED)}
    scored = {"imagined_rollouts": "imagined_rollouts 1", "reward_model": "reward_model 1"}
    k.make(
        "reward_scores 1",
        scored,
        score(k, "imagined_rollouts 1", said, judge),
        partition="vlaw|01",
        rows=("imagined_rollouts",),
    )
    k.make(
        "training_set 1",
        {"real": "real_rollouts 1", "imagined": "imagined_rollouts 1", "scores": "reward_scores 1"},
        members(k, {"r0": 1, "r3": 1, "d0": 1, "d1": 1, "d4": 1, "d2": 0}),
        partition="vlaw|01",
        rows=("real", "imagined", "scores"),
    )
    k.make(
        "policy 1",
        {"training_set": "training_set 1", "real": "real_rollouts 1", "imagined": "imagined_rollouts 1"},
        learn(k, ["r0", "r3"], ["d0", "d1", "d4"]),
        partition="vlaw|01",
        checkpoint="one",
    )
    one = k.refs["policy 1"].content_digest
    evaluate(k, "policy_evaluation 1", "policy 1", ["success", "toppled", "success", "success"], "e", one)
    k.make(
        "world_model_metrics 1",
        {"world_model": "world_model 1"},
        lambda draft: draft.write_evaluations([{"task": "stack", "metric": "psnr", "value": 20.0, "trials": 4}]),
        partition="vlaw|01",
    )

    again = [episode("stack", "success", 1), episode("stack", "success", 8), episode("book", "half_open", 9, 20)]
    k.make(
        "real_rollouts 2",
        {"policy": "base_policy"},
        k.episodes("q", "rollout", again, policy=models["policy"]),
        partition="vlaw|02",
    )
    k.make(
        "training_set 2",
        {"real": "real_rollouts 1", "new": "real_rollouts 2", "imagined": "imagined_rollouts 1"},
        members(k, {"r0": 2, "q0": 1, "q1": 1, "d0": 1}),
        partition="vlaw|02",
        rows=("real", "new", "imagined"),
    )
    k.make(
        "world_model_metrics 2",
        {"world_model": "world_model 1"},
        lambda draft: draft.write_evaluations([{"task": "stack", "metric": "psnr", "value": 21.5, "trials": 4}]),
        partition="vlaw|02",
    )

    k.make("real_rollouts 1:other", {"policy": "base_policy"}, partition="other|01")
    k.make("reward_model 3", {}, checkpoint="second judge", partition="other|01")
    second = k.refs["reward_model 3"].content_digest
    k.make(
        "reward_scores 3",
        {"imagined_rollouts": "imagined_rollouts 1", "reward_model": "reward_model 3"},
        score(k, "imagined_rollouts 1", said | {"d0": 0.2}, second),
        partition="other|01",
        rows=("imagined_rollouts",),
    )
    return k


def evaluate(k: KnownLake, name: str, policy: str, events: list[str], prefix: str, digest: str) -> None:
    """Three trials of 'stack' and one of 'book' on seeds 11 to 14."""
    tasks = ("stack", "stack", "stack", "book")
    found = [episode(task, event, 11 + i) for i, (task, event) in enumerate(zip(tasks, events, strict=True))]
    k.make(
        name,
        {"policy": policy},
        k.episodes(prefix, "evaluation", found, policy=digest),
        partition="vlaw|01",
        kind="evaluation",
    )


def score(k: KnownLake, owner: str, said: dict[str, float], judge: str) -> Callable[[Draft], None]:
    return lambda draft: draft.write_scores(
        [
            {"episode_id": k.ids[name], "owner": k.refs[owner].artifact_id, "judge": judge, "p_success": p}
            for name, p in said.items()
        ]
    )


def members(k: KnownLake, weights: dict[str, float]) -> Callable[[Draft], None]:
    owners = {"r": "real_rollouts 1", "q": "real_rollouts 2", "d": "imagined_rollouts 1"}

    def write(draft: Draft) -> None:
        for role, name in (("real", "r"), ("new", "q"), ("imagined", "d")):
            if any(known[0] == name for known in weights):
                draft.read(k.refs[owners[name]], role, by_row=True).episodes(frames=False)
        draft.write_members(
            [
                {
                    "episode_id": k.ids[name],
                    "owner": k.refs[owners[name[0]]].artifact_id,
                    "weight": float(weight),
                    "source": "imagined" if name[0] == "d" else "real",
                }
                for name, weight in weights.items()
            ]
        )

    return write


def learn(k: KnownLake, real: list[str], imagined: list[str]) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        draft.read(k.refs["training_set 1"], "training_set").members()
        for role, names in (("real", real), ("imagined", imagined)):
            chosen = [k.ids[name] for name in names]
            draft.read(k.refs[f"{role}_rollouts 1"], role).episodes(episode_ids=chosen)

    return write
