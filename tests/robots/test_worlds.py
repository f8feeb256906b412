"""The embedded robot as others meet it: Gymnasium environments, collected episodes, start seeds, the contact sheet."""

from __future__ import annotations

import itertools
import warnings
from itertools import chain

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import Image
from travelling import travelling

from vlaw_models.config import EvaluationConfig, RolloutConfig
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.robots.gym import environments
from vlaw_models.robots.tabletop.__main__ import main
from vlaw_models.robots.tabletop.controller import HIGH, HOME, LOW
from vlaw_models.robots.tabletop.demonstrations import MIXTURE, look_at
from vlaw_models.robots.tabletop.render import RayRenderer
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks import TASKS, Expert, Quality
from vlaw_models.robots.tabletop.tasks.stack import COLOURS
from vlaw_models.robots.tabletop.world import TabletopWorld, make_sim
from vlaw_models.rollouts.collect import collect_rollouts, evaluate_policy
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.rollouts.seeds import PURPOSES, start_seeds
from vlaw_models.tokenize import InstructionTokenizer

TASK = "book"


def same(first, second) -> bool:
    return (
        first.instruction == second.instruction
        and (first.success, first.event, first.seed) == (second.success, second.event, second.seed)
        and all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("images", "states", "actions"))
    )


# --- Gymnasium


def test_every_task_has_an_environment():
    assert sorted(environments().values()) == sorted(("tabletop", task) for task in TASKS)
    assert sorted(SPEC.tasks) == sorted(TASKS)


@pytest.mark.parametrize("name", sorted(environments()))
def test_environment_passes_gymnasiums_checker(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Poses are in metres and radians on purpose, as everywhere in the platform.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)


def test_an_episodes_return_is_its_success():
    env = gymnasium.make("vlaw/OpenBook-v0").unwrapped
    returns = {}
    for mistake in ("", "first"):
        env.reset(seed=5)
        (sim,) = env.world.sims
        expert = Expert(sim, np.random.default_rng(5), Quality(mistake=mistake))
        total, steps, ended = 0.0, 0, False
        while not ended:
            action = expert.act(sim) if expert.index < len(expert.plan) else sim.state
            _, reward, ended, _, info = env.step(action)
            total, steps = total + reward, steps + 1
        assert steps == RolloutConfig.num_steps
        assert total == float(info["success"])
        returns[mistake] = total
    assert returns == {"": 1.0, "first": 0.0}


def test_environment_and_world_show_the_same_layout():
    observation, _ = gymnasium.make("vlaw/OpenBook-v0").reset(seed=11)
    world = TabletopWorld()
    batch = world.reset([Start(TASK, 11)])
    assert np.array_equal(np.stack([observation[camera] for camera in SPEC.camera_names]), batch.images[0])
    assert observation["instruction"] == world.instructions()[0]


# --- Seeds


def test_seed_ranges_are_disjoint():
    count = 300
    ranges = [
        start_seeds(purpose, TASK, iteration, seed, count)
        for purpose in ("rollout", "demonstration", "co_training", "pretraining")
        for iteration in (0, 1, 2, 999)
        for seed in (0, 1, 2, 999_999)
    ] + [start_seeds(purpose, TASK, 0, 0, count) for purpose in ("evaluation", "validation")]
    for first, second in itertools.combinations(ranges, 2):
        assert not set(first) & set(second)
    assert all(len(set(one)) == count for one in ranges)
    assert max(map(max, ranges)) < 2**53  # exact also where a number is read as a double


@pytest.mark.parametrize("purpose", ["evaluation", "validation"])
def test_measurements_use_the_same_starts_for_everybody(purpose):
    assert start_seeds(purpose, TASK, 0, 0, 5) == start_seeds(purpose, TASK, 3, 17, 5)
    assert start_seeds("rollout", TASK, 0, 0, 5) != start_seeds("rollout", TASK, 3, 0, 5)


def test_a_longer_list_of_starts_begins_with_the_shorter():
    for purpose in PURPOSES:
        assert start_seeds(purpose, TASK, 0, 0, 9)[:4] == start_seeds(purpose, TASK, 0, 0, 4)


@pytest.mark.parametrize(
    "arguments",
    [("training", TASK, 0, 0, 1), ("rollout", TASK, 1000, 0, 1),
     ("rollout", TASK, 0, 10**6, 1), ("rollout", TASK, 0, -1, 1), ("rollout", TASK, 0, 0, 10**6 + 1)],
)  # fmt: skip
def test_impossible_seeds_are_refused(arguments):
    with pytest.raises(VlawError, match="remedy"):
        start_seeds(*arguments)


# --- Demonstrations


def test_demonstrations_succeed_and_have_the_platforms_shapes():
    seen = []
    episodes = list(
        iterate_demonstrations(
            [TASK, "stack"], 3, robot=SPEC, purpose="demonstration", seed=0, progress=lambda *done: seen.append(done)
        )
    )
    assert [e.task for e in episodes] == [TASK] * 3 + ["stack"] * 3
    assert seen[-1][:2] == (6, 6)
    for episode in episodes:
        assert episode.success
        assert episode.event == "success"
        assert episode.images.shape == (29, 3, 64, 64, 3)
        assert episode.images.dtype == np.uint8
        assert episode.states.shape == (29, 5)
        assert episode.actions.shape == (28, 5)
        assert episode.actions.dtype == episode.states.dtype == np.float32
        assert np.array_equal(episode.states[1:], episode.actions)
        assert (episode.actions >= LOW).all()
        assert (episode.actions <= HIGH).all()


def test_collecting_is_reproducible_whatever_the_threads_and_wherever_it_is_made():
    def collect(threads: int, seed: int = 0, **more):
        return list(
            iterate_demonstrations(
                [TASK, "stack"], 3, robot=SPEC, purpose="co_training", seed=seed, threads=threads, num_steps=16, **more
            )
        )

    first = collect(1)
    assert all(same(a, b) for a, b in zip(first, collect(2, spread=travelling), strict=True))
    assert all(same(a, b) for a, b in zip(first, collect(3), strict=True))
    assert not any(same(a, b) for a, b in zip(first, collect(1, seed=1), strict=True))


def test_failed_demonstrations_are_thrown_away_and_replaced():
    # Cut short, some attempts are not finished in time; the kept ones are successes, in the order of their seeds.
    kept = list(iterate_demonstrations([TASK], 4, robot=SPEC, purpose="demonstration", seed=0, num_steps=15))
    assert len(kept) == 4
    assert all(e.success for e in kept)
    seeds = [e.seed for e in kept]
    assert seeds == sorted(seeds)
    assert seeds != start_seeds("demonstration", TASK, 0, 0, 4)
    two = list(iterate_demonstrations(["draw", TASK], 4, robot=SPEC, purpose="demonstration", seed=0, num_steps=15))
    assert [e.seed for e in two if e.task == TASK] == seeds, "whatever else is demonstrated"
    with pytest.raises(VlawError, match="succeeded only 0 times"):
        list(iterate_demonstrations([TASK], 1, robot=SPEC, purpose="demonstration", seed=0, num_steps=2))


def test_the_broad_corpus_keeps_failures_with_true_labels():
    episodes = list(iterate_demonstrations([TASK], 24, robot=SPEC, purpose="co_training", seed=0, image_size=8))
    parts = {name: [e for e in episodes if e.extra["quality"] == name] for _, name, _ in MIXTURE}
    assert sum(len(part) for part in parts.values()) == 24
    assert abs(len(parts["clean"]) / 24 - 0.45) < 0.25
    assert all(e.success for e in parts["clean"][:5])
    assert parts["last_mistake"]
    assert not any(e.success for e in parts["last_mistake"])
    assert all((e.event == "success") == e.success for e in episodes)


def test_evaluation_layouts_are_never_demonstrated():
    with pytest.raises(VlawError, match="evaluation"):
        list(iterate_demonstrations([TASK], 1, robot=SPEC, purpose="evaluation", seed=0))


# --- Policies


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory):
    episodes = list(iterate_demonstrations([TASK], 2, robot=SPEC, purpose="demonstration", seed=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = FlowPolicy(
            InstructionTokenizer.from_instructions([e.instruction for e in episodes], length=8),
            Normalization.fit([e.states for e in episodes], [e.actions for e in episodes], chunk_size=4, absolute=(4,)),
            channels=(4, 4, 4), camera_features=8, text_features=8, context=16, head_width=16,
            head_blocks=1,
        )  # fmt: skip
    return policy.save(tmp_path_factory.mktemp("policy") / "checkpoint")


def test_rollouts_are_reproducible_and_depend_on_iteration(policy_dir):
    cfg = RolloutConfig(episodes_per_task=2, num_steps=6)
    first = list(
        chain.from_iterable(collect_rollouts(policy_dir, [TASK, "stack"], cfg, robot=SPEC, iteration=0, seed=0))
    )
    again = list(
        chain.from_iterable(collect_rollouts(policy_dir, [TASK, "stack"], cfg, robot=SPEC, iteration=0, seed=0))
    )
    assert [e.task for e in first] == [TASK, TASK, "stack", "stack"]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].images.shape == (7, 3, 64, 64, 3)
    assert first[0].success is False
    later = list(chain.from_iterable(collect_rollouts(policy_dir, [TASK], cfg, robot=SPEC, iteration=1, seed=0)))
    assert not {e.seed for e in first} & {e.seed for e in later}


def test_evaluation_uses_held_out_starts_and_keeps_the_last_frame(policy_dir):
    cfg = EvaluationConfig(episodes_per_task=3, num_steps=6)
    episodes = evaluate_policy(policy_dir, [TASK], cfg, robot=SPEC)
    assert [e.seed for e in episodes] == start_seeds("evaluation", TASK, 0, 0, 3)
    assert all(e.images.shape == (1, 3, 64, 64, 3) for e in episodes)
    assert all(len(e.states) == 7 for e in episodes)
    # The picture is that of the state judged: the layout replayed with the recorded actions ends in the same frame.
    world = TabletopWorld()
    world.reset([Start(TASK, e.seed) for e in episodes])
    moved = world.step(np.stack([e.actions for e in episodes]))
    assert np.array_equal(moved.images[:, -1], np.concatenate([e.images for e in episodes]))


# --- Contact sheet


def test_contact_sheet_shows_the_tasks_asked_for(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    assert main(["--contact-sheet", str(path), "--tasks", TASK, "stack", "--columns", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [TASK, "stack"]
    assert all("success" in line for line in lines)
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 3 * 64
        assert len(sheet.convert("RGB").getcolors(10**6)) > 50


def test_contact_sheet_of_an_unknown_task_says_what_to_do(tmp_path, capsys):
    assert main(["--contact-sheet", str(tmp_path / "sheet.png"), "--tasks", "juggle"]) == 1
    assert "remedy" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", TASKS)
def test_a_reset_leaves_nothing_of_the_episode_before(task):
    used, fresh = make_sim(task), make_sim(task)
    used.reset(1)
    model = used.model
    for values in (
        model.geom_size,
        model.geom_pos,
        model.geom_rgba,
        model.geom_friction,
        model.body_pos,
        model.dof_damping,
    ):
        values[:] += 0.01
    for sim in (used, fresh):
        sim.reset(2)
        sim.step(HOME)
    assert used.model.geom_size.tobytes() == fresh.model.geom_size.tobytes()
    assert used.data.qpos.tobytes() == fresh.data.qpos.tobytes()
    pictures = [RayRenderer(32).render(sim.model, sim.data) for sim in (used, fresh)]
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("task", TASKS)
def test_points_of_a_task_are_where_the_cameras_see_its_things(task):
    """What the picture shows at the two points changes with the layout as the objects do; the rest of the table
    stays."""
    sim, renderer = make_sim(task), RayRenderer(64)
    for seed in range(8):
        sim.reset(seed)
        places, picture = look_at(sim), renderer.render(sim.model, sim.data)
        assert places.shape == (3, 2, 2)
        for view in range(2):  # the wrist camera does not see everything
            assert np.all((places[view] > 0) & (places[view] < 1)), (task, seed, view)
        if task == "stack":
            for name, place in zip((sim.memory["top"], sim.memory["base"]), places[0], strict=True):
                x, y = (place * 64).astype(int)
                colour = np.array(COLOURS[name])
                seen = picture[0, y, x] / 255
                assert np.allclose(seen / seen.max(), colour / colour.max(), atol=0.1)
