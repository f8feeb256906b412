"""Nearness of each task by hand, and pairs of success and near-success of the simulated robot."""

from __future__ import annotations

import numpy as np
import pytest
from expert_play import play

from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.tabletop import near_success
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks import Quality
from vlaw_models.robots.tabletop.tasks.base import NEAREST_FAILURE
from vlaw_models.robots.tabletop.tasks.book import OPEN_ANGLE
from vlaw_models.robots.tabletop.tasks.draw import RADIUS, missing
from vlaw_models.robots.tabletop.tasks.scoop import COUNT
from vlaw_models.robots.tabletop.tasks.stack import HALF
from vlaw_models.robots.tabletop.world import make_sim
from vlaw_models.rollouts.near_success import iterate_near_success


@pytest.mark.parametrize("task", SPEC.tasks)
def test_an_episode_begins_far_and_an_expert_ends_at_success(task):
    sim = make_sim(task)
    sim.reset(0)
    assert sim.task.judged(sim).nearness == pytest.approx(0.0, abs=0.02)
    play(sim, 0, Quality())
    found = sim.task.judged(sim)
    assert (found.success, found.nearness) == (True, 1.0)


def test_a_block_half_way_is_half_near_and_one_in_its_place_but_held_is_a_failure():
    sim = make_sim("stack")
    sim.reset(0)
    place = sim.body(sim.memory["base"]) + np.array([0.0, 0.0, 2 * HALF])
    half = (sim.body(sim.memory["top"]) + place) / 2
    sim.data.body(sim.memory["top"]).xpos[:] = half
    assert sim.task.judged(sim).nearness == pytest.approx(0.5, abs=1e-3)
    sim.data.body(sim.memory["top"]).xpos[:] = place + np.array([0.0, 0.0, 0.013])
    found = sim.task.judged(sim)
    assert not found.success
    assert 0.9 < found.nearness <= NEAREST_FAILURE


def test_a_cover_and_marks_are_near_by_what_is_done_of_them():
    sim = make_sim("book")
    sim.reset(0)
    sim.data.joint(f"{sim.memory['book']}_hinge").qpos[0] = OPEN_ANGLE * 0.8
    assert sim.task.judged(sim).nearness == pytest.approx(0.8, abs=1e-3)
    sim = make_sim("erase")
    sim.reset(0)
    pieces = sim.memory["pieces"]
    sim.memory["left"] = sim.memory["left"][:1]
    assert sim.task.judged(sim).nearness == pytest.approx(1 - 1 / pieces, abs=1e-4)


def test_snacks_are_counted_as_far_as_they_are_needed():
    sim = make_sim("scoop")
    sim.reset(0)
    first = sim.model.body("snack_0").id
    bowl = np.array([*sim.memory["bowl"], 0.02])
    sim.data.xpos[first] = bowl
    one = sim.task.distance(sim)
    assert 0 < one < sim.far, "one of the two is there"
    sim.data.xpos[first + 1] = bowl
    assert sim.task.distance(sim) == 0
    for index in range(2, COUNT):
        sim.data.xpos[first + index] = bowl + np.array([0.2, 0.0, 0.0])
    assert sim.task.distance(sim) > 0.1, "two inside and two spilled: a third is needed"


def test_what_a_circle_lacks():
    angles = np.linspace(0, 2 * np.pi, 200)
    circle = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert missing([circle.tolist()], [0.0, 0.0]) == 0
    assert missing([], [0.0, 0.0]) == 1
    lacks = [missing([circle[:count].tolist()], [0.0, 0.0]) for count in (60, 100, 140, 180)]
    assert lacks == sorted(lacks, reverse=True)
    assert lacks[-1] < 0.2 < 0.5 < lacks[0]
    cut = [circle[:80].tolist(), circle[100:].tolist()]
    assert 0 < missing(cut, [0.0, 0.0]) < 1
    assert missing([(circle + 0.05).tolist()], [0.0, 0.0]) > 0.3, "outside the region"


def test_a_pair_differs_by_the_least_that_fails():
    won, lost = iterate_near_success(["draw"], 1, robot=SPEC, seed=0, image_size=8)
    assert (won.success, won.nearness, won.extra["quality"]) == (True, 1.0, "success")
    assert (lost.success, lost.extra["quality"]) == (False, "near_success")
    assert 0 <= lost.nearness <= NEAREST_FAILURE
    assert (won.seed, won.instruction) == (lost.seed, lost.instruction)
    assert np.array_equal(won.images[0], lost.images[0])
    assert max(lost.extra["rewards"][-1:]) == 0
    apart = np.abs(won.actions[:, :3] - lost.actions[:, :3]).max()
    assert 0 < apart < 2.5 * lost.extra["perturbation_mm"] / 1000 + 0.02

    sim, along = make_sim("draw"), np.array([1.0, 0.0, 0.0])
    size = near_success.least(sim, won.seed, "last", along, 28)
    assert size is not None
    assert not near_success.succeeds(sim, won.seed, 28, ("last", size * along))
    assert near_success.succeeds(sim, won.seed, 28, ("last", (size - near_success.TOLERANCE) * along))


@pytest.mark.parametrize(
    ("robot", "what"), [("metaworld", "makes no near-success data"), ("droid", "needs a simulator")]
)
def test_a_robot_without_pairs_says_so(robot, what):
    spec = find_robot(robot)
    with pytest.raises(VlawError, match=what) as caught:
        next(iterate_near_success(spec.tasks[:1], 1, robot=spec, seed=0))
    assert "near_success = 'recorded:NAME'" in caught.value.remedy


def test_evaluation_layouts_are_not_demonstrated():
    with pytest.raises(VlawError, match="must not be demonstrated"):
        next(iterate_near_success(["draw"], 1, robot=SPEC, seed=0, purpose="validation"))
