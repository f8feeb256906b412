"""Where imagination starts and how often: failures first, new scenes in every iteration, and labels that change it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from factories import checkpoint, episode
from one_stage import Bench
from small_loop import commit, foundation, no_latents

from vlaw_assets.assets.starts import Choice
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.rebuild.staleness import ask, differences
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC

SCENES = 10
SAID = {"x": False, "o": True, "?": None}


def pool(letter, outcomes, task="stack"):
    """Episodes a0, a1, ...: x failed, o succeeded, ? is not known."""
    return [
        dataclasses.replace(
            episode(task, n, success={"x": False, "o": True, "?": None}[said]), episode_id=letter + str(n)
        )
        for n, said in enumerate(outcomes)
    ]


def names(chosen):
    return " ".join(e.episode_id for _, e in chosen)


def one(per_task, tries=1, seed=0):
    return Choice(["stack"], per_task, tries, seed)


def test_one_try_takes_the_rollouts_in_turn_whatever_came_of_them():
    assert names(one(8).starts(pool("r", "oxo"))) == "r0 r1 r2 r0 r1 r2 r0 r1"
    assert names(one(2).starts(pool("r", "oxo"))) == "r0 r1"
    assert names(one(3).starts(pool("r", "oxo"), pool("s", "x" * SCENES))) == "r0 r1 r2"


@pytest.mark.parametrize(
    ("outcomes", "per_task", "expected"),
    [
        ("oxox", 6, "r1 r3 r1 r3 r0 r2"),
        ("oxox", 3, "r1 r3 r1"),
        ("oxox", 8, "r1 r3 r1 r3 r0 r2 r1 r3"),
        ("ooo", 4, "r0 r1 r2 r0"),
        ("xx", 5, "r0 r1 r0 r1 r0"),
        ("?x", 4, "r1 r1 r0 r1"),
    ],
    ids=["enough", "too few for all tries", "again from the first", "no failure", "failures only", "not judged"],
)
def test_failures_are_tried_first(outcomes, per_task, expected):
    assert names(one(per_task, 2).starts(pool("r", outcomes))) == expected


def test_what_is_left_goes_to_scenes_and_tasks_are_interleaved():
    real = pool("r", "ox") + pool("b", "oo", "book")
    scenes = pool("s", "x" * SCENES) + pool("t", "o" * SCENES, "book")
    chosen = Choice(["stack", "book"], 5, 3).starts(real, scenes)
    assert [number for number, _ in chosen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert names(chosen[::2]).startswith("r1 r1 r1 r0 s")
    assert names(chosen[1::2]).startswith("b0 b1 t")
    assert len({e.episode_id for _, e in chosen[1::2]}) == 5


def test_each_iteration_goes_on_where_the_one_before_stopped():
    scenes, iterations = (
        pool("s", "o" * SCENES),
        [pool("r", "xxo"), pool("q", "ooo"), pool("p", "xoo"), pool("n", "xxx")],
    )
    seen = []
    for number, real in enumerate(iterations):
        chosen = one(8, 2).starts(real, scenes, iterations[:number])
        assert chosen == one(8, 2).starts(real, list(reversed(scenes)), iterations[:number])
        seen.append([e.episode_id for _, e in chosen if e.episode_id.startswith("s")])
    assert [len(found) for found in seen] == [3, 5, 4, 2]
    used = [name for found in seen for name in found]
    assert set(used[:SCENES]) == {e.episode_id for e in scenes}, "none twice before all were used"
    assert used[SCENES:] == used[: len(used) - SCENES]
    other = one(8, 2, seed=1).starts(iterations[0], scenes)
    assert names(other[5:]).split() != seen[0], "each seed has an order of its own"
    assert names(one(30, 1).starts([], scenes)).split()[:SCENES] == used[:SCENES]


def test_a_task_without_an_episode_is_named():
    with pytest.raises(VlawError, match="no real rollout of book"):
        Choice(["stack", "book"], 2).starts(pool("r", "o"))
    assert Choice(["stack"], 0).starts([]) == []


# ---- in the lake

TASKS = ("stack", "book")
SHAPE = {
    "cameras": SPEC.camera_names,
    "control_hz": SPEC.control_hz,
    "states": np.zeros((2, len(SPEC.state)), np.float32),
    "actions": np.zeros((1, len(SPEC.action)), np.float32),
}
"""One step of the robot, standing still."""


def key(number):
    return f"lab|{number:02d}"


def write(bench, asset, partition, outcomes, first_seed, purpose):
    """Real episodes of both tasks with these outcomes; pixels are noise."""
    real = [
        episode(task, first_seed + n, success=said == "o", noise=first_seed + n, **SHAPE)
        for n, said in enumerate(outcomes)
        for task in TASKS
    ]
    return commit(
        bench.lake,
        asset,
        partition,
        asset,
        {},
        lambda draft: draft.write_episodes(real, purpose=purpose),
        recipe={"first_seed": first_seed},
    )


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Two iterations of 'lab' up to imagination, in which nothing moves; stage and lake are as always."""
    bench = Bench(tmp_path)
    base = foundation(bench.lake)
    no_latents(bench.lake)
    write(bench, "expert_demonstrations", "", "oooo", 50, "demonstration")
    write(bench, "co_training_data", "", "ox", 80, "co_training")
    state = {
        "policy": base["base_policy"],
        "world_model": base["pretrained_world_model"],
        "reward_model": base["pretrained_reward_model"],
    }
    for number, outcomes in ((1, "xo"), (2, "oo")):
        commit(bench.lake, "loop_state", key(number), "loop_state", state, checkpoint("state"), recipe={"of": number})
        commit(bench.lake, "world_model", key(number), "world_model", {}, checkpoint("world"), recipe={"of": number})
        real = write(bench, "real_rollouts", key(number), outcomes, 10 * number, "rollout")
        state |= {f"real_rollouts_{number:02d}": real}

    def imagine(_policy, _world_model, _autoencoder, starts, cfg, **_):
        for begin in range(0, len(starts), cfg.batch_size):
            yield [
                episode(s.task, s.seed, success=None, start=s.episode_id, images=s.images[None].repeat(2, 0), **SHAPE)
                for s in starts[begin : begin + cfg.batch_size]
            ]

    monkeypatch.setattr("vlaw_models.rollouts.imagine.imagine", imagine)
    return bench


def recipe(bench, **imagine):
    bench.recipe("lab", imagine={"episodes_per_task": 6, "batch_size": 5, "starts": "real", **imagine})


def began(bench, number, task="stack"):
    """Starts of one task as they were imagined from, in order: (seed of the real one, how often in a row)."""
    lake = bench.lake
    made = bench.make("imagined_rollouts", key(number))
    seeds = {
        e.episode_id: e.seed
        for role, ref in lake.ledger.edges(made.owner)
        if role.startswith("starts")
        for e in lake.read(ref).episodes(frames=False)
    }
    return [seeds[e.start_episode_id] for e in lake.read(made).episodes(frames=False, tasks=[task])]


def test_an_iteration_imagines_from_failures_most_and_the_next_from_new_scenes(bench):
    recipe(bench, tries_per_failure=3)
    first, second = began(bench, 1), began(bench, 2)
    assert first[:4] == [10, 10, 10, 11]
    assert second[:2] == [20, 21]
    scenes = first[4:] + second[2:]
    assert sorted(scenes) == [50, 51, 52, 53, 80, 81], "demonstrations and co-training, each once"
    assert began(bench, 1) == first
    recipe(bench, tries_per_failure=3, share=0.5)
    assert began(bench, 1) == first[:3]


def reasons(bench, number):
    answer = ask(bench.lake, "imagined_rollouts", key(number), recipes=bench.recipes)
    return differences(bench.lake, bench.lake.ledger.require("imagined_rollouts", key(number)), answer)


def test_another_label_changes_the_starts_where_failures_are_tried_more_often(bench):
    real = bench.lake.read(bench.lake.ledger.require("real_rollouts", key(1))).episodes(frames=False, tasks=["stack"])
    recipe(bench)
    plain = began(bench, 1)
    said = [(real[1].episode_id, "failure", "ann", "it slid")]
    recipe(bench, tries_per_failure=2)
    assert began(bench, 1)[:4] == [10, 10, 11, plain[2]]
    label_episodes(bench.lake, said)
    (reason,) = reasons(bench, 1)
    assert reason == f"made with other labels: {real[1].episode_id} as recorded -> failure"
    assert began(bench, 1)[:5] == [10, 11, 10, 11, plain[2]]
    made = bench.lake.ledger.require("imagined_rollouts", key(1))
    assert [(row["made_with"], row["read_by"]) for row in audit_of(bench.lake, made)["labels"]] == [
        ("failure", [made.name])
    ]
    assert reasons(bench, 1) == ()
    recipe(bench)
    assert began(bench, 1) == plain
    assert bench.lake.ledger.require("imagined_rollouts", key(1)).source_artifact_id, "reused: labels do not matter"
