"""Frames that evaluations did not keep: drawn again from the recorded actions, to the pixel, or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from asking import at
from factories import commit

from vlaw_assets.lake import Lake
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop.world import TabletopWorld
from vlaw_models.rollouts.redraw import redraw
from vlaw_models.rollouts.rollout import Start, rollout

ROBOT = find_robot("tabletop")
STEPS = 4


class Wandering:
    """A policy that goes somewhere, by chance."""

    execute_steps = 2

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        moves = np.random.default_rng(generator.initial_seed()).uniform(-0.03, 0.03, (len(observation), 2, 5))
        return (observation.state[:, None] + moves).astype(np.float32)


@pytest.fixture(scope="module")
def whole():
    """Two trials with every frame."""
    world = TabletopWorld(32)
    return rollout(Wandering(), world, [Start("stack", 1), Start("draw", 2)], num_steps=STEPS, seed=3)


def test_frames_are_drawn_again_to_the_pixel(whole):
    kept = [replace(episode, images=episode.images[-1:]) for episode in whole]
    for episode, images in zip(whole, redraw(kept, ROBOT), strict=True):
        np.testing.assert_array_equal(images, episode.images)


def test_what_the_simulator_does_not_give_back_is_not_shown(whole):
    moved = replace(whole[0], images=whole[0].images[-1:], states=whole[0].states + np.float32(1e-6))
    assert redraw([moved], ROBOT) == [None]
    with pytest.raises(VlawError, match="needs a simulator"):
        redraw(whole, replace(ROBOT, simulator=""))


def test_a_page_says_which_frames_were_drawn_again(whole, tmp_path, monkeypatch):
    lake, ids = Lake.open(tmp_path / "lake"), []
    kept = [replace(episode, images=episode.images[-1:]) for episode in whole]
    kept.append(replace(kept[0], states=kept[0].states + np.float32(1e-6)))
    commit(
        lake,
        "policy_evaluation",
        recipe={"robot": {"name": "tabletop"}},
        write=lambda draft: ids.extend(draft.write_episodes(kept, purpose="evaluation", world="tabletop")),
    )
    vlaw = at(monkeypatch, tmp_path, {"VLAW_LAKE": str(lake.paths.root)})

    def said(*options: str) -> list[tuple[int, str]]:
        vlaw("watch", *ids, "--out", "page.html", *options, code=0)
        data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text())[1])
        return [(episode["frames"], episode["picture"]) for episode in data["episodes"]]

    again = "Frames drawn again from the recorded actions: the simulator came to the recorded states."
    other = "Only the last frame was kept: the simulator here does not come to the recorded states."
    assert said() == [(STEPS + 1, again), (STEPS + 1, again), (1, other)]
    assert said("--no-redraw") == [(1, "Only the last frame was kept.")] * 3
